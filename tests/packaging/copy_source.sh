#!/usr/bin/env bash
# Copies what git knows of the checkout (and what it does not ignore) to a directory: copy_source.sh DIRECTORY
set -euo pipefail
cd "$(dirname "$0")/../.."
mkdir -p "$1"
git ls-files --cached --others --exclude-standard -z |
  while IFS= read -r -d '' name; do [ -e "$name" ] && printf '%s\0' "$name"; done |
  tar --null --files-from=- -cf - | tar -xf - -C "$1"
