#!/bin/sh
# Builds the simulator with the compiler that did not build SIM, optimized otherwise, and compares the
# trace hashes of 40 seeds, and of 10 with the worker's pool manager. usage: compilers.sh SIM GNU|Clang FOLDER SOURCE... (in the root folder).
# Exit 77: there is no other compiler.
set -eu
sim=$1 built=$2 folder=$3
shift 3
case $built in GNU) other=clang ;; *) other=gcc ;; esac
command -v "$other" > /dev/null || exit 77
hashes() {
  { "$1" --seeds 1..40 --hash; "$1" --seeds 1..10 --pool 1 --hash; } | grep -E '^[0-9]+ [0-9a-f]{16}$'
}
mkdir -p "$folder"
hashes "$sim" > "$folder/one"
test "$(wc -l < "$folder/one")" -eq 50
"$other" -std=gnu11 -D_GNU_SOURCE -I. -O1 -o "$folder/sim" "$@"
hashes "$folder/sim" > "$folder/two"
diff -u "$folder/one" "$folder/two"
