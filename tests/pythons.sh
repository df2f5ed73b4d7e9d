#!/usr/bin/env bash
# Runs the tests once with each Python that is found, each in an environment of its own below .venvs/: tests/pythons.sh 3.10 3.13
# An interpreter is looked for on the PATH and among pyenv's. Ends with status 1 if one of them fails, or if there is none.
set -uo pipefail
cd "$(dirname "$0")/.."
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
failed=() passed=() missing=()

interpreter() {
  command -v "python$1" >/dev/null && "python$1" -c '' 2>/dev/null && { command -v "python$1"; return; }
  command -v pyenv >/dev/null && ls -d "$(pyenv root)/versions/$1".*/bin/python 2>/dev/null | sort -V | tail -1
}

for version in "$@"; do
  python=$(interpreter "$version")
  [ -n "$python" ] || { missing+=("$version"); continue; }
  venv=".venvs/$version"
  # Without the pins, which are of one Python: the newest versions that install are what a newcomer gets.
  if { [ -x "$venv/bin/pytest" ] || { "$python" -m venv "$venv" && "$venv/bin/pip" install --quiet --upgrade pip; }; } &&
    "$venv/bin/pip" install --quiet -e '.[dev]' &&
    "$venv/bin/python" -c 'import sys, torch; print(f"Python {sys.version.split()[0]}, torch {torch.__version__}")' &&
    "$venv/bin/pytest" -m 'not slow and not gpu and not learns' -q ${PYTEST_OPTIONS:-}; then
    passed+=("$version")
  else
    failed+=("$version")
  fi
done
echo "passed: ${passed[*]:-none}; failed: ${failed[*]:-none}; no interpreter: ${missing[*]:-none}"
[ ${#failed[@]} -eq 0 ] && [ ${#passed[@]} -gt 0 ]
