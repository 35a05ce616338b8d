"""Trained policies on the Hugging Face hub, through its own library (the extra `hub`)."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sf_algo.config.store import CONFIG_FILE_NAME
from sf_algo.errors import CheckpointError, MissingDependencyError, StorageError
from sf_algo.gallery.card import PICTURE, Card
from sf_algo.gallery.shelf import check_name, own_folder

_FILES = ["card.json", CONFIG_FILE_NAME, "checkpoint_p0/*.pth", PICTURE]


def publish(folder: Path, repository: str, *, private: bool) -> str:
    """Uploads the policy in `folder` to `OWNER/NAME`, which is made where it does not exist. Returns its address.

    Raises:
        MissingDependencyError: the library is not installed.
        CheckpointError: the folder is no sound policy, or the hub refuses.
    """
    hub = _library()
    card = Card.load(folder)
    card.check(folder)
    api = hub.HfApi()
    with _telling(f"publish {card.name} as {repository}"):
        api.create_repo(repository, private=private, exist_ok=True)
        api.upload_folder(
            repo_id=repository, folder_path=folder, allow_patterns=_FILES, commit_message=f"Policy {card.name}"
        )
        api.upload_file(
            repo_id=repository,
            path_or_fileobj=readme(card).encode(),
            path_in_repo="README.md",
            commit_message="What it is",
        )
    return f"{api.endpoint}/{repository}"


def fetch(repository: str, *, revision: str | None, name: str | None, trust: bool) -> Path:
    """Downloads `OWNER/NAME` into the user's own folder of policies. Returns its folder there.

    trust: also take one that imports code by name, which `--env=module:maker` and the like do.

    Raises:
        MissingDependencyError: the library is not installed.
        CheckpointError: there is no such repository, it holds no sound policy, or one that imports code.
        StorageError: the user's own folder cannot be written.
    """
    try:
        return _fetch(repository, revision=revision, name=name, trust=trust)
    except OSError as error:
        raise StorageError(f"cannot write {own_folder()}: {error.strerror or error}") from error


def _fetch(repository: str, *, revision: str | None, name: str | None, trust: bool) -> Path:
    hub = _library()
    name = name or repository.rsplit("/", 1)[-1]
    check_name(name)
    target = own_folder() / name
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".new_", dir=target.parent) as made:
        folder = Path(made) / name
        with _telling(f"fetch {repository}"):
            hub.snapshot_download(repository, revision=revision, local_dir=folder, allow_patterns=_FILES)
        shutil.rmtree(folder / ".cache", ignore_errors=True)
        Card.load(folder).check(folder)
        imports = imported_names(folder / CONFIG_FILE_NAME)
        if imports and not trust:
            raise CheckpointError(
                f"{repository} imports code by name ({', '.join(imports)}); look at it, install what it needs, and add "
                "--trust"
            )
        shutil.rmtree(target, ignore_errors=True)
        folder.replace(target)
    return target


def imported_names(config: Path) -> list[str]:
    """What a stored configuration would import: values of the form package.module:name. Raises CheckpointError."""
    try:
        pending: list[Any] = [json.loads(config.read_text(encoding="utf-8"))]
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{config} is not the configuration of a trained policy") from error
    found = []
    while pending:
        value = pending.pop()
        if isinstance(value, dict):
            pending += value.values()
        elif isinstance(value, list):
            pending += value
        elif isinstance(value, str) and ":" in value:
            found.append(value)
    return sorted(set(found))


def readme(card: Card) -> str:
    """The page of the policy on the hub."""
    head = "---\nlibrary_name: sf-runner\npipeline_tag: reinforcement-learning\ntags:\n- reinforcement-learning\n---\n"
    command = "python -m sf_algo.trained_policies"
    play = f"{command} fetch OWNER/{card.name}\n{command} play {card.name}"
    return f"{head}\n# {card.name}\n\n![an episode]({PICTURE})\n\n```\n{card.text()}\n```\n\n```sh\n{play}\n```\n"


def _library() -> Any:
    try:
        import huggingface_hub

        _ = huggingface_hub.HfApi  # imported when first asked for, and all that it needs with it
    except ImportError as error:
        raise MissingDependencyError(
            f"the hub needs the package {error.name or 'huggingface-hub'}: pip install 'sf-runner[hub]'"
        ) from error
    return huggingface_hub


@contextmanager
def _telling(what: str) -> Iterator[None]:
    """Around calls of the hub's library: what goes wrong there becomes an error of one line."""
    try:
        yield
    except Exception as error:  # it raises many kinds: its own, those of its network library, OSError
        lines = [line for line in str(error).splitlines() if line.strip()]
        reason = lines[0] if lines else type(error).__name__
        remedy = "check the name and HF_ENDPOINT, or log in with `hf auth login`"
        raise CheckpointError(f"cannot {what}: {reason.rstrip('. ')}; {remedy}") from error
