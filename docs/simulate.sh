#!/usr/bin/env bash
# Makes the pictures docs/simulate-*.svg and the table of docs/simulate.md anew, in some minutes:
#
#     docs/simulate.sh build/eyrie
#
# Needs jq and gnuplot. All of it is simulated: it is the same on every machine.
set -euo pipefail
eyrie=$(realpath "${1:?usage: docs/simulate.sh build/eyrie}")
cd "$(dirname "$0")"
data=$(mktemp -d)
trap 'rm -r "$data"' EXIT

# A data centre's GPU, and what comes to it: prompts of 1400 tokens and answers of 240 on average, both lognormal.
device="bandwidth=3.3T,flops=600T,decode-flops=60T,memory=80G,launch=4u,link=25G"
load=(--prompt-tokens 1000~0.8 --output-tokens 200~0.6)
limits=(--first-token 1 --between-tokens 0.05)

sim() { "$eyrie" sim -m "synthetic:$1" "${@:2}" --json; }

# Name, columns of it: rate, first token p50 and p99, between tokens p50 and p99 (ms), tokens/s, busy, arithmetic, memory (%).
columns='[.requests / .seconds, 1e3 * .first_token.p50, 1e3 * .first_token.p99, 1e3 * .between_tokens.p50, 1e3 * .between_tokens.p99,
          .tokens / .seconds, 100 * .busy, 100 * .arithmetic, 100 * .memory]'

curve() {       # FILE MODEL ARGUMENTS...: a line for each of $rates
    local rate file=$1
    shift
    for rate in $rates; do
        sim "$@" "${load[@]}" --rate "$rate" --requests 4000 | jq -r "[$rate] + $columns | @tsv"
    done >"$data/$file"
}

# --------------------------------------------------------------------------------------------------------- policies
rates="1 2 3 4 5 6 7 8 8.5 9 9.5 10"
for policy in fifo chunked roofline; do curve "$policy" griffin-7b --on "$device" --policy "$policy" --token-interval 0.05; done

# ------------------------------------------------------------------------------------- phases on devices of their own
rates="10 20 30 40 50 55 60 65 70 75 80"
curve mixed griffin-7b --on "count=8,$device" --token-interval 0.05
for readers in 2 3 4; do
    curve "apart-$readers" griffin-7b --on "count=$readers,phase=prefill,$device" --on "count=$((8 - readers)),phase=decode,$device"
done

# ------------------------------------------------------------------------------------------------ Griffin beside MQA
for model in hawk griffin mqa; do
    for prompt in 512 1024 2048 4096 8192 16384 32768; do
        sim "$model-7b" --on "$device" --context 65536 --prompt-tokens "$prompt" --output-tokens 1024 --requests 1000 --rows 1024 |
            jq -r "[$prompt] + $columns + [.slots] | @tsv"
    done >"$data/$model"
done

# ------------------------------------------------------------------------------------------------ 1 to 128 devices
for count in 1 2 4 8 16 32 64 128; do
    sim griffin-7b --on "count=$count,$device" --token-interval 0.05 "${load[@]}" "${limits[@]}" --search --rate "$((8 * count))" \
        --requests "$((200 * count))" | jq -r "[$count, .search.rate] + $columns | @tsv"
done >"$data/scale"
for count in 4 8 16 32 64 128; do
    sim griffin-7b --on "count=$((count / 4)),phase=prefill,$device" --on "count=$((count * 3 / 4)),phase=decode,$device" "${load[@]}" \
        "${limits[@]}" --search --rate "$((8 * count))" --requests "$((200 * count))" | jq -r "[$count, .search.rate] + $columns | @tsv"
done >"$data/scale-apart"

cp -r "$data" "${SIM_KEEP:-/dev/null}" 2>/dev/null || true
