#!/usr/bin/env bash
# Installs the Debian packages that Trireme is built from, when any is missing. Used by quickstart.sh and tests/run.sh.
#   deploy/dependencies.sh build|bench|test
set -euo pipefail

build_packages=(
  build-essential cmake ninja-build ccache pkg-config
  libgrpc++-dev libprotobuf-dev protobuf-compiler protobuf-compiler-grpc grpc-proto
  libabsl-dev libboost1.81-dev libboost-json1.81-dev libboost-system1.81-dev
  libssl-dev libpcre2-dev libutf8proc-dev prometheus-cpp-dev libspdlog-dev libcli11-dev libyaml-cpp-dev
  libcurl4-openssl-dev libpugixml-dev zlib1g-dev ca-certificates python3 python3-pip
)
bench_packages=(libgtest-dev libgmock-dev libbenchmark-dev libsimde-dev python3-venv)  # what configuring with tests needs
test_packages=(
  clang-format-14 clang-tidy-14 python3-yaml curl openssl git procps
  clang-14 libclang-rt-14-dev  # tests/fuzz
  valgrind  # tests/bench/instructions.py
  zsh fish groff man-db  # tests/conformance/test_completion.py
  chromium chromium-driver  # tests/conformance/test_page.py
  prometheus systemd strace logrotate  # tests/deploy: promtool and a server to scrape with, systemd-analyze, what system calls are made
)

packages=("${build_packages[@]}")
case "${1:-build}" in
  build) ;;
  bench) packages+=("${bench_packages[@]}") ;;
  test) packages+=("${bench_packages[@]}" "${test_packages[@]}") ;;
  *) echo "usage: $0 build|bench|test" >&2; exit 2 ;;
esac

missing=()
for package in "${packages[@]}"; do
  [ "$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null || true)" = installed ] || missing+=("$package")
done
[ ${#missing[@]} -eq 0 ] && exit 0

as_root=()
if [ "$(id -u)" -ne 0 ]; then
  command -v sudo >/dev/null || { echo "These packages are missing, and neither root nor sudo is here to install them: ${missing[*]}" >&2; exit 1; }
  as_root=(sudo)
fi
echo "Installing ${#missing[@]} Debian packages: ${missing[*]}" >&2
# What apt says is the progress of minutes: a bar on a terminal, plain lines elsewhere, standard output untouched.
if [ -t 2 ]; then progress=(-o Dpkg::Progress-Fancy=1); else progress=(-q -o Dpkg::Use-Pty=0); fi
"${as_root[@]}" apt-get "${progress[@]}" update >&2
"${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get "${progress[@]}" install -y --no-install-recommends "${missing[@]}" >&2
# The tests start a Prometheus of their own; the service that its package has just set up is not wanted.
if [[ " ${missing[*]} " = *" prometheus "* ]] && [ -d /run/systemd/system ]; then
  "${as_root[@]}" systemctl disable --now prometheus >/dev/null 2>&1 || true
fi
