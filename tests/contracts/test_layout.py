"""Sizes, imports and paths of the product's files."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("sf_runner", "sf_algo", "run_descriptions")
MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 60

PRODUCT = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))
TEXTS = [
    path
    for pattern in ("*.py", "*.c", "*.md", "*.toml", "*.sh", "*.txt", "*.yml", "*.yaml", "*.cfg")
    for path in sorted(ROOT.rglob(pattern))
    if not {".venv", "venv", ".git", "build", "train_dir"} & set(path.relative_to(ROOT).parts)
]


def short(path: Path) -> str:
    return str(path.relative_to(ROOT))


def functions(path: Path) -> list[tuple[str, int]]:
    """Name and length in lines (decorators and docstring included) of every function, nested ones too."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
            found.append((node.name, (node.end_lineno or first) - first + 1))
    return found


def test_there_is_something_to_look_at() -> None:
    assert {path.parts[len(ROOT.parts)] for path in PRODUCT} == set(PACKAGES)
    assert len(PRODUCT) > 50
    assert len(TESTS) > 20


def test_files_are_short() -> None:
    long = {
        short(path): count
        for path in PRODUCT + TESTS
        if (count := len(path.read_bytes().splitlines())) > MAX_FILE_LINES
    }
    assert long == {}


def test_functions_are_short() -> None:
    long = [
        f"{short(path)}: {name} has {count} lines"
        for path in PRODUCT
        for name, count in functions(path)
        if count > MAX_FUNCTION_LINES
    ]
    assert long == []


def test_nothing_names_a_machine_or_a_home() -> None:
    # Put together here, so that this file does not find itself.
    pattern = re.compile(
        "|".join([r"(?<![\w.])/wor" + r"k/", r"/home/(?!me\b|you\b|user\b)\w", r"/Users/\w", r"/ro" + r"ot/"])
    )
    found = [
        f"{short(path)}: {match[0]}"
        for path in TEXTS
        for match in pattern.finditer(path.read_text(encoding="utf-8", errors="replace"))
    ]
    assert found == []


def test_every_module_says_what_it_is_for() -> None:
    silent = [
        short(path)
        for path in PRODUCT
        if path.stat().st_size and not ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    ]
    assert silent == []


HEAVY = ("torch", "numpy", "gymnasium", "vizdoom", "sf_algo", "tensorboard", "wandb", "cv2", "pandas", "matplotlib")

IMPORT_EACH = """
import importlib, sys
for name in sys.argv[2:]:
    importlib.import_module(name)
    heavy = [module for module in sys.argv[1].split(",") if module in sys.modules]
    if heavy:
        print(name, "imports", *heavy)
        break
"""


def modules(package: str) -> list[str]:
    """Every module of a package that may be imported without being run."""
    names = []
    for path in sorted((ROOT / package).rglob("*.py")):
        parts = list(path.relative_to(ROOT).with_suffix("").parts)
        if parts[-1] == "__init__":
            parts.pop()
        if parts[-1] != "__main__":
            names.append(".".join(parts))
    return names


def imported_by(names: list[str], heavy: tuple[str, ...]) -> str:
    result = subprocess.run(
        [sys.executable, "-c", IMPORT_EACH, ",".join(heavy), *names],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


def test_the_runner_is_light() -> None:
    # Reports compute and tensorboard is started: both only when asked for, in commands of their own.
    light = [name for name in modules("sf_runner") if not name.startswith(("sf_runner.results", "sf_runner.board"))]
    assert imported_by(light, HEAVY) == ""


@pytest.mark.parametrize("module", ["sf_runner.run", "sf_runner.linux.guardian", "sf_runner.progress", "sf_runner"])
def test_what_stays_in_memory_for_days_or_is_imported_by_jobs_is_tiny(module: str) -> None:
    heavy = (
        *HEAVY,
        "rich",
        "pynvml",
        "hashlib",
        "asyncio",
        "subprocess",
        "filelock",
        "sf_runner.engine.loop",
        "sf_runner.describe.plan",
    )
    assert imported_by([module], heavy) == ""
