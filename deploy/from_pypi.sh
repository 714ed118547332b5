#!/usr/bin/env bash
# Installs packages of PyPI to a folder of their own, once, and prints it: ~/.cache/trireme/NAME.
#   deploy/from_pypi.sh NAME WHAT PACKAGE==VERSION...     WHAT: for people, "NCCL (200 MB)"
# The folder is whole, or not there.
set -euo pipefail

name=$1 what=$2
shift 2
folder=${XDG_CACHE_HOME:-$HOME/.cache}/trireme/$name
if [ ! -d "$folder" ]; then
  echo "Installing $what from PyPI, once" >&2
  mkdir -p "$(dirname "$folder")"
  beside=$(mktemp -d "$folder.XXXXXX")
  trap 'rm -rf "$beside"' EXIT
  python3 -m pip install --quiet --disable-pip-version-check --target "$beside" "$@" >&2
  mv -T "$beside" "$folder" || [ -d "$folder" ]  # another one was faster
fi
echo "$folder"
