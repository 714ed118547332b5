#!/usr/bin/env bash
# Prints the folder of a CUDA toolkit that can build the CUDA backend: CUDA_HOME, the one on PATH, /usr/local/cuda, or, when
# there is none that knows all our architectures, the compiler and runtime that NVIDIA publishes on PyPI, installed once
# (300 MB) to ~/.cache/trireme. The driver is not its business: a machine that builds needs none.
set -euo pipefail

packages=(nvidia-cuda-nvcc==13.0.88 nvidia-cuda-runtime==13.0.96 nvidia-cuda-crt==13.0.88 nvidia-nvvm==13.0.88 nvidia-cuda-cccl==13.0.85)

if [ -n "${CUDA_HOME:-}" ]; then
  [ -x "$CUDA_HOME/bin/nvcc" ] || { echo "CUDA_HOME: there is no $CUDA_HOME/bin/nvcc" >&2; exit 2; }
  echo "$CUDA_HOME"
  exit 0
fi
for nvcc in nvcc /usr/local/cuda/bin/nvcc; do
  nvcc=$(command -v "$nvcc") || continue
  if [[ $("$nvcc" --list-gpu-arch) == *compute_100* ]]; then
    dirname "$(dirname "$(readlink -f "$nvcc")")"
    exit 0
  fi
  echo "$nvcc is too old: it does not know sm_100" >&2
done
here=$(dirname "${BASH_SOURCE[0]}")
folder=$("$here/from_pypi.sh" cuda-13.0 "the CUDA compiler (300 MB)" "${packages[@]}")
echo "$folder/nvidia/cu13"
