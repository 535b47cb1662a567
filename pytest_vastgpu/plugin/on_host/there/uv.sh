# Finds or gets uv. POSIX shell, read by another script, which sets work (the host's working directory), python and
# other_python (the image's, or empty) and uv (empty).

say() { printf '%s\n' "$*"; }
fail() { say "error: $*"; exit 1; }

runs() { [ -x "$1" ] && "$1" --version > /dev/null 2>&1; }

need_uv() {
    [ -z "$uv" ] || return 0
    for each in "$(command -v uv || :)" "$work/tools/bin/uv" "$HOME/.local/bin/uv" "$HOME/.cargo/bin/uv"; do
        if [ "$each" != "$work/tools/later/uv" ] && runs "$each"; then uv=$each; return 0; fi
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
