#!/usr/bin/env bash
# The documentation as a site, DIR/html: README.md, docs/, the examples and the docstrings. Any warning and any broken
# link fails. Its environment is DIR/env. Idempotent.
#
#   .ci/site.sh DIR
set -euo pipefail
dir=${1:?usage: .ci/site.sh DIR}
mkdir -p "$dir"
dir=$(cd "$dir" && pwd)
cd "$(dirname "$0")/.."

[ -x "$dir/env/bin/python" ] || "${PYTHON:-python3}" -m venv "$dir/env"
"$dir/env/bin/pip" install -q --disable-pip-version-check uv
"$dir/env/bin/uv" pip install -q --python "$dir/env/bin/python" -e '.[docs]'

rm -rf "$dir/html" "$dir/doctrees" # with what is there already, it would not warn again
"$dir/env/bin/sphinx-build" -q -j auto -W --keep-going -c docs/site -d "$dir/doctrees" . "$dir/html"
"$dir/env/bin/python" docs/site/check_links.py "$dir/html"
echo "the site is in $dir/html: open $dir/html/index.html"
