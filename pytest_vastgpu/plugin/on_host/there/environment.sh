# Finds or makes the environment of the tests on a host. POSIX shell: an image may have next to nothing.
# environment.py exports what it needs: HOW, OPTIONS, PYTHONS, WANTS, BRINGS, KEEPS, BASE.
set -ef
work=$PWD
there=$work/setup
uv='' override='' seed='' image=''

# Caches and whatever is installed lie beside the environment, and go with the instance.
export UV_CACHE_DIR="${UV_CACHE_DIR:-$work/cache/uv}" PIP_CACHE_DIR="${PIP_CACHE_DIR:-$work/cache/pip}"
export UV_PYTHON_INSTALL_DIR="${UV_PYTHON_INSTALL_DIR:-$work/tools/python}" UV_NO_PROGRESS=1
export UV_PROJECT_ENVIRONMENT="$work/env" PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
unset UV_SYSTEM_PYTHON UV_PYTHON PYTHONHOME VIRTUAL_ENV CONDA_PREFIX PIP_TARGET PIP_USER PIP_PREFIX

# On the local market, where BASE stands for the image's Python, virtual environments of this machine are no part of the
# image.
without_environments() {
    left=''
    IFS=:
    for each in $PATH; do
        [ -f "${each%/*}/pyvenv.cfg" ] || left=${left:+$left:}$each
    done
    unset IFS
    export PATH="$left"
}

# The image's Python: the first one that the tests can run on. What its shims lead to depends on the directory, so the
# executable itself is taken.
find_python() {
    python='' other='' other_python=''
    for each in $BASE python3 python $(for version in $PYTHONS; do echo "python$version"; done); do
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

. "$there/uv.sh"

# For a command that may call uv: a program of this name, which gets the real one when it is called.
promise_uv() {
    mkdir -p "$work/tools/later"
    {
        printf '#!/bin/sh\nset -f\n'
        printf "work='%s'\npython='%s'\nother_python=''\nuv=''\n" "$work" "${image:-$python}"
        printf '. "$work/setup/uv.sh"\nneed_uv >&2\nexec "$uv" "$@"\n'
    } > "$work/tools/later/uv"
    chmod 755 "$work/tools/later/uv"
    export PATH="$PATH:$work/tools/later"
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
    image=$python
    python=$work/env/bin/python
    export VIRTUAL_ENV="$work/env" PATH="$work/env/bin:$work/tools/bin:$PATH"
    own=$PATH
}

[ -z "$BASE" ] || without_environments
own=$PATH
find_python
if [ "$HOW" != image ] || [ -z "$python" ]; then make_environment; fi
case $HOW in
    command)
        command -v uv > /dev/null || promise_uv
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
PATH="$own" "$python" "$there/about.py"
