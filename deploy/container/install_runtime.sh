#!/usr/bin/env bash
# Installs the Debian packages named in a file and leaves no package lists behind.
#   deploy/container/install_runtime.sh FILE
set -euo pipefail

mapfile -t packages <"$1"
[ ${#packages[@]} -gt 0 ] || { echo "$1 names no package" >&2; exit 1; }
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -y -qq --no-install-recommends -o Dpkg::Use-Pty=0 "${packages[@]}" >/dev/null
apt-get clean
rm -rf /var/lib/apt/lists/* /var/log/apt /var/log/dpkg.log /var/cache/debconf/*
