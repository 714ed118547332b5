#!/usr/bin/env bash
# How fast Trireme is on this machine, beside the machine's limits and, with --peers, beside llama.cpp.
#
#   tests/bench/run.sh [--peers] [--quick] [--json FILE] [--plot FILE.png] [--model GGUF] [--only PATTERN] [--threads N]
#   tests/bench/run.sh --scaling [--peers] [--quick] [--json FILE] [--plot FILE.png] [--model GGUF] [--threads N]
#
#   --peers         measure llama.cpp on the same files, by turns with ours: ratios. Builds it the first time (ten minutes)
#   --quick         two minutes: fewer rows, fewer runs. Without it medians of 5 runs, half an hour with --peers
#   --scaling       in place of the table: the server at 1, 2, 4 ... 256 streams, throughput, latencies and the knee; with
#                   --peers llama-server beside it. Some minutes; --quick: up to 32 streams
#   --json FILE     write rows of {name, value, unit, peer, peer_value, ratio, target, roofline_fraction}, and a head
#   --plot FILE     draw ratios and shares of the roofline, or the curves, as PNG
#   --model GGUF    weights to measure (default: SmolLM2-135M-Instruct Q4_1). The peer's llama-quantize makes Q4_0, Q8_0 and
#                   BF16 of them, once; without --peers what it made earlier is measured, else the file alone
#   --only PATTERN  rows whose name has this, a regular expression: "prefill", "decode, 1 .*Q8_0", "server|start"
#   --threads N     compute threads of both sides (default: 2)
#
# Ratios are the result: absolute figures differ from machine to machine. Leave the machine alone while it runs.
# Builds build/bench; --peers and --plot fetch Python packages the first time. tests/bench/README.md tells what each row means.
# Exit code 1: something could not be measured.
set -euo pipefail
started_in=$PWD
root=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/../.." && pwd)
cd "$root"

usage() { echo "$*" >&2; echo "tests/bench/run.sh --help tells the usage" >&2; exit 2; }
peers=0 scaling=0 only='' model='' plot=''
arguments=()
while [ $# -gt 0 ]; do
  option=${1%%=*}
  case "$option" in
    --peers) peers=1 ;;
    --scaling) scaling=1; arguments+=(--scaling) ;;
    --quick) arguments+=(--quick) ;;
    -h | --help) sed -n '2,22s/^# \{0,1\}//p' "$0"; exit 0 ;;
    --json | --plot | --model | --only | --threads)
      if [[ $1 = *=* ]]; then value=${1#*=}; else shift; value=${1:-}; fi
      [ -n "$value" ] || usage "$option needs a value"
      if [[ $option =~ ^--(json|plot|model)$ && $value != /* ]]; then value=$started_in/$value; fi
      case "$option" in
        --model) model=$value; [ -f "$value" ] || usage "--model: there is no file $value" ;;
        --json | --plot) [ -d "$(dirname "$value")" ] || usage "$option: there is no folder $(dirname "$value")" ;;&
        --plot) plot=$value ;;&
        --only) only=$value ;;&
        --threads) [[ $value =~ ^[1-9][0-9]*$ ]] || usage "--threads: $value is no number of threads" ;;&
        *) arguments+=("$option" "$value") ;;
      esac
      ;;
    *) usage "what is $1?" ;;
  esac
  shift
done
[ $scaling = 0 ] || [ -z "$only" ] || usage "--only chooses rows of the table, and --scaling has none"
step() { printf '==> %s\n' "$*" >&2; }

step "Packages"
deploy/dependencies.sh bench

step "Build (minutes the first time)"
[ -f build/bench/build.ninja ] || cmake --preset bench >&2
NINJA_STATUS='[%f/%t, %es] ' cmake --build --preset bench >&2

# Before anything is measured: a quarter of an hour later is too late to learn that there is no picture.
python=python3
if [ -n "$plot" ] || [ $peers -eq 1 ]; then
  step "Python packages"
  python=build/bench-venv/bin/python
  if ! cmp -s tests/bench/requirements.txt build/bench-venv/installed.txt; then
    rm -rf build/bench-venv
    if ! { python3 -m venv build/bench-venv &&
      "$python" -m pip install --quiet --disable-pip-version-check -r tests/bench/requirements.txt; } >&2; then
      echo "matplotlib and tokenizers could not be installed. Check the network and run this again, or leave out" \
        "--plot and --peers" >&2
      exit 1
    fi
    cp tests/bench/requirements.txt build/bench-venv/installed.txt
  fi
fi

if [ $peers -eq 1 ]; then
  step "The peer"
  peer=$(tests/bench/peers.sh)
  arguments+=(--peer "$peer" --peer-version "$(tests/bench/peers.sh --version)")
fi

step "Models"
[ -n "$model" ] || model=$(deploy/fetch_demo_model.sh)
while IFS= read -r variant; do
  arguments+=(--variant "$variant")
done < <(python3 tests/bench/compare/variants.py "$model" "${peer:-}")
[[ " ${arguments[*]} " = *" --variant "* ]] || exit 1  # variants.py has said why

step "Measure"
exec "$python" tests/bench/compare/main.py --programs build/bench "${arguments[@]}"
