#!/usr/bin/env bash
# An environment with this package and other people's pytest plugins that change the process of tests: $1 is its place.
set -euo pipefail
cd "$(dirname "$0")/.."
python3 -m venv "$1"
# pytest-forked 1.6 cannot hand over the reports of pytest 9.2.
"$1/bin/pip" install -q -e '.[local]' 'pytest<9.2' coverage freezegun pyfakefs pytest-forked pytest-httpx pytest-socket pytest-xdist respx \
    flaky pytest-flakefinder pytest-order pytest-randomly pytest-repeat pytest-rerunfailures pytest-retry
