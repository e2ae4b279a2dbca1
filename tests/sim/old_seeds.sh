#!/bin/sh
# Runs every seed that once failed. usage: old_seeds.sh SIM FILE
set -eu
bad=0
for seed in $(sed 's/#.*//' "$2"); do
  "$1" --seed "$seed" > /dev/null || { echo "seed $seed fails again"; bad=1; }
done
exit $bad
