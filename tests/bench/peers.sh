#!/usr/bin/env bash
# Builds the peer of tests/bench/run.sh, llama.cpp as the PyPI sdist llama-cpp-python brings it, for this very CPU, once, and
# prints the folder of its programs. Version and checksum are pinned. What was begun and interrupted goes on.
# Some ten minutes on two cores. Progress goes to standard error.
#   tests/bench/peers.sh [--version]    --version: prints what would be built, and builds nothing
set -euo pipefail

version=0.3.36
sdist=llama_cpp_python-$version.tar.gz
sdist_sha256=832db0699007f1be95a7e41ef12e88926b02ba836461e36a36372db2760c1a2e
programs=(llama-bench llama-batched-bench llama-server llama-quantize llama-perplexity)
[ "${1:-}" != --version ] || { echo "llama-cpp-python $version"; exit 0; }

cache=${TRIREME_CACHE:-${XDG_CACHE_HOME:-${HOME:?set HOME or TRIREME_CACHE}/.cache}/trireme}
folder=$cache/peers/llama.cpp-$version
mkdir -p "$folder"
say() { echo "$*" >&2; }

# One build at a time: the others wait, and then find it.
exec 9<"$folder"
flock --nonblock 9 || { say "Another build of the peer is under way; waiting for it ..."; flock 9; }

# Built for this CPU's instructions: a cache that another machine filled is built anew.
cpu=$(grep -m 1 -E '^(flags|Features)' /proc/cpuinfo | sha256sum | cut -d' ' -f1)
is_built() {
  local program
  [ "$(cat "$folder/built" 2>/dev/null)" = "$cpu" ] || return 1
  for program in "${programs[@]}"; do [ -x "$folder/build/bin/$program" ] || return 1; done
}
if is_built; then
  echo "$folder/build/bin"
  exit 0
fi

for tool in cmake ninja c++ cc; do
  command -v $tool >/dev/null || { say "There is no $tool to build the peer with: run deploy/dependencies.sh build"; exit 1; }
done
free_mb=$(df --output=avail -m "$folder" | tail -1)
if [ "$free_mb" -lt 2000 ]; then
  say "$folder has $free_mb MB left, and the peer takes some 2000 MB: free some, or set TRIREME_CACHE to another folder"
  exit 1
fi

is_sound() { echo "$sdist_sha256  $1" | sha256sum --check --status 2>/dev/null; }
if ! is_sound "$folder/$sdist"; then
  [ ! -e "$folder/$sdist" ] || { say "The cached $sdist is damaged; fetching it again."; rm -f "$folder/$sdist"; }
  say "Fetching llama-cpp-python $version (77 MB) ..."
  rm -rf "$folder/fetch"
  mkdir "$folder/fetch"
  echo "llama-cpp-python==$version --hash=sha256:$sdist_sha256" >"$folder/fetch/requirements.txt"
  if ! python3 -m pip download --disable-pip-version-check --no-deps --no-binary llama-cpp-python --require-hashes \
    --dest "$folder/fetch" --requirement "$folder/fetch/requirements.txt" >&2; then
    rm -rf "$folder/fetch"
    say "The peer's sources could not be fetched. Check the network and run this again, or put $sdist"
    say "(sha256 $sdist_sha256) into $folder."
    exit 1
  fi
  is_sound "$folder/fetch/$sdist" || { say "What was fetched does not have the expected checksum; nothing was kept."; exit 1; }
  mv "$folder/fetch/$sdist" "$folder/"
  rm -rf "$folder/fetch"
fi

if [ ! -d "$folder/source" ]; then  # whole, or not there
  rm -rf "$folder/unpacking"
  mkdir "$folder/unpacking"
  tar -xzf "$folder/$sdist" -C "$folder/unpacking" --strip-components=3 "${sdist%.tar.gz}/vendor/llama.cpp"
  mv "$folder/unpacking" "$folder/source"
fi

if [ "$(cat "$folder/building" 2>/dev/null)" != "$cpu" ]; then
  rm -rf "$folder/build"
  echo "$cpu" >"$folder/building"
fi
failed() {
  say "The peer was not built; the lines above say why. What is built is kept: run this again when that is mended."
  say "To begin anew: rm -r $folder"
  exit 1
}
say "Building llama.cpp (some ten minutes on two cores, once) ..."
cmake -S "$folder/source" -B "$folder/build" -G Ninja -DCMAKE_BUILD_TYPE=Release -DGGML_NATIVE=ON -DBUILD_SHARED_LIBS=OFF \
  -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_EXAMPLES=OFF -DLLAMA_BUILD_SERVER=ON -DLLAMA_BUILD_UI=OFF -DLLAMA_CURL=OFF \
  -DLLAMA_OPENSSL=OFF >"$folder/configure.log" 2>&1 || { tail -20 "$folder/configure.log" >&2; failed; }
NINJA_STATUS='[%f/%t, %es] ' cmake --build "$folder/build" --target "${programs[@]}" >&2 || failed
echo "$cpu" >"$folder/built"
is_built || { say "The build went through, but lacks a program of: ${programs[*]}"; failed; }
echo "$folder/build/bin"
