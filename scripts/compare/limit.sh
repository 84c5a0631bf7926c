# shellcheck shell=bash
# Sourced by compare-redis: both servers under one limit of memory.

# fill SIDE: at a rate at which evictor and kernel can keep the limit. Fails if the server has died.
fill() {
    local line
    line=$(load --phases fill --rate 40000) || return 1
    printf '    %s: filled with %s keys, %s refused\n' "$1" "$keys" "$(figure errors "$line")"
}

# measure SIDE ROUND WHAT OPTION...: under a load with these options. Sets `measured`. Fails if the server
# has died.
measure() {
    local line user system faults user2 system2 faults2 refaults
    refaults=$(info thermocline refaults)
    read -r user system faults < <(server_usage)
    line=$(load --phases run --duration "$seconds" --json "$place/limit.json" "${@:4}") || return 1
    read -r user2 system2 faults2 < <(server_usage)
    refaults=$(($(info thermocline refaults) - refaults))
    measured="round=$2 side=$1 what=$3 ${line#load phase=run } major_faults=$((faults2 - faults)) refaults=$refaults"
    measured+=" user_seconds=$(seconds_of $((user2 - user))) system_seconds=$(seconds_of $((system2 - system)))"
    # Processor time depends less on other programs of the machine.
    measured+=" cpu_us_per_op=$(per_request $((user2 - user + system2 - system)) "$line")"
}

measure_redis() {
    local governor_ticks original compressed options _
    add_group redis
    start_zram $((32 * bytes))
    limit_group "$group" "$bytes"
    [[ ! -e $group/memory.swappiness ]] || echo 200 >"$group/memory.swappiness"
    run_redis "$group"
    start_governor "$group" "$bytes"
    { fill redis && warm_up_until_steady --pipeline "$pipeline"; } || die "redis has died; see $place"
    printf '    redis: so far %s\n' "$(ask_governor)"
    for options in full paced; do
        local -n load_options=$options
        governor_ticks=$(ticks_of "$governor_PID")
        measure redis "$1" "${load_options[@]}" || die "redis has died; see $place"
        governor_ticks=$(($(ticks_of "$governor_PID") - governor_ticks))
        read -r original compressed _ <"/sys/block/$zram/mm_stat"
        keep "$measured" "$(ask_governor)" "algorithm=$zram_algorithm swapped_bytes=$original" \
            "compressed_bytes=$compressed governor_seconds=$(seconds_of "$governor_ticks")" \
            "used_memory=$(info memory used_memory)"
    done
    stop_governor
    stop_server
    stop_zram
    remove_groups
}

# measure_ours ROUND THREADS SIDE: the server's own limit is a little below that of its control group.
measure_ours() {
    local options
    add_group ours
    limit_group "$group" "$bytes"
    forbid_swap "$group" "$bytes"
    run_ours "$group" "$2" --memory-limit $((bytes / 100 * (100 - margin))) --maxmemory $((16 * bytes)) \
        "${ours_options[@]}"
    if fill "$3" && warm_up_until_steady --pipeline "$pipeline"; then
        for options in full paced; do
            local -n load_options=$options
            measure "$3" "$1" "${load_options[@]}" || break
            keep "$measured" "peak_bytes=$(group_peak "$group") over_ms=0"
        done
        redis-cli -s "$socket" info thermocline 2>&1 | tr -d '\r' >"$place/$3.info" || true
    fi
    # Also after the kernel has killed the server.
    keep "round=$1 side=$3 what=survival kills=$(group_kills "$group") peak_bytes=$(group_peak "$group")"
    stop_server
    remove_groups
}

compare_limit() {
    local round side count best lost bytes=$((limit << 20))
    [[ $size =~ ^[0-9]+$ ]] || die "limit takes values of one size, in bytes"
    # A key has 16 bytes.
    keys=$((bytes * dataset / 100 / (size + 16)))
    full=(limit --pipeline "$pipeline") paced=(limit-paced --rate "$rate")
    for ((round = 1; round <= rounds; round++)); do
        echo "# round $round of $rounds: limit $limit MiB, $keys values of $size bytes"
        for side in "${sides[@]}"; do
            case $side in
            redis) measure_redis "$round" ;;
            ours) for count in "${threads[@]}"; do measure_ours "$round" "$count" "ours-$count"; done ;;
            esac
        done
    done
    echo
    { grep -v what=survival "$results" || true; } | awk -f "$repo/scripts/compare/medians.awk"
    lost=$(sum_of misses errors wrong kills)
    [[ $lost == 0 ]] || echo "# values were lost or wrong, or a server was killed: see $results"
    if [[ ! $only ]]; then
        best=$(best_of_ours limit)
        echo "compare limit ops_ratio=$(ratio limit ops_per_second "$best") p50_ratio=$(ratio limit p50_us "$best")" \
            "p99_ratio=$(ratio limit p99_us "$best") p999_ratio=$(ratio limit p999_us "$best")" \
            "paced_p999_ratio=$(ratio limit-paced p999_us "$best") cpu_ratio=$(ratio limit cpu_us_per_op "$best")" \
            "side=$best limit_mib=$limit dataset_percent=$dataset exceeded=$(sum_of kills)" \
            "redis_over_ms=$(column limit redis over_ms | median) lost_or_wrong=$lost"
    fi
    [[ $lost == 0 ]]
}
