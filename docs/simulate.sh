#!/usr/bin/env bash
# Makes the pictures docs/simulate-*.svg and the tables of docs/simulate.md anew, in some minutes:
#
#     docs/simulate.sh build/eyrie
#
# Needs jq and gnuplot. All of it is simulated: it is the same on every machine.
set -euo pipefail
eyrie=$(realpath "${1:?usage: docs/simulate.sh build/eyrie}")
cd "$(dirname "$0")"
data=$(mktemp -d)
trap 'rm -r "$data"' EXIT

# A GPU of a data centre, with a matrix unit for many rows, and what comes to it: prompts of 1400 tokens and answers of 240 on
# average, both lognormal.
device="bandwidth=3.3T,flops=600T,decode-flops=60T,memory=80G,launch=4u,link=25G"
load=(--prompt-tokens 1000~0.8 --output-tokens 200~0.6)
limits=(--first-token 1 --between-tokens 0.05)

# A line: what x is, ms at the 99th percentile to the first token and between tokens, tokens/s, and % of arithmetic and bandwidth.
line() {        # X ARGUMENTS... of eyrie sim
    "$eyrie" sim "${@:2}" --json |
        jq -r "[$1, 1e3 * .first_token.p99, 1e3 * .between_tokens.p99, .tokens / .seconds, 100 * .arithmetic, 100 * .memory] | @tsv"
}

over_rates() {  # FILE ARGUMENTS...: a line for each of $rates
    local rate
    for rate in $rates; do line "$rate" -m synthetic:griffin-7b "${load[@]}" --rate "$rate" --requests 5000 "${@:2}"; done >"$data/$1"
}

# Those who read, and those who decode, of so many devices.
apart() {       # READERS DEVICES
    printf '%s\n' --on "count=$1,phase=prefill,$device" --on "count=$(($2 - $1)),phase=decode,$device"
}

rates="1 2 3 4 5 6 7 8 8.5 9 9.5 10"
for policy in fifo chunked roofline; do over_rates "$policy" --on "$device" --policy "$policy" --token-interval 0.05; done

rates="10 20 30 40 50 55 60 65 70 75 80"
over_rates mixed --on "count=8,$device" --token-interval 0.05
for readers in 2 3 4; do
    mapfile -t devices < <(apart "$readers" 8)
    over_rates "apart-$readers" "${devices[@]}"
done

for model in hawk griffin mqa; do
    for length in 512 1024 2048 4096 8192 16384; do
        line "$length" -m "synthetic:$model-7b" --on "$device,decode-flops=600T" --context "$((512 + length))" --rows 1024 \
            --prompt-tokens 512 --output-tokens "$length" --requests 1024
    done >"$data/$model"
done

for count in 1 2 4 8 16 32 64 128; do
    search=(-m synthetic:griffin-7b "${load[@]}" --search "${limits[@]}" --rate "$((8 * count))" --requests "$((1000 * count))")
    line .search.rate "${search[@]}" --on "count=$count,$device" --token-interval 0.05 | sed "s/^/$count\t/" >>"$data/scale"
    if ((count < 8)); then continue; fi
    mapfile -t devices < <(apart "$((count * 3 / 8))" "$count")
    line .search.rate "${search[@]}" "${devices[@]}" | sed "s/^/$count\t/" >>"$data/scale-apart"
done

# --------------------------------------------------------------------------------------------------------- pictures

draw() {        # NAME WIDTH: the commands on standard input, after those for all
    { echo "set terminal svg size $2,320 font 'sans-serif,12' background '#ffffff'
            set output 'simulate-$1.svg'
            set datafile separator '\t'
            set grid lc rgb '#dddddd'
            set border 3
            set tics nomirror
            set style data linespoints
            set linetype 1 lc rgb '#0072b2' lw 2 pt 7 ps 0.4
            set linetype 2 lc rgb '#d55e00' lw 2 pt 7 ps 0.4
            set linetype 3 lc rgb '#009e73' lw 2 pt 7 ps 0.4
            set linetype 4 lc rgb '#cc79a7' lw 2 pt 7 ps 0.4
            set key left top
            cd '$data'"
      cat; } | sed "s|set output '|&$PWD/|" | gnuplot
}

waits="set logscale y
       set xlabel 'requests a second'
       set multiplot layout 1,2
       set title 'to the first token, p99, ms'"

draw policies 900 <<<"$waits
    plot 'fifo' u 1:2 t 'fifo', 'chunked' u 1:2 t 'chunked', 'roofline' u 1:2 t 'roofline'
    set title 'between tokens, p99, ms; 50 asked for'
    plot 'fifo' u 1:3 t 'fifo', 'chunked' u 1:3 t 'chunked', 'roofline' u 1:3 t 'roofline'"

draw phases 900 <<<"$waits
    plot 'mixed' u 1:2 t '8 do both', for [n=2:4] 'apart-'.n u 1:2 t sprintf('%d read, %d decode', n, 8 - n)
    set title 'between tokens, p99, ms'
    plot 'mixed' u 1:3 t '8 do both', for [n=2:4] 'apart-'.n u 1:3 t sprintf('%d read, %d decode', n, 8 - n)"

draw models 560 <<<"set logscale x 2
    set yrange [0:]
    set key left bottom
    set xlabel 'tokens generated of a prompt of 512'
    set title 'tokens a second generated, all at once'
    plot 'hawk' u 1:4 t 'Hawk 7B', 'griffin' u 1:4 t 'Griffin 7B', 'mqa' u 1:4 t 'MQA Transformer 7B'"

draw devices 560 <<<"set logscale x 2
    set yrange [0:12]
    set key right bottom
    set xlabel 'devices'
    set title 'requests a second and device, first token within 1 s, others 50 ms'
    plot 'scale' u 1:(\$2/\$1) t 'all do both', 'scale-apart' u 1:(\$2/\$1) t '3 of 8 read'"

# ---------------------------------------------------------------------------------------------------------- tables

waiting() {     # NAME FILE
    awk -v OFS=' | ' -v name="$1" '{ printf "| %s | %s | %.0f | %.1f | %.0f | %.0f | %.0f |\n", name, $1, $2, $3, $4, $5, $6 }' "$data/$2"
}

tables() {
    echo '| | requests/s | first token p99, ms | between p99, ms | tokens/s | arithmetic, % | bandwidth, % |'
    echo '|---|---|---|---|---|---|---|'
    for policy in fifo chunked roofline; do waiting "$policy" "$policy" | awk -F'|' '$3 ~ /^ (2|6|8|9|9.5) $/'; done
    waiting '8 devices' mixed | awk -F'|' '$3 ~ /^ (40|60|80) $/'
    for readers in 2 3 4; do
        waiting "$readers read, $((8 - readers)) decode" "apart-$readers" | awk -F'|' '$3 ~ /^ (40|60|80) $/'
    done
    echo
    echo '| tokens generated | Hawk, tokens/s | Griffin | MQA | Griffin over MQA |'
    echo '|---|---|---|---|---|'
    paste "$data/hawk" "$data/griffin" "$data/mqa" |
        awk '{ printf "| %d | %.0f | %.0f | %.0f | %.2f |\n", $1, $4, $10, $16, $10 / $16 }'
    echo
    echo '| devices | requests/s, all do both | of them and device | 3 of 8 read | of them and device |'
    echo '|---|---|---|---|---|'
    join -t $'\t' -a 1 -e - -o 1.1,1.2,2.2 <(sort "$data/scale") <(sort "$data/scale-apart") | sort -n |
        awk '{ printf "| %d | %.1f | %.2f |", $1, $2, $2 / $1; printf $3 == "-" ? " - | - |\n" : " %.1f | %.2f |\n", $3, $3 / $1 }'
}

tables >"$data/tables"
awk -v tables="$data/tables" '
    /^<!-- docs\/simulate.sh: / { print; if (/begin/) { print ""; while ((getline row < tables) > 0) print row; print ""; inside = 1 } else inside = 0; next }
    !inside { print }' simulate.md >"$data/page"
cp "$data/page" simulate.md
