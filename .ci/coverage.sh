#!/usr/bin/env bash
# What the quick suite covers, by folder: coverage.sh [PYTHON]
set -euo pipefail
cd "$(dirname "$0")/.."
python=${1:-.venv/bin/python}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export COVERAGE_FILE=$work/data
"$python" -m coverage run -m pytest -q -n 4
"$python" -m coverage combine -q
"$python" -m coverage json -q -o "$work/coverage.json"
"$python" .ci/coverage_by_folder.py "$work/coverage.json"
