#!/usr/bin/env bash
# Runs the tests beside other people's plugins: $1 is the directory of an environment with them, which is made if it is
# missing; what follows is for pytest. PYTHON is the interpreter that has this project's own test tools.
set -euo pipefail
cd "$(dirname "$0")/.."
place=$1
shift
if [ ! -x "$place/bin/pytest" ]; then
    python3 -m venv "$place"
    # pytest-forked 1.7 cannot hand over the reports of pytest 9.2.
    "$place/bin/pip" install -q -e '.[local]' 'pytest<9.2' \
        allure-pytest anyio coverage flaky freezegun pyfakefs pytest-asyncio pytest-bdd pytest-benchmark pytest-cov \
        pytest-env pytest-flakefinder pytest-forked pytest-github-actions-annotate-failures pytest-html pytest-httpx \
        pytest-instafail pytest-metadata pytest-mock pytest-order pytest-randomly pytest-repeat pytest-rerunfailures \
        pytest-retry pytest-socket pytest-split pytest-subtests pytest-sugar pytest-timeout pytest-xdist respx time-machine websockets
fi
VASTGPU_NEIGHBOURS=$(realpath "$place") exec "${PYTHON:-python3}" -m pytest \
    -m "slow or not slow" tests/behaviour/neighbours "$@"
