#!/usr/bin/env bash
# Builds the program as deploy/quickstart.sh does and lays out what the image takes.
#   deploy/container/build.sh cpu|cuda OUT
# OUT/root: what goes to / (program, licence, SBOM). OUT/runtime-packages: the Debian packages it is linked against.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

backend=${1:-}
out=${2:-}
case "$backend" in
  cpu) ;;
  cuda) echo "This version has no CUDA backend." >&2; exit 2 ;;
  *) echo "usage: $0 cpu|cuda OUT" >&2; exit 2 ;;
esac
[ -n "$out" ] || { echo "usage: $0 cpu|cuda OUT" >&2; exit 2; }

[ -f build/release/build.ninja ] || cmake --preset release >&2
cmake --build build/release --target trireme >&2
cmake --build build/release --target shell_texts >&2
cmake --build build/release --target sbom >&2
mkdir -p "$out"
DESTDIR=$out/root cmake --install build/release --prefix /usr/local >&2
deploy/container/runtime_packages.sh build/release/trireme >"$out/runtime-packages"
cat "$out/runtime-packages" >&2
