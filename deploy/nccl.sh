#!/usr/bin/env bash
# Prints the folder of an NCCL (include/nccl.h, lib*/libnccl.so.2) that the CUDA backend can be built with: NCCL_HOME, the CUDA
# toolkit's, the system's, or, when there is none, the one that NVIDIA publishes on PyPI, installed once (200 MB) to
# ~/.cache/trireme.
set -euo pipefail

if [ -n "${NCCL_HOME:-}" ]; then
  [ -e "$NCCL_HOME/include/nccl.h" ] || { echo "NCCL_HOME: there is no $NCCL_HOME/include/nccl.h" >&2; exit 2; }
  echo "$NCCL_HOME"
  exit 0
fi
for folder in ${CUDA_HOME:+"$CUDA_HOME"} /usr/local/cuda /usr/local /usr; do
  for library in "$folder"/lib*/libnccl.so.2 "$folder"/lib/*/libnccl.so.2; do
    if [ -e "$library" ] && [ -e "$folder/include/nccl.h" ]; then
      echo "$folder"
      exit 0
    fi
  done
done
here=$(dirname "${BASH_SOURCE[0]}")
folder=$("$here/from_pypi.sh" nccl-2.28.9 "NCCL (200 MB)" nvidia-nccl-cu13==2.28.9)
echo "$folder/nvidia/nccl"
