# shellcheck shell=bash
# Sourced by compare-redis: taking measurements and keeping them.

# figure NAME LINE: the word after NAME= in a line.
figure() {
    awk -v name="$1" '{ for (i = 1; i <= NF; i++) if (index($i, name "=") == 1) print substr($i, length(name) + 2) }' \
        <<<"$2"
}

# load OPTION...: the closing line of the load tool's last phase, for values of `size` and the `amount` of keys.
# Fails if there is none.
load() {
    local status=0 output
    # The keys are as long as redis-benchmark's, but different. The sequence number differs between calls,
    # so that the warm-up and the measurement do not ask for keys in the same order.
    output=$("$load" --prefix val: --sequence "${EPOCHREALTIME/./}" "${amount[@]}" --size "$size" \
        --connections "$connections" --threads "$load_threads" "$@" "$socket" 2>>"$place/load.log") || status=$?
    # Errors and wrong answers are in the line.
    [[ $status -le 1 && $output ]] || return 1
    printf '%s\n' "${output##*$'\n'}"
}

# keep WORD...: one measurement.
keep() {
    printf '%s\n' "$*" >>"$results"
    printf '  %s\n' "$*"
}

# warm_up_until_steady OPTION...: until two phases in turn differ by less than a twentieth.
warm_up_until_steady() {
    local before=0 now line _
    for _ in {1..12}; do
        line=$(load --phases run --duration "$warm_up" "$@") || return 1
        now=$(figure ops_per_second "$line")
        printf '    %s: warming up, %s operations per second\n' "$server_name" "$now"
        awk -v a="$now" -v b="$before" 'BEGIN { exit !(a < 1.05 * b && a > 0.95 * b) }' && return
        before=$now
    done
}

# column WHAT SIDE NAME: a figure of the present size in all rounds, one a line.
column() {
    awk -v what="what=$1" -v side="side=$2" -v name="$3=" -v size="size=$size" '
        index(" " $0 " ", " " what " ") && index(" " $0 " ", " " side " ") && index(" " $0 " ", " " size " ") {
            for (i = 1; i <= NF; i++) if (index($i, name) == 1) print substr($i, length(name) + 1)
        }' "$results"
}

# The median of the numbers on standard input.
median() {
    sort -g | awk '{ n[NR] = $1 }
        END { if (NR) printf "%.10g\n", NR % 2 ? n[(NR + 1) / 2] : (n[NR / 2] + n[NR / 2 + 1]) / 2; else print "-" }'
}

# sum_of NAME...: the sum of these figures in all measurements.
sum_of() {
    awk -v names=" $* " '{
        for (i = 1; i <= NF; i++) { split($i, pair, "="); if (index(names, " " pair[1] " ")) sum += pair[2] }
    } END { print sum + 0 }' "$results"
}

# most_of NAME: the largest of this figure in all measurements.
most_of() {
    awk -v name="$1=" '{
        for (i = 1; i <= NF; i++) if (index($i, name) == 1 && substr($i, length(name) + 1) + 0 > most)
            most = substr($i, length(name) + 1) + 0
    } END { print most + 0 }' "$results"
}

# print_table: the table of all measurements, the worst row first. Sets `worst` to the figures of that row.
print_table() {
    local table
    grep -q ops_per_second= "$results" || die "nothing was measured; see $place"
    table=$(awk -f "$repo/scripts/compare/table.awk" "$results")
    worst=${table##*$'\n'}
    printf '\n%s\n\n' "${table%$'\n'*}"
}

# typical_size: the first number of bytes in `size`, for tools that take one.
typical_size() {
    awk -v size="${size#lognormal:}" 'BEGIN {
        match(size, /^[0-9]+/)
        unit = toupper(substr(size, RLENGTH + 1, 1))
        print substr(size, 1, RLENGTH) * (unit == "K" ? 1024 : unit == "M" ? 1048576 : 1)
    }'
}

# seconds_of TICKS: for the clock with which the kernel counts processor time.
seconds_of() {
    awk -v ticks="$1" -v hz="$(getconf CLK_TCK)" 'BEGIN { printf "%.2f", ticks / hz }'
}

# ticks_of PID: processor time used so far, in user and kernel mode.
ticks_of() {
    # The name in parentheses may contain spaces.
    sed 's/.*) //' "/proc/$1/stat" | awk '{ print $12 + $13 }'
}

# per_request TICKS LINE: microseconds for each request that a load's closing line counts.
per_request() {
    awk -v seconds="$(seconds_of "$1")" -v requests="$(figure requests "$2")" \
        'BEGIN { printf "%.2f", requests ? seconds * 1e6 / requests : 0 }'
}
