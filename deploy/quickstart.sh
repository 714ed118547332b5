#!/usr/bin/env bash
# From a bare Debian 12 machine to a chat model that answers.
#
#   deploy/quickstart.sh [--no-serve] [--model PATH] [further arguments for `trireme serve`]
#
# Installs what is missing (apt; sudo when not root), builds build/release/trireme, fetches SmolLM2-135M-Instruct (93 MB,
# once, to ~/.cache/trireme/models) and serves it on 127.0.0.1. A second run starts in seconds.
#   --no-serve     stop before serving
#   --model PATH   serve this .gguf file or Hugging Face directory instead of fetching the demo model
#   --cuda         build the CUDA backend, too (build/cuda; fetches a compiler where there is none), and serve on the first GPU
set -euo pipefail
started_in=$PWD  # what the user names is relative to there, not to this tree
root=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"

serve=1
model=
preset=release
arguments=()
while [ $# -gt 0 ]; do
  case "$1" in
    --no-serve) serve=0 ;;
    --model | --model=*)
      if [ "$1" = --model ]; then shift; model=${1:-}; else model=${1#--model=}; fi
      [ -n "$model" ] || { echo "--model needs a path" >&2; exit 2; }
      ;;
    --cuda) preset=cuda ;;
    -h | --help) sed -n '2,10s/^# \{0,1\}//p' "$0"; exit 0 ;;
    *) arguments+=("$1") ;;
  esac
  shift
done

if [ $serve -eq 0 ] && [ ${#arguments[@]} -gt 0 ]; then
  echo "--no-serve: nothing is served that could take ${arguments[*]}" >&2
  exit 2
fi
if [ -n "$model" ]; then
  [[ $model = /* ]] || model=$started_in/$model
  [ -e "$model" ] || { echo "--model: there is no $model" >&2; exit 2; }
fi

step() {
  if [ -t 2 ]; then printf '\033[1m==> %s\033[0m\n' "$*" >&2; else printf '==> %s\n' "$*" >&2; fi
}

[ $preset = release ] || [ $serve -eq 0 ] || arguments=(--device cuda "${arguments[@]}")
trireme=$root/build/$preset/trireme
# Refuses flags that the built program refuses: for a model that nobody can have pulled it says 2 (wrong usage), or 1.
check_arguments() {
  local said code=0
  [ ${#arguments[@]} -gt 0 ] || return 0
  said=$(cd "$started_in" && "$trireme" serve hf://none/none "${arguments[@]}" 2>&1) || code=$?
  case $code in
    0) echo "$said"; exit 0 ;;  # --help
    2) echo "$said" >&2; exit 2 ;;
  esac
}
# A program that is older than its sources may not know a new flag: that one is asked once it is built.
if [ -x "$trireme" ] && [ -z "$(find CMakeLists.txt kernels proto runtime server -newer "$trireme" -print -quit)" ]; then
  check_arguments
fi

step "1/4 Packages"
deploy/dependencies.sh build
if [ $preset = cuda ]; then
  CUDA_HOME=$(deploy/cuda_toolkit.sh)
  NCCL_HOME=$(deploy/nccl.sh)
  export CUDA_HOME NCCL_HOME
fi

step "2/4 Build (a few minutes the first time)"
[ -f "build/$preset/build.ninja" ] || cmake --preset "$preset" >&2
NINJA_STATUS='[%f/%t, %es] ' cmake --build "build/$preset" --target trireme >&2
check_arguments

step "3/4 Model"
if [ -z "$model" ]; then
  model=$(cd "$started_in" && "$root/deploy/fetch_demo_model.sh")
fi
echo "    $model" >&2

step "4/4 Serve"
if [ $serve -eq 0 ]; then
  echo "Ready: $trireme serve $model" >&2
  exit 0
fi
cd "$started_in"
exec "$trireme" serve "$model" "${arguments[@]}"
