#!/usr/bin/env bash
# An adapter from outside: builds this project and tests/third_party_adapter as wheels, installs both into a fresh
# environment DIR, and runs the adapter's own tests and types there, far from this checkout.
#
#   .ci/third-party.sh DIR
set -euo pipefail
dir=${1:?usage: .ci/third-party.sh DIR}
cd "$(dirname "$0")/.."
[ -x "$dir/bin/python" ] || python3 -m venv "$dir"
dir=$(cd "$dir" && pwd)
"$dir/bin/pip" install -q uv
rm -rf "$dir/wheels" "$dir/adapter"
"$dir/bin/uv" build -q --wheel --out-dir "$dir/wheels" .
"$dir/bin/uv" build -q --wheel --out-dir "$dir/wheels" tests/third_party_adapter
project=("$dir"/wheels/pytest_vastgpu-*.whl)
adapter=("$dir"/wheels/vastgpu_adapter_search-*.whl)
"$dir/bin/uv" pip install -q --python "$dir/bin/python" --reinstall-package pytest-vastgpu \
    --reinstall-package vastgpu-adapter-search "${project[0]}[local]" "${adapter[0]}" mypy
mkdir -p "$dir/adapter/src"
cp -r tests/third_party_adapter/tests tests/third_party_adapter/pyproject.toml "$dir/adapter"
cp -r tests/third_party_adapter/vastgpu_adapter_search "$dir/adapter/src" # for mypy; pytest finds the wheel's
cd "$dir/adapter" # this checkout is out of reach
"$dir/bin/python" -m pytest -q
"$dir/bin/python" -m mypy --strict tests src
