#!/bin/bash
# The experiment on an offline host with four GPUs: baselines, both protocols on all scenarios, a search over all GPUs.
#
#     . TARGET/env.sh && bash studies/h100.sh WORK [SECONDS]
#
# Everything it makes lies below WORK; `bash studies/h100.sh WORK keep FILE.tgz` packs what is worth keeping at any
# moment. A stage begins only where 120 to 300 s of SECONDS (1500) are left; searches and studies are interrupted (SIGINT)
# when SECONDS are over. STAGES (default: all but survey) chooses among them:
#
#     baselines    torch baselines side by side, and a first start of each engine, which builds kernels
#     engines      h100_engines.yaml: vLLM and SGLang in one search, on A, B, C and D, a cell a GPU
#     study        h100_short.yaml: both protocols on A, B, C and D (CELLS: only those of this pattern)
#     parallel     one search over all GPUs, vLLM and SGLang, on C
#     speculation  SmolLM2's real weights and every gate: flags of speculation in C and B, and beside them,
#                  on the last two GPUs, one trial of tensor-parallel 2
#     survey       configs of vLLM in C and B, for the race of search policies; SURVEY_SEED (21) draws them: surveys
#                  of several stretches, in one directory, are one landscape. SURVEY_OPTIONS go to its search:
#                  half of the configs drawn are eager and take three times as long, `--fix enforce-eager` has none
#
# Other variables replace what it runs, so that it can be tried on any machine:
#
#     STAGES="baselines study parallel survey" LANES=2 ENGINES=simulated MODEL=smollm2-135m PROFILE=smoke \
#         STUDY=mine.yaml BUDGET=40s TRIALS=8 bash ...
#
# (JOINT_STUDY is what `engines` runs, SPECULATION the space of `speculation`, SHORT_BUDGET its budget.)
# Several ranks may speed up their all-reduce by NVLink multicast, which some hosts must not use: it is off.
set -u
here=$(cd "$(dirname "$0")" && pwd)
work=$1
mkdir -p "$work"

if [ "${2:-}" = keep ]; then
    cd "$work" && find . -name ledger.jsonl -o -name baseline.json -o -name '*.txt' -o -name '*.log' -size -2M | tar -czf "$3" -T -
    exit
fi

command -v ceiling > /dev/null || { echo "error: no ceiling on the PATH: . TARGET/env.sh first" >&2; exit 2; }
export TORCH_SYMM_MEM_DISABLE_MULTICAST=1 NCCL_NVLS_ENABLE=0
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

study() { # NAME FILE OPTIONS...: the cells of a study side by side, within what is left
    local name=$1
    shift
    timeout -s INT "$(left)" ceiling study "$@" --at-once "$lanes" --resume \
        --runs "$work/runs" > "$work/$name.txt" 2> "$work/$name-progress.txt"
}

speculation() { # GPU SCENARIO
    on "$1" timeout -s INT "$(left)" ceiling search --scenario "$2" --profile "$profile" --model smollm2-135m \
        --engine "${ENGINES:-vllm}" --space "${SPECULATION:-$here/spaces/vllm-speculation.yaml}" \
        --quality past-tense --budget "${SHORT_BUDGET:-6m}" --no-baseline \
        --run "$work/runs/speculation-$2" > "$work/speculation-$2.txt" 2>&1
}

pair() {
    CUDA_VISIBLE_DEVICES=2,3 search pair --engine vllm --devices 2 --set tensor-parallel-size=2 --no-baseline \
        --trials 1 --budget 10m --set compilation-config.pass_config.fuse_allreduce_rms=false \
        --set env.VLLM_ALLREDUCE_USE_SYMM_MEM=0 --set env.VLLM_FLASHINFER_ALLREDUCE_BACKEND=trtllm
}

search() { # NAME OPTIONS...: one search within what is left
    local name=$1
    shift
    timeout -s INT "$(left)" ceiling search --scenario C --profile "$profile" --model "$model" "$@" \
        --run "$work/runs/$name" > "$work/$name.txt" 2>&1
}

wants() { # STAGE SECONDS: is it asked for, and is there time?
    [[ " ${STAGES:-baselines engines study parallel speculation} " == *" $1 "* ]] && [ "$(left)" -gt "$2" ] && say "$1, $(left) s left"
}

ceiling doctor > "$work/doctor-before.txt" 2>&1

if wants baselines 200; then
    (baselines 0 A && checks 0 ${ENGINES:-vllm} && baselines 0 B) &
    baselines $((1 % lanes)) C &
    baselines $((2 % lanes)) D &
    checks $((3 % lanes)) ${ENGINES:-sglang} &
    wait
fi
if wants engines 300; then
    study engines "${JOINT_STUDY:-$here/h100_engines.yaml}"
fi
if wants study 300; then
    study study "${STUDY:-$here/h100_short.yaml}" --cell "${CELLS:-*}"
fi
if wants parallel 280; then
    search "parallel-${lanes}x" --engine "${ENGINES:-vllm,sglang}" --devices "$lanes" --budget "${BUDGET:-16m}" --no-baseline
fi
if wants speculation 200; then
    speculation 0 C &
    [ "$lanes" -ge 2 ] || wait # never two searches on one GPU
    speculation $((1 % lanes)) B &
    [ "$lanes" -ge 4 ] && pair &
    wait
fi
if wants survey 120; then
    alone=()
    [ "$lanes" -ge 2 ] && [ -z "${ENGINES:-}" ] && alone=(--fix tensor-parallel-size --fix data-parallel-size)
    search survey --strategy survey --also B --planner random --engine "${ENGINES:-vllm}" --devices "$lanes" \
        "${alone[@]}" --trials "${TRIALS:-64}" --planner-seed "${SURVEY_SEED:-21}" --no-baseline ${SURVEY_OPTIONS:-}
fi

ceiling doctor > "$work/doctor-after.txt" 2>&1
say "done, $(left) s left"
