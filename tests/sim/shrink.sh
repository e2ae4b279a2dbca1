#!/bin/sh
# A failing seed shrinks to a schedule that fails for the same reason, has few faults, and does not fail
# without the breakage. usage: shrink.sh SIM SIM_MUTANTS FOLDER
set -eu
sim=$1 mutants=$2 folder=$3
mkdir -p "$folder"
shrunk=$folder/shrunk.txt
seed=$("$mutants" --mutant 21 --seeds 1..200 --expect-bad | sed -n 's/^seed \([0-9]*\): [0-9.]* s: .*/\1/p' | head -1)
test -n "$seed" || { echo "no seed fails"; exit 1; }
"$mutants" --mutant 21 --seed "$seed" --print > "$folder/all" || true
before=$(grep -c '^at ' "$folder/all")
invariant=$(sed -n 's/^seed [0-9]*: [0-9.]* s: \([A-Z0-9]*\) .*/\1/p' "$folder/all")
"$mutants" --mutant 21 --seed "$seed" --shrink > "$folder/out" && { echo "seed $seed does not fail"; exit 1; }
sed -n '/^# /,/^seeds /p' "$folder/out" | grep -v '^seeds ' > "$shrunk"
after=$(grep -c '^at ' "$shrunk")
echo "$before faults, $after are enough for $invariant:" && cat "$shrunk"
test -n "$invariant" && test "$after" -lt "$before" && test "$after" -le 6
"$mutants" --mutant 21 --schedule "$shrunk" | grep -q ": $invariant " || { echo "not the same"; exit 1; }
"$sim" --schedule "$shrunk" > "$folder/sound" || { cat "$folder/sound"; exit 1; }
