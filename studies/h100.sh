#!/bin/bash
# The H100 experiment on an offline host with four GPUs, from baselines to a search over all of them:
#
#     . TARGET/env.sh && bash studies/h100.sh WORK [SECONDS]
#
# Everything it makes lies below WORK; `bash studies/h100.sh WORK keep FILE.tgz` packs what is worth keeping at any
# moment. It begins no stage that cannot end within SECONDS (1500). Variables replace what it runs, so that it can be
# tried on any machine:
#
#     LANES=2 ENGINES=simulated JOINT=simulated MODEL=smollm2-135m PROFILE=smoke STUDY=mine.yaml BUDGET=40s PAIR= bash ...
set -u
here=$(cd "$(dirname "$0")" && pwd)
work=$1
mkdir -p "$work"

if [ "${2:-}" = keep ]; then
    cd "$work" && find . -name ledger.jsonl -o -name baseline.json -o -name '*.txt' -o -name '*.log' -size -2M | tar -czf "$3" -T -
    exit
fi

command -v ceiling > /dev/null || { echo "error: no ceiling on the PATH: . TARGET/env.sh first" >&2; exit 2; }
ends=$(($(date +%s) + ${2:-1500}))
lanes=${LANES:-4}
model=${MODEL:-mistral-7b-shapes}
profile=${PROFILE:-gpu-short}
cores=$(($(nproc) / lanes))

left() { echo $((ends - $(date +%s))); }
say() { echo "$(date +%T) $*" | tee -a "$work/stages.txt"; }

on() { # GPU COMMAND...: on one GPU and its share of the cores
    local gpu=$1
    shift
    CUDA_VISIBLE_DEVICES=$gpu taskset -c $((gpu * cores))-$((gpu * cores + cores - 1)) "$@"
}

baselines() { # GPU SCENARIO...
    local gpu=$1 letter
    shift
    for letter in "$@"; do
        on "$gpu" ceiling baseline --scenario "$letter" --profile "$profile" --model "$model" > "$work/baseline-$letter.txt" 2>&1
    done
}

checks() { # GPU ENGINE...
    local gpu=$1 name
    shift
    for name in "$@"; do
        on "$gpu" ceiling engines check "$name" --profile "$profile" --model "$model" > "$work/check-$name.txt" 2>&1
    done
}

say "stage 1: doctor, torch baselines, first starts of the engines"
ceiling doctor > "$work/doctor-before.txt" 2>&1
(baselines 0 A && checks 0 vllm && baselines 0 B) &
baselines $((1 % lanes)) C &
baselines $((2 % lanes)) D &
checks $((3 % lanes)) sglang &
wait

say "stage 2: the study, $lanes cells at once, $(left) s left"
timeout -s INT "$(left)" ceiling study "${STUDY:-$here/h100_short.yaml}" --at-once "$lanes" --resume \
    --runs "$work/runs" > "$work/study.txt" 2> "$work/study-progress.txt"

if [ "$(left)" -gt 280 ]; then
    say "stage 3: one search over $lanes devices, $(left) s left"
    timeout -s INT "$(left)" ceiling search --engine "${JOINT:-vllm,sglang}" --scenario C --profile "$profile" --model "$model" \
        --devices "$lanes" --budget "${BUDGET:-16m}" --no-baseline --run "$work/runs/C-joint-${lanes}x" > "$work/joint.txt" 2>&1
fi

if [ "${PAIR-1}" ] && [ "$(left)" -gt 120 ]; then
    say "stage 4: one trial of tensor-parallel 2, $(left) s left"
    CUDA_VISIBLE_DEVICES=0,1 timeout -s INT "$(left)" ceiling search --engine vllm --scenario C --profile "$profile" \
        --model "$model" --devices 2 --set tensor-parallel-size=2 --trials 1 --budget 8m --no-baseline \
        --run "$work/runs/C-tensor-parallel-2" > "$work/pair.txt" 2>&1
fi

ceiling doctor > "$work/doctor-after.txt" 2>&1
say "done, $(left) s left"
