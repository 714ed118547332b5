#!/usr/bin/env bash
# Builds the fuzz targets (clang 14, libFuzzer, AddressSanitizer, UBSan) and runs them, one after the other.
#
#   tests/fuzz/run.sh [TARGET ...] [--minutes N]     all targets, 1 minute each; N may be a fraction
#
# Minutes are those of the processor, so that a run on a busy machine is worth as much as on an idle one.
# New inputs collect in build/fuzz/corpus/TARGET; what fails is left in build/fuzz/found/TARGET, with the line that replays
# it. Ends with a line a target: executions, CPU seconds, edges covered, inputs, failures.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

minutes=1 targets=()
while [ $# -gt 0 ]; do
  case "$1" in
    --minutes) minutes=${2:?}; shift ;;
    -*) sed -n '2,9s/^# \{0,1\}//p' "$0"; exit 2 ;;
    *) targets+=("$1") ;;
  esac
  shift
done
[ ${#targets[@]} -gt 0 ] || mapfile -t targets < <(ls tests/fuzz/corpus)
seconds=$(awk "BEGIN { print int($minutes * 60) }")

[ -f build/fuzz/build.ninja ] || cmake --preset fuzz >/dev/null
cmake --build build/fuzz --target "${targets[@]/#/fuzz_}"

ticks=$(getconf CLK_TCK)
# Processor time a process has used; fails when it has ended.
cpu_seconds() {
  local fields
  fields=$(sed 's/.*) //' "/proc/$1/stat" 2>/dev/null) || return 1
  set -- $fields
  [ "$1" != Z ] && echo $(((${12} + ${13}) / ticks))
}

failed=0 summary=()
for target in "${targets[@]}"; do
  corpus=build/fuzz/corpus/$target found=build/fuzz/found/$target log=build/fuzz/$target.log
  mkdir -p "$corpus" "$found"
  dictionary=()
  [ -f "tests/fuzz/dict/$target.dict" ] && dictionary=(-dict="tests/fuzz/dict/$target.dict")
  # The limits are part of the test: no input may take a minute (the machine may be busy), 512 MB in one piece or 2 GB in all.
  echo "==> $target, $seconds s of processor time"
  status=0
  UBSAN_OPTIONS=print_stacktrace=1 "build/fuzz/fuzz_$target" -timeout=60 -malloc_limit_mb=512 -rss_limit_mb=2048 \
    -max_len=8192 -print_final_stats=1 -artifact_prefix="$found/" "${dictionary[@]}" \
    "$corpus" "tests/fuzz/corpus/$target" >"$log" 2>&1 &
  fuzzer=$!
  trap 'kill $fuzzer 2>/dev/null' EXIT
  while used=$(cpu_seconds $fuzzer) && [ "$used" -lt "$seconds" ]; do sleep 1; done
  kill -INT $fuzzer 2>/dev/null || true  # its way to end with statistics
  wait $fuzzer || status=$?
  [ $status -ne 72 ] || status=0  # libFuzzer's own, of an interrupt
  if [ $status -ne 0 ]; then
    failed=$((failed + 1))
    grep -E "does not hold|ERROR:|SUMMARY|runtime error|Test unit written" "$log" | tail -6
  fi
  executions=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log" | tail -1)
  edges=$(grep -o ' cov: [0-9]*' "$log" | tail -1 | tr -dc 0-9)
  inputs=$(find "$corpus" -type f | wc -l)
  summary+=("$(printf '%-16s %12s executions %6s CPU s %8s edges %6s inputs  %s' "$target" "${executions:-?}" "$seconds" \
    "${edges:-?}" "$inputs" "$([ $status -eq 0 ] && echo ok || echo "FAILED: build/fuzz/fuzz_$target $found/*")")")
done
printf '%s\n' "${summary[@]}"
[ $failed -eq 0 ]
