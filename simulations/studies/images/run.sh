#!/bin/sh
# All runs of the study, one after another; those that are done are not done again.
#
#   ./run.sh FASHION DIGITS OUT
#
# FASHION is the folder of Fashion-MNIST with its split among fifty clients, DIGITS that of the three sources of digits (both
# as the presets in simulations/configs describe them), OUT where bases and runs go. `fedlora-sim` must be on the PATH.
set -eu
fashion=$1 digits=$2 out=$3
configs=$(dirname "$0")/../../configs
mkdir -p "$out"

for base in vit mixer; do
    [ -f "$out/$base/model.safetensors" ] ||
        fedlora-sim pretrain "$configs/pretrain/fashion-mnist-$base.toml" --out "$out/$base" --set "data.path=$fashion"
done

# study NAME PRESET BASE DATA METHODS
study() {
    [ -f "$out/$1/comparison.csv" ] && return
    fedlora-sim compare "$configs/$2.toml" --methods "$5" --seeds 1,2,3 --out "$out/$1" --resume \
        --set "model.path=$out/$3" --set "data.path=$4"
}

study digits digit-sources-vit vit "$digits" ffa-lora,flexlora,lora-fair,fedsa-lora
# FFA-LoRA with a head that all train, as it is in the other methods' rows.
for seed in 1 2 3; do
    directory="$out/ffa-shared-head/seed-$seed"
    [ -f "$directory/metrics_summary.json" ] ||
        fedlora-sim run "$configs/digit-sources-vit.toml" --out "$directory" --seed "$seed" --set method.name=ffa-lora \
            --set method.head=shared --set "model.path=$out/vit" --set "data.path=$digits"
done
study fashion-vit fashion-mnist-vit vit "$fashion" ffa-lora,flexlora,lora-fair,fedsa-lora
study fashion-mixer fashion-mnist-mixer mixer "$fashion" ffa-lora,flexlora,lora-fair,fedsa-lora
