#!/bin/sh
# All runs of the study, one after another; those that are done are not done again.
#
#   ./run.sh MODEL PLAYS SCHOOL OUT
#
# MODEL is a folder of stories260K, PLAYS the file of tiny Shakespeare, SCHOOL the folder of GSM8K, OUT where the runs go.
# `fedlora-sim` must be on the PATH.
set -eu
model=$1 plays=$2 school=$3 out=$4
configs=$(dirname "$0")/../../configs

fedlora-sim compare "$configs/shakespeare-stories260k.toml" --methods ffa-lora,fedsa-lora --seeds 1,2,3 --resume \
    --out "$out/speakers" --set clients-per-round=16 --set "model.path=$model" --set "data.path=$plays"
fedlora-sim sweep "$configs/gsm8k-stories260k.toml" --grid method.name=fedavg --seeds 1,2,3 --resume \
    --out "$out/gsm8k" --set evaluate-every=1 --set "model.path=$model" --set "data.path=$school"
