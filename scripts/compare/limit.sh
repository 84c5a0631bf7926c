# shellcheck shell=bash
# Sourced by compare-redis: both servers under one limit of memory.

# fill_rate: writes per second at which evictor and kernel can keep the limit: 20 MB of keys and values.
fill_rate() {
    awk -v size="$(typical_size)" 'BEGIN {
        rate = int(20e6 / (size + 16)) + 1
        print rate < 100000 ? rate : 100000
    }'
}

# stored_and_evicted: the numbers of keys that the server has and has evicted, once both no longer change.
stored_and_evicted() {
    local now before='' _
    for _ in {1..100}; do
        now=$(redis-cli -s "$socket" info all | tr -d '\r' | awk -F '[:=,]' '
            $1 == "db0" { stored = $3 }
            $1 == "evicted_keys" { evicted = $2 }
            END { print stored + 0, evicted + 0 }')
        [[ $now != "$before" ]] || break
        before=$now
        sleep 0.2
    done
    echo "$now"
}

# fill SIDE: sets each key once. Sets `unexplained` to the number of keys that are gone without an eviction.
# Fails if the server has died.
fill() {
    local line stored evicted
    line=$(load --phases fill --rate "$(fill_rate)") || return 1
    read -r stored evicted < <(stored_and_evicted)
    unexplained=$(($(figure requests "$line") - $(figure errors "$line") - stored - evicted))
    printf '    %s: filled with %s keys, %s refused, %s evicted\n' "$1" "$(figure requests "$line")" \
        "$(figure errors "$line")" "$evicted"
}

# measure SIDE ROUND WHAT OPTION...: under a load with these options. Sets `measured`. Fails if the server
# has died.
measure() {
    local line user system faults user2 system2 faults2 refaults evicted missing=0
    refaults=$(info thermocline refaults)
    read -r user system faults < <(server_usage)
    line=$(load --phases run --duration "$seconds" --json "$place/limit.json" "${@:4}") || return 1
    read -r user2 system2 faults2 < <(server_usage)
    refaults=$(($(info thermocline refaults) - refaults))
    evicted=$(info stats evicted_keys)
    # A key may be missing only because of an eviction.
    [[ $evicted != 0 ]] || missing=$(figure misses "$line")
    measured="round=$2 size=$size side=$1 what=$3 ${line#load phase=run } major_faults=$((faults2 - faults)) refaults=$refaults"
    measured+=" user_seconds=$(seconds_of $((user2 - user))) system_seconds=$(seconds_of $((system2 - system)))"
    # Processor time depends less on other programs of the machine.
    measured+=" cpu_us_per_op=$(per_request $((user2 - user + system2 - system)) "$line")"
    measured+=" evicted_keys=$evicted unexplained=$missing"
}

# end_redis: stops Redis, and removes its swap device and its group.
end_redis() {
    stop_governor
    stop_server
    stop_zram
    remove_groups
}

# give_up_on_redis ROUND: the kernel may kill Redis, because the limit is too low for it. Any other end is a mistake.
give_up_on_redis() {
    [[ $(group_kills "$group") -gt 0 ]] || die "redis has died; see $place"
    keep "round=$1 size=$size side=redis what=fill redis_kills=1"
    printf '    redis: killed by the kernel, because it used more than the limit\n'
    end_redis
}

# measure_redis ROUND
measure_redis() {
    local governor_ticks original compressed options _
    add_group redis
    if ! start_zram $((32 * bytes)) >"$temp/zram"; then
        [[ ! $only ]] || die "there is no Redis on zram: $(<"$temp/zram")"
        echo "# no figures of Redis on zram: $(<"$temp/zram")"
        stop_zram
        remove_groups
        sides=(ours)
        return
    fi
    limit_group "$group" "$bytes"
    [[ ! -e $group/memory.swappiness ]] || echo 200 >"$group/memory.swappiness"
    run_redis "$group"
    start_governor "$group" "$bytes"
    { fill redis && warm_up_until_steady --pipeline "$pipeline"; } || { give_up_on_redis "$1" && return; }
    keep "round=$1 size=$size side=redis what=fill unexplained=$unexplained"
    printf '    redis: so far %s\n' "$(ask_governor)"
    for options in full paced; do
        local -n load_options=$options
        governor_ticks=$(ticks_of "$governor_PID")
        measure redis "$1" "${load_options[@]}" || { give_up_on_redis "$1" && return; }
        governor_ticks=$(($(ticks_of "$governor_PID") - governor_ticks))
        read -r original compressed _ <"/sys/block/$zram/mm_stat"
        keep "$measured" "$(ask_governor)" "algorithm=$zram_algorithm swapped_bytes=$original" \
            "compressed_bytes=$compressed governor_seconds=$(seconds_of "$governor_ticks")" \
            "used_memory=$(info memory used_memory)"
    done
    end_redis
}

# measure_ours ROUND THREADS SIDE: the server's own limit is a little below that of its control group.
measure_ours() {
    local options unexplained=0 failures=0
    add_group ours
    limit_group "$group" "$bytes"
    forbid_swap "$group" "$bytes"
    run_ours "$group" "$2" --memory-limit $((bytes / 100 * (100 - margin))) --maxmemory $((16 * bytes)) \
        "${ours_options[@]}"
    if fill "$3" && warm_up_until_steady --pipeline "$pipeline"; then
        for options in full paced; do
            local -n load_options=$options
            measure "$3" "$1" "${load_options[@]}" || { failures=1 && break; }
            keep "$measured" "peak_bytes=$(group_peak "$group") over_ms=0"
        done
        redis-cli -s "$socket" info thermocline 2>&1 | tr -d '\r' >"$place/$3-$size.info" || true
    else
        failures=1
    fi
    # Also after the kernel has killed the server.
    keep "round=$1 size=$size side=$3 what=fill unexplained=$unexplained failures=$failures" \
        "kills=$(group_kills "$group") peak_bytes=$(group_peak "$group")"
    stop_server
    remove_groups
}

# compare_size_under_limit ROUND
compare_size_under_limit() {
    local side count
    echo "# round $1 of $rounds: limit $limit MiB, keys and values of $((bytes * dataset / 100 >> 20)) MiB, values of $size bytes"
    for side in "${sides[@]}"; do
        case $side in
        redis) measure_redis "$1" ;;
        ours) for count in "${threads[@]}"; do measure_ours "$1" "$count" "ours-$count"; done ;;
        esac
    done
}

compare_limit() {
    local round lost obstacle worst unexplained=0 bytes=$((limit << 20))
    if [[ $only != ours ]]; then
        obstacle=$(zram_obstacle)
        if [[ $obstacle ]]; then
            [[ ! $only ]] || die "there is no Redis on zram: $obstacle"
            echo "# no figures of Redis on zram: $obstacle"
            sides=(ours)
        fi
    fi
    amount=(--dataset $((bytes * dataset / 100)))
    full=(limit --pipeline "$pipeline") paced=(limit-paced --rate "$rate")
    for ((round = 1; round <= rounds; round++)); do
        for size in "${sizes[@]}"; do compare_size_under_limit "$round"; done
    done
    print_table
    lost=$(sum_of unexplained errors wrong kills failures)
    [[ $lost == 0 ]] || echo "# values were lost or wrong, or a server or a load has ended early: see $place"
    echo "compare limit worst: $worst limit_mib=$limit dataset_percent=$dataset exceeded=$(sum_of kills)" \
        "redis_over_ms=$(most_of over_ms) redis_kills=$(sum_of redis_kills) lost_or_wrong=$lost"
    [[ $lost == 0 ]]
}
