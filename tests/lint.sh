#!/usr/bin/env bash
# tests/lint.sh format|tidy: clang-format and clang-tidy over every tracked C++ file.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
case "${1:-}" in
  format) git ls-files -z '*.cc' '*.h' | xargs -0 clang-format-14 --dry-run --Werror ;;
  tidy)
    # Product sources, from the compile commands of the test build, and of the gpusim build for what only that one compiles,
    # without precompiled headers: a source that does not include what it uses fails here. What clang-tidy says on standard
    # error (counts of suppressed warnings, or that it could not run) matters only when it fails.
    mkdir -p build/tidy
    python3 - <<'PY' |
import json, pathlib, re, subprocess
commands = {}
for preset in ("gpusim", "test"):
    database = pathlib.Path(f"build/{preset}/compile_commands.json")
    for entry in json.loads(database.read_text()) if database.exists() else []:
        entry["command"] = re.sub(r"-Winvalid-pch -include \S+", "", entry["command"])
        commands[entry["file"]] = entry
pathlib.Path("build/tidy/compile_commands.json").write_text(json.dumps(list(commands.values())))
tracked = subprocess.check_output(["git", "ls-files", "kernels/*.cc", "runtime/*.cc", "server/*.cc"], text=True).split()
known = [name for name in tracked if str(pathlib.Path(name).resolve()) in commands]
print(end="".join(name + "\0" for name in known))
PY
      xargs -0 -n 4 -P "$(nproc)" bash -c '
        errors=$(clang-tidy-14 -p build/tidy --quiet --warnings-as-errors="*" "$@" 2>&1 1>&3) ||
          { printf "%s\n" "$errors" >&2; exit 1; }' tidy 3>&1
    ;;
  *) echo "usage: $0 format|tidy" >&2; exit 2 ;;
esac
