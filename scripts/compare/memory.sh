# shellcheck shell=bash
# Sourced by compare-redis: everything in memory, no limits.

# by_redis_benchmark SIDE ROUND DEPTH
by_redis_benchmark() {
    local test rate p50 p99 _ requests=$((seconds * ($3 == 1 ? 20000 : 100000)))
    for test in set get; do
        # test, rps, avg, min, p50, p95, p99, max; milliseconds, in quotes.
        IFS=, read -r _ rate _ _ p50 _ p99 _ < <(redis-benchmark -s "$socket" -t $test -n "$requests" -r "$keys" \
            -d "$(typical_size)" -c "$connections" -P "$3" --csv 2>/dev/null | tail -n 1 | tr -d '"')
        require_alive
        keep "round=$2 size=$size side=$1 what=benchmark-$test-P$3 ops_per_second=$rate" \
            "p50_us=$(awk -v ms="$p50" 'BEGIN { print ms * 1000 }')" \
            "p99_us=$(awk -v ms="$p99" 'BEGIN { print ms * 1000 }')"
    done
}

# measure_in_memory SIDE ROUND
measure_in_memory() {
    local depth line
    line=$(load --phases fill) || die "$1 could not be filled; see $place"
    for depth in 1 16; do
        line=$(load --phases run --warm-up 2s --duration "$seconds" --pipeline "$depth" --json "$place/memory.json") ||
            die "$1 has failed; see $place"
        require_alive
        keep "round=$2 size=$size side=$1 what=load-P$depth ${line#load phase=run }"
        by_redis_benchmark "$1" "$2" "$depth"
    done
}

# compare_size_in_memory ROUND
compare_size_in_memory() {
    local side count
    echo "# round $1 of $rounds: $keys values of $size bytes"
    for side in "${sides[@]}"; do
        case $side in
        redis)
            run_redis "$group"
            measure_in_memory redis "$1"
            stop_server
            ;;
        ours)
            for count in "${threads[@]}"; do
                run_ours "$group" "$count" --cold-after 1h "${ours_options[@]}"
                measure_in_memory "ours-$count" "$1"
                stop_server
            done
            ;;
        esac
    done
}

compare_memory() {
    local round lost worst
    amount=(--keys "$keys")
    add_group both
    for ((round = 1; round <= rounds; round++)); do
        for size in "${sizes[@]}"; do compare_size_in_memory "$round"; done
    done
    print_table
    lost=$(sum_of misses errors wrong)
    echo "compare memory worst: $worst lost_or_wrong=$lost"
    [[ $lost == 0 ]]
}
