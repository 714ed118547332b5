#!/usr/bin/env bash
# Prints the Debian packages of the shared libraries that a program is linked against, one a line.
#   deploy/container/runtime_packages.sh PROGRAM [FOLDER]
# FOLDER: libraries that are installed with the program, of no package.
set -euo pipefail

linked=$(ldd "$1")
if grep 'not found' <<<"$linked" >&2; then exit 1; fi
# Lines "name => path (address)" and "path (address)".
mapfile -t libraries < <(awk '$2 == "=>" { print $3 } $1 ~ /^\// { print $1 }' <<<"$linked")
for i in "${!libraries[@]}"; do
  [ ! -e "${2:-/nowhere}/${libraries[i]##*/}" ] || unset "libraries[i]"
done
[ ${#libraries[@]} -gt 0 ] || { echo "$1 has no shared libraries" >&2; exit 1; }

# Packages know a path with or without the /usr of the merged /usr: ask for both, and expect one answer for each library.
paths=()
for library in "${libraries[@]}"; do
  path=$(realpath "${library%/*}")/${library##*/}
  paths+=("$path" "${path#/usr}")
done
owners=$(dpkg-query -S "${paths[@]}" 2>/dev/null || true)
for library in "${libraries[@]}"; do
  grep -q "/${library##*/}\$" <<<"$owners" || { echo "$library belongs to no Debian package" >&2; exit 1; }
done
cut -d: -f1 <<<"$owners" | sort -u
