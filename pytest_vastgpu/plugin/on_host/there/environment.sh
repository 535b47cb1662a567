# Finds or makes the environment of the tests on a host. POSIX shell: an image may have next to nothing.
# environment.py exports what it needs: HOW, OPTIONS, PYTHONS, WANTS, BRINGS, KEEPS.
set -ef
work=$PWD
there=$work/setup
uv='' override='' seed=''

say() { printf '%s\n' "$*"; }
fail() { say "error: $*"; exit 1; }

# Caches and whatever is installed lie beside the environment, and go with the instance.
export UV_CACHE_DIR="${UV_CACHE_DIR:-$work/cache/uv}" PIP_CACHE_DIR="${PIP_CACHE_DIR:-$work/cache/pip}"
export UV_PYTHON_INSTALL_DIR="${UV_PYTHON_INSTALL_DIR:-$work/tools/python}" UV_NO_PROGRESS=1
export UV_PROJECT_ENVIRONMENT="$work/env" PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
unset UV_SYSTEM_PYTHON UV_PYTHON PYTHONHOME VIRTUAL_ENV CONDA_PREFIX PIP_TARGET PIP_USER PIP_PREFIX

# The image's Python: the first one that the tests can run on. What its shims lead to depends on the directory, so the
# executable itself is taken.
find_python() {
    python='' other='' other_python=''
    for each in python3 python $(for version in $PYTHONS; do echo "python$version"; done); do
        path=$(command -v "$each") || continue
        said=$("$path" -c 'import sys; print("%d.%d %s" % (sys.version_info[:2] + (sys.executable,)))' 2> /dev/null) ||
            continue
        minor=${said%% *}
        case " $PYTHONS " in
            *" $minor "*) python=${said#* }; return ;;
        esac
        [ -n "$other" ] || other=$minor other_python=${said#* }
    done
    minor=''
}

runs() { [ -x "$1" ] && "$1" --version > /dev/null 2>&1; }

need_uv() {
    [ -z "$uv" ] || return 0
    for each in "$(command -v uv || :)" "$work/tools/bin/uv" "$HOME/.local/bin/uv" "$HOME/.cargo/bin/uv"; do
        if runs "$each"; then uv=$each; return 0; fi
    done
    with=${python:-$other_python}
    if [ -n "$with" ] && "$with" -m pip --version > /dev/null 2>&1; then
        say "uv is missing: pip installs it"
        if "$with" -m pip install -q --target "$work/tools" uv && runs "$work/tools/bin/uv"; then
            uv=$work/tools/bin/uv
            return 0
        fi
    fi
    mkdir -p "$work/tools"
    if command -v curl > /dev/null; then
        say "uv is missing: its installer is fetched with curl"
        curl -LsSf -o "$work/tools/install.sh" https://astral.sh/uv/install.sh || fail "uv's installer could not be fetched"
    elif command -v wget > /dev/null; then
        say "uv is missing: its installer is fetched with wget"
        wget -q -O "$work/tools/install.sh" https://astral.sh/uv/install.sh || fail "uv's installer could not be fetched"
    else
        fail "uv is missing, and the image has neither pip nor curl nor wget to install it: name an image that has one of" \
            "them (--vast-image)"
    fi
    UV_UNMANAGED_INSTALL="$work/tools/bin" sh "$work/tools/install.sh" || fail "uv's installer failed"
    runs "$work/tools/bin/uv" || fail "uv does not run on this image"
    uv=$work/tools/bin/uv
}

# A new environment over the image's Python, so that nothing is left of an earlier one.
make_environment() {
    rm -rf "$work/env" "$work/kept.args" "$work/kept.txt"
    : > "$work/kept.args"
    : > "$work/kept.txt"
    if [ -z "$python" ]; then
        if [ -n "$other" ]; then
            say "the image has Python $other, and the tests need $WANTS: uv brings Python $BRINGS, and what the image has" \
                "installed for its own is not used"
        else
            say "the image has no Python: uv brings Python $BRINGS"
        fi
        need_uv
        if [ "$HOW" = command ]; then seed=--seed; fi # the command may call pip
        "$uv" venv -q $seed --python "$BRINGS" "$work/env"
    else
        if ! "$python" -m venv --without-pip --system-site-packages "$work/env" > /dev/null 2>&1; then
            rm -rf "$work/env"
            need_uv
            "$uv" venv -q --system-site-packages --python "$python" "$work/env"
        fi
        "$python" "$there/image.py" "$work" "$HOW" $KEEPS
    fi
    python=$work/env/bin/python
    export VIRTUAL_ENV="$work/env" PATH="$work/env/bin:$work/tools/bin:$PATH"
}

find_python
if [ "$HOW" != image ] || [ -z "$python" ]; then make_environment; fi
case $HOW in
    command)
        (cd project && sh "$work/command.sh")
        ;;
    sync)
        need_uv
        (cd project && "$uv" sync --frozen $OPTIONS --python "$python" $(cat "$work/kept.args"))
        ;;
    install)
        need_uv
        if [ -s kept.txt ]; then override=$work/kept.txt; fi
        (cd project && "$uv" pip install --python "$python" ${override:+--override "$override"} $OPTIONS)
        ;;
esac
"$python" "$there/about.py"
