#!/bin/sh
# clang-format decides, judged by its exit code. The version is pinned: other versions format differently.
set -eu
cd "$(dirname "$0")/../.."
fmt=${CLANG_FORMAT:-clang-format-14}
command -v "$fmt" >/dev/null || fmt=clang-format
"$fmt" --version | grep -q 'version 14\.' || { echo "clang-format 14 is needed"; exit 77; }
find proto scheduler worker gateway tests bench -name '*.[ch]' -not -path '*/node_modules/*' -print0 |
  xargs -0 -r "$fmt" --dry-run -Werror
