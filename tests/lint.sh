#!/usr/bin/env bash
# tests/lint.sh format|tidy: clang-format and clang-tidy over every tracked C++ file.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
case "${1:-}" in
  format) git ls-files -z '*.cc' '*.h' | xargs -0 clang-format-14 --dry-run --Werror ;;
  tidy)
    # Product sources, from the compile commands of the test build without its precompiled header: a source that does not
    # include what it uses fails here. What clang-tidy says on standard error (counts of suppressed warnings, or that it
    # could not run) matters only when it fails.
    mkdir -p build/tidy
    sed -E 's/-Winvalid-pch -include [^ ]+//' build/test/compile_commands.json >build/tidy/compile_commands.json
    git ls-files -z 'kernels/*.cc' 'runtime/*.cc' 'server/*.cc' |
      xargs -0 -n 4 -P "$(nproc)" bash -c '
        errors=$(clang-tidy-14 -p build/tidy --quiet --warnings-as-errors="*" "$@" 2>&1 1>&3) ||
          { printf "%s\n" "$errors" >&2; exit 1; }' tidy 3>&1
    ;;
  *) echo "usage: $0 format|tidy" >&2; exit 2 ;;
esac
