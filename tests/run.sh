#!/usr/bin/env bash
# Builds and runs every test. Closes with what failed by name, and "total: N passed, N failed, N skipped".
#
#   tests/run.sh            unit and integration tests, optimised and under sanitizers (AddressSanitizer and UBSan,
#                           ThreadSanitizer), the GPU simulator's, conformance with real clients, what deploy/ ships,
#                           include order, clang-format, clang-tidy
#   tests/run.sh --quick    the inner loop: unit and integration tests, optimised, include order
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

quick=0
case "${1:-}" in
  "") ;;
  --quick) quick=1 ;;
  *) sed -n '2,7s/^# \{0,1\}//p' "$0"; exit 2 ;;
esac

step() { printf '\n==> %s\n' "$*"; }
passed=0 failed=0 skipped=0
failures=()
# fail NAME: one failure, named at once and again at the end.
fail() {
  failed=$((failed + 1))
  failures+=("$1")
  echo "FAILED: $1"
}
# Adds the counts of a JUnit file (ctest and pytest both write one) and removes it. No file: the runner died.
tally() {
  local report counts name
  [ -f "$1" ] || { fail "no report $1"; return; }
  report=$(python3 - "$1" <<'PY'
import sys, xml.etree.ElementTree as tree
cases = list(tree.parse(sys.argv[1]).getroot().iter("testcase"))
# A test that ctest could not start (its program is missing) is "skipped", too: only a test's own word counts as that.
def skipped(case):
    mark = case.find("skipped")
    return mark is not None and (case.get("status") != "notrun" or "SKIP" in (mark.get("message") or ""))
skip = [c for c in cases if skipped(c)]
bad = [c for c in cases if c not in skip and any(c.find(t) is not None for t in ("failure", "error", "skipped"))]
print(len(cases) - len(bad) - len(skip), len(skip))
for case in bad:
    print(case.get("name") if case.get("classname") in (None, case.get("name")) else f"{case.get('classname')}.{case.get('name')}")
PY
  )
  counts=${report%%$'\n'*}
  passed=$((passed + ${counts% *})) skipped=$((skipped + ${counts#* }))
  while read -r name; do
    [ -z "$name" ] || fail "$(basename "$1" .xml): $name"
  done <<<"${report#"$counts"}"
  rm -f "$1"
}
# check NAME COMMAND...: a pass or a failure of one test.
check() {
  local name=$1
  shift
  if "$@"; then passed=$((passed + 1)); else fail "$name"; fi
}
run_ctest() {  # preset, further arguments
  local preset=$1
  shift
  rm -f "build/$preset-ctest.xml"  # of a run that was killed
  ctest --test-dir "build/$preset" --output-on-failure --output-junit "$PWD/build/$preset-ctest.xml" "-j$(nproc)" "$@" || true
  tally "build/$preset-ctest.xml"
}
# A build that fails is one failure of its own; what needs it is left out: build PRESET [ARGUMENTS] && ...
build() {
  if { [ -f "build/$1/build.ninja" ] || cmake --preset "$1" >/dev/null; } &&
    NINJA_STATUS="[$1 %f/%t, %es] " cmake --build "build/$1" "${@:2}"; then
    return 0
  fi
  fail "build $1"
  return 1
}

export UBSAN_OPTIONS=print_stacktrace=1
export TSAN_OPTIONS="suppressions='$PWD/tests/tsan.supp' second_deadlock_stack=1"

step "Packages"
deploy/dependencies.sh test
python=build/venv/bin/python
if [ $quick -eq 0 ] && ! cmp -s tests/conformance/requirements.txt build/venv/installed.txt; then
  rm -rf build/venv
  python3 -m venv build/venv
  "$python" -m pip install --quiet --disable-pip-version-check -r tests/conformance/requirements.txt
  cp tests/conformance/requirements.txt build/venv/installed.txt
fi

step "Demo model"
TRIREME_TEST_MODEL=$(deploy/fetch_demo_model.sh)
export TRIREME_TEST_MODEL

step "Include order"
check include_order python3 tests/include_order_test.py

step "Build and test: optimised"
built=0
build test && built=1
[ $built -eq 0 ] || run_ctest test

if [ $quick -eq 0 ]; then
  step "clang-format"
  check clang_format tests/lint.sh format
  if [ $built -eq 1 ]; then
    step "Conformance with real clients"
    rm -f build/conformance.xml
    "$python" -m pytest -q --junitxml=build/conformance.xml tests/conformance --binary build/test/trireme || true
    tally build/conformance.xml
    step "What deploy/ ships"
    "$python" -m pytest -q --junitxml=build/deploy.xml tests/deploy --binary build/test/trireme || true
    tally build/deploy.xml
  fi
  step "Build and test: the GPU simulator"  # without nvcc its kernels' tests are skipped
  if build gpusim --target gpusim trireme; then
    run_ctest gpusim -L 'gpusim|mutant'
    if grep -q '^TRIREME_NVCC:FILEPATH=/' build/gpusim/CMakeCache.txt; then
      "$python" -m pytest -q --junitxml=build/conformance-gpusim.xml tests/conformance/test_cuda.py --device cuda \
        --binary build/gpusim/trireme || true
      tally build/conformance-gpusim.xml
    fi
  fi
  step "Static gates of the kernels"
  "$python" -m pytest -q --junitxml=build/gates.xml tests/gpusim/gates || true
  tally build/gates.xml
  for preset in asan tsan; do
    step "Build and test: $preset"
    build $preset || continue
    run_ctest $preset
    rm -f build/conformance-$preset.xml
    "$python" -m pytest -q --junitxml=build/conformance-$preset.xml tests/conformance/test_concurrency.py \
      --model tiny --binary build/$preset/trireme || true
    tally build/conformance-$preset.xml
  done
  if [ $built -eq 1 ]; then
    step "clang-tidy"
    check clang_tidy tests/lint.sh tidy
  fi
fi

echo
[ $failed -eq 0 ] || printf 'failed: %s\n' "${failures[@]}"
printf 'total: %d passed, %d failed, %d skipped\n' $passed $failed $skipped
[ $failed -eq 0 ] && [ $passed -gt 0 ]
