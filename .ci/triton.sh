#!/usr/bin/env bash
# Real Triton without a GPU or a container: NVIDIA's server and its Python backend, which the wheel of nvidia-pytriton
# holds, in the environment DIR, with a command `tritonserver`. Idempotent.
#
#   .ci/triton.sh DIR
set -euo pipefail
dir=${1:?usage: .ci/triton.sh DIR}

# The wheel has a stub of the Python backend for some versions of Python, and wants a numpy that is older than 2.
python=
for candidate in python3.11 python3.12 python3.10 python3; do
    if "$candidate" -c 'import sys; sys.exit(not (3, 9) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null; then
        python=$candidate
        break
    fi
done
[ -n "$python" ] || { echo "Triton's Python backend needs Python 3.9 to 3.12; none is on PATH" >&2; exit 1; }

[ -x "$dir/bin/python" ] || "$python" -m venv "$dir"
dir=$(cd "$dir" && pwd)
# Without the rest of pytriton, which only its own client uses; grpcio is for the tests.
"$dir/bin/pip" install -q --disable-pip-version-check uv
"$dir/bin/uv" pip install -q --python "$dir/bin/python" --no-deps 'nvidia-pytriton==0.7.0' 'numpy<2' grpcio typing_extensions

site=$("$dir/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
version=$("$dir/bin/python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
triton=$site/pytriton/tritonserver
cp "$triton/python_backend_stubs/$version/triton_python_backend_stub" "$triton/backends/python/"
chmod +x "$triton/bin/tritonserver" "$triton/backends/python/triton_python_backend_stub"
cat >"$dir/bin/tritonserver" <<END
#!/bin/sh
export LD_LIBRARY_PATH="$site/nvidia_pytriton.libs" PATH="$dir/bin:\$PATH"
exec "$triton/bin/tritonserver" --backend-directory "$triton/backends" "\$@"
END
chmod +x "$dir/bin/tritonserver"
echo "Triton is in $dir. To test with it:  VASTGPU_TRITON=$dir pytest -n 2 tests/behaviour/triton"
