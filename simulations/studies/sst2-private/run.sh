#!/bin/sh
# All runs of the study, one after another; those that are done are not done again.
#
#   ./run.sh MODEL SPLIT OUT
#
# MODEL is a folder of all-MiniLM-L6-v2, SPLIT that of FedSVD's six files of SST-2 with dev.tsv one level up, OUT where the
# runs go. `fedlora-sim` must be on the PATH. A run takes about a minute on two cores; there are 57.
set -eu
model=$1 split=$2 out=$3
preset=$(dirname "$0")/../../configs/sst2-minilm-private.toml

# one NAME METHOD INIT RATE_FACTOR EPSILON SEED
one() {
    directory="$out/$1-$5-$6"
    [ -f "$directory/metrics_summary.json" ] && return
    # Learning rates were chosen with ffa-orthonormal and seed 1, out of 0.5, 1, 1.5, 2 and 4.
    if [ "$5" = none ]; then rate=1.0 budget="privacy="; else rate=1.5 budget="privacy.target-epsilon=$5"; fi
    rate=$(awk "BEGIN { print $rate * $4 }")
    fedlora-sim run "$preset" --out "$directory" --set "name=$1, epsilon $5" --set "seed=$6" --set num-rounds=7 \
        --set evaluate-every=2 --set "method.name=$2" --set "lora.init_lora_weights=$3" --set "learning-rate=$rate" \
        --set "$budget" --set "model.path=$model" --set "data.path=$split"
}

for seed in 1 2 3; do
    for epsilon in 3 6 none; do
        one fedavg fedavg default 1 $epsilon $seed
        one ffa-lora ffa-lora default 1 $epsilon $seed
        one "ffa-lora, rate x 3" ffa-lora default 3 $epsilon $seed
        one ffa-pissa ffa-lora pissa 1 $epsilon $seed
        one ffa-orthonormal ffa-orthonormal orthonormal 1 $epsilon $seed
        one fedsvd fedsvd default 1 $epsilon $seed
    done
    one "fedsvd, orthonormal start" fedsvd orthonormal 1 none $seed
done
