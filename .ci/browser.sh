#!/usr/bin/env bash
# What looks at the report's page as a person does: Playwright with Debian's Chromium, and axe-core, in the environment
# DIR. Idempotent. As root it installs Chromium if that is missing.
#
#   .ci/browser.sh DIR
set -euo pipefail
dir=${1:?usage: .ci/browser.sh DIR}

if ! command -v chromium >/dev/null && ! command -v chromium-browser >/dev/null; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq chromium >/dev/null
    else
        echo "Chromium is not installed: apt-get install chromium" >&2
        exit 1
    fi
fi

[ -x "$dir/bin/python" ] || python3 -m venv "$dir"
dir=$(cd "$dir" && pwd)
# The wheel of axe-playwright-python 0.1.8 holds axe-core 4.12.1.
"$dir/bin/pip" install -q --disable-pip-version-check 'playwright==1.65.2' 'axe-playwright-python==0.1.8'
echo "Chromium can be driven from $dir. To test with it:  VASTGPU_BROWSER=$dir pytest tests/browser"
