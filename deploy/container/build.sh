#!/usr/bin/env bash
# Builds the program as deploy/quickstart.sh does and lays out what the image takes.
#   deploy/container/build.sh cpu|cuda OUT
# OUT/root: what goes to / (program, licence, SBOM). OUT/runtime-packages: the Debian packages it is linked against.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

backend=${1:-}
out=${2:-}
case "$backend" in
  cpu) preset=release ;;
  cuda) preset=cuda ;;
  *) echo "usage: $0 cpu|cuda OUT" >&2; exit 2 ;;
esac
[ -n "$out" ] || { echo "usage: $0 cpu|cuda OUT" >&2; exit 2; }

if [ "$backend" = cuda ]; then
  CUDA_HOME=$(deploy/cuda_toolkit.sh)  # the runtime is linked statically: the image needs none of it
  NCCL_HOME=$(deploy/nccl.sh)
  export CUDA_HOME NCCL_HOME
fi
[ -f "build/$preset/build.ninja" ] || cmake --preset "$preset" >&2
cmake --build "build/$preset" --target trireme >&2
cmake --build "build/$preset" --target shell_texts >&2
cmake --build "build/$preset" --target sbom >&2
mkdir -p "$out"
DESTDIR=$out/root cmake --install "build/$preset" --prefix /usr/local >&2
deploy/container/runtime_packages.sh "build/$preset/trireme" "$out/root/usr/local/lib/trireme" >"$out/runtime-packages"
cat "$out/runtime-packages" >&2
