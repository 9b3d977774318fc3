#!/bin/bash
# The experiment on an offline host with four GPUs: baselines, both protocols on all scenarios, a search over all GPUs.
#
#     . TARGET/env.sh && bash studies/h100.sh WORK [SECONDS]
#
# Everything it makes lies below WORK; `bash studies/h100.sh WORK keep FILE.tgz` packs what is worth keeping at any
# moment. It begins no stage that cannot end within SECONDS (1500). STAGES chooses among them:
#
#     baselines  torch baselines side by side, and a first start of each engine, which builds kernels
#     study      h100_short.yaml: both protocols on A, B, C and D, a cell a GPU
#     joint      one search over all GPUs, vLLM and SGLang, on C
#     pair       one trial of tensor-parallel 2
#     smollm2    h100_smollm2.yaml: real weights, every gate on
#     survey     60 configs of vLLM in C and B, for the race of search policies
#
# Other variables replace what it runs, so that it can be tried on any machine:
#
#     LANES=2 ENGINES=simulated MODEL=smollm2-135m PROFILE=smoke STUDY=mine.yaml BUDGET=40s bash ...
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

search() { # NAME OPTIONS...: one search within what is left
    local name=$1
    shift
    timeout -s INT "$(left)" ceiling search --scenario C --profile "$profile" --model "$model" "$@" \
        --run "$work/runs/$name" > "$work/$name.txt" 2>&1
}

wants() { # STAGE SECONDS: is it asked for, and is there time?
    [[ " ${STAGES:-baselines study joint pair} " == *" $1 "* ]] && [ "$(left)" -gt "$2" ] && say "$1, $(left) s left"
}

ceiling doctor > "$work/doctor-before.txt" 2>&1

if wants baselines 200; then
    (baselines 0 A && checks 0 ${ENGINES:-vllm} && baselines 0 B) &
    baselines $((1 % lanes)) C &
    baselines $((2 % lanes)) D &
    checks $((3 % lanes)) ${ENGINES:-sglang} &
    wait
fi
if wants study 120; then
    timeout -s INT "$(left)" ceiling study "${STUDY:-$here/h100_short.yaml}" --at-once "$lanes" --resume \
        --runs "$work/runs" > "$work/study.txt" 2> "$work/study-progress.txt"
fi
if wants joint 280; then
    search "joint-${lanes}x" --engine "${ENGINES:-vllm,sglang}" --devices "$lanes" --budget "${BUDGET:-16m}" --no-baseline
fi
if wants pair 300; then
    CUDA_VISIBLE_DEVICES=0,1 search pair --engine vllm --devices 2 --set tensor-parallel-size=2 --trials 1 --budget 16m \
        --no-baseline
fi
if wants smollm2 120; then
    timeout -s INT "$(left)" ceiling study "$here/h100_smollm2.yaml" --at-once 2 --resume \
        --runs "$work/runs" > "$work/smollm2.txt" 2> "$work/smollm2-progress.txt"
fi
if wants survey 120; then
    search survey --strategy survey --also B --planner random --engine "${ENGINES:-vllm}" --devices "$lanes" \
        --trials "${TRIALS:-64}" --no-baseline
fi

ceiling doctor > "$work/doctor-after.txt" 2>&1
say "done, $(left) s left"
