#!/usr/bin/env bash
# Installs what the tests need, then checks style, types, import layers and behaviour. Non-zero when anything fails.
#   ./all_tests.sh            the default suite
#   ./all_tests.sh -m slow    arguments go to pytest
set -euo pipefail
cd "$(dirname "$0")"

python=${PYTHON:-python3}
if [ -z "${VIRTUAL_ENV:-}" ]; then
    [ -x .venv/bin/python ] || "$python" -m venv .venv
    # shellcheck disable=SC1091
    . .venv/bin/activate
fi

echo "== install"
python -m pip install --quiet --disable-pip-version-check --editable '.[dev,atari,hub,mujoco,onnx,parquet,video]'

failed=()
step() {
    local name=$1
    shift
    echo "== $name"
    "$@" || failed+=("$name")
}

step "ruff check" ruff check .
step "ruff format" ruff format --check .
step "mypy" mypy
step "import layers" lint-imports
# Many tests start, kill and await real processes. One that fails gets a second chance on a machine that is now idle,
# and is named: a test that needs it is a defect to mend, not a reason to distrust the rest.
tests() {
    python -m pytest "$@" && return
    echo "== second chance for what failed"
    python -m pytest --last-failed --last-failed-no-failures none -rA "$@"
}

if [ $# -gt 0 ]; then
    step "pytest" tests "$@"
else
    step "pytest" tests -m "not slow and not gpu"
fi

if [ ${#failed[@]} -gt 0 ]; then
    echo "FAILED: ${failed[*]}"
    exit 1
fi
echo "all checks passed"
