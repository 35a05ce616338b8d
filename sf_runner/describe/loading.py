"""Finding the run description that `--run` names: a module or a path to a .py file."""

from __future__ import annotations

import importlib
import importlib.util
import os
import pkgutil
import sys
import sysconfig
import traceback
from pathlib import Path
from types import ModuleType

from sf_runner.basics.errors import DescriptionError, UsageError, did_you_mean, one_line
from sf_runner.describe.description import RunDescription

VARIABLE = "RUN_DESCRIPTION"
_IMPORT_MACHINERY = ("<frozen importlib", str(Path(importlib.__file__).parent))
_INSTALLED = tuple(f"{sysconfig.get_path(name)}{os.sep}" for name in ("stdlib", "platstdlib", "purelib", "platlib"))


def load_description(run: str, *, cwd: Path | None = None) -> RunDescription:
    """The `RUN_DESCRIPTION` of the module or file that `--run=<run>` names.

    Modules are found as `python -m` finds them: from the current directory (`cwd`) first. A .py file that
    lies in a package is imported as part of it, so that its relative imports work; any other file as if it
    were run, with its own directory on the path.

    Raises:
        UsageError: no such module or file; the message names the nearest one.
        DescriptionError: the module fails while it is imported, or holds no run description.
    """
    cwd = Path.cwd() if cwd is None else cwd
    _prepend_to_path(cwd)
    if not run:
        raise UsageError("--run is empty; give a module such as myproject.my_study or a path to a .py file")
    load = _load_file if run.endswith(".py") or "/" in run else _load_module
    return _description_in(load(run, cwd), run)


def _load_module(name: str, cwd: Path) -> ModuleType:
    if not all(part.isidentifier() for part in name.split(".")):
        raise UsageError(f"--run={name} is neither a module's name nor a path to a .py file")
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        missing = error.name or ""
        if (name == missing or name.startswith(missing + ".")) and _user_frame(error) is None:
            raise UsageError(_no_module(name, missing, cwd)) from None
        raise _failed(name, error) from error
    except (Exception, SystemExit) as error:
        raise _failed(name, error) from error


def _load_file(run: str, cwd: Path) -> ModuleType:
    path = (cwd / Path(run).expanduser()).resolve()
    if not path.is_file():
        raise UsageError(_no_file(run, path, cwd))
    package_root, dotted = _package_of(path)
    _prepend_to_path(package_root)
    try:
        if "." in dotted:
            return importlib.import_module(dotted)
        spec = importlib.util.spec_from_file_location(f"sf_run_{path.stem}", path)
        if spec is None or spec.loader is None:
            raise UsageError(f"--run={run}: only .py files can be run descriptions")
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module
        spec.loader.exec_module(module)
        return module
    except UsageError:
        raise
    except (Exception, SystemExit) as error:
        raise _failed(run, error) from error


def _description_in(module: ModuleType, run: str) -> RunDescription:
    names = vars(module)
    if VARIABLE not in names:
        held = [name for name, value in names.items() if isinstance(value, RunDescription)]
        if held:
            hint = f" It holds '{held[0]}': call that {VARIABLE}."
        else:
            hint = f" Add {VARIABLE} = RunDescription('name', experiments=[...])."
        raise DescriptionError(f"--run={run}: {_where(module)} defines no {VARIABLE}.{hint}")
    found = names[VARIABLE]
    if isinstance(found, RunDescription):
        return found
    kind = type(found)
    if kind.__module__.startswith("sample_factory"):
        raise DescriptionError(
            f"--run={run}: {VARIABLE} is one of Sample Factory's; in {_where(module)} change "
            f"'from {kind.__module__} import' to 'from sf_runner import'"
        )
    raise DescriptionError(f"--run={run}: {VARIABLE} in {_where(module)} must be a RunDescription, not {kind.__name__}")


def _failed(run: str, error: BaseException) -> DescriptionError:
    """The user's own line where the import failed, and the error, on one line."""
    frame = _user_frame(error)
    if isinstance(error, SyntaxError) and error.filename:
        place, line = f"{_short(error.filename)}:{error.lineno}", error.text
        what = f"SyntaxError: {error.msg}"
    else:
        place = f"{_short(frame.filename)}:{frame.lineno}" if frame else ""
        line = frame.line if frame else None
        what = str(error) if isinstance(error, DescriptionError) else f"{type(error).__name__}: {error}"
    quoted = f" [{one_line(line)}]" if line and line.strip() else ""
    return DescriptionError(one_line(f"--run={run}: {place + ': ' if place else ''}{what}{quoted}"))


def _user_frame(error: BaseException) -> traceback.FrameSummary | None:
    """The innermost frame of the user's own code: libraries wrap what a description calls (wandb: sys.exit)."""
    package = f"{Path(__file__).parents[1]}{os.sep}"
    frames = [
        frame
        for frame in reversed(traceback.extract_tb(error.__traceback__))
        if not frame.filename.startswith((package, *_IMPORT_MACHINERY))
    ]
    own = [frame for frame in frames if not frame.filename.startswith(_INSTALLED)]
    return next(iter(own or frames), None)


def _no_module(name: str, missing: str, cwd: Path) -> str:
    parent, _, last = missing.rpartition(".")
    message = f"--run={name}: there is no module '{missing}' (searched from {cwd})."
    if parent:
        package = sys.modules.get(parent)
        siblings = [found.name for found in pkgutil.iter_modules(getattr(package, "__path__", None) or [])]
        hint = did_you_mean(last, siblings)
    else:
        siblings = [found.name for found in pkgutil.iter_modules([str(cwd)])]
        hint = did_you_mean(last, siblings) or " Start from the directory that holds it, or give its path."
    return message + hint


def _no_file(run: str, path: Path, cwd: Path) -> str:
    message = f"--run={run}: there is no such file."
    if path.with_name(path.name + ".py").is_file():
        return f"{message} Did you mean '{run}.py'?"
    if "/" not in run and (cwd / (run.removesuffix(".py").replace(".", "/") + ".py")).is_file():
        return f"{message} Did you mean the module '{run.removesuffix('.py')}'?"
    folder = path.parent
    if not folder.is_dir():
        return f"{message} There is no directory {folder}."
    return message + did_you_mean(path.name, sorted(found.name for found in folder.glob("*.py")))


def _package_of(path: Path) -> tuple[Path, str]:
    """The directory to import from and the dotted name of a file, through the packages it lies in."""
    parts = [path.stem]
    folder = path.parent
    while (folder / "__init__.py").is_file() and folder.name.isidentifier() and folder.parent != folder:
        parts.insert(0, folder.name)
        folder = folder.parent
    return folder, ".".join(parts)


def _prepend_to_path(folder: Path) -> None:
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))


def _where(module: ModuleType) -> str:
    return _short(getattr(module, "__file__", None) or module.__name__)


def _short(filename: str) -> str:
    try:
        return str(Path(filename).relative_to(Path.cwd()))
    except ValueError:
        return filename
