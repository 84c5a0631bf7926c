# shellcheck shell=bash
# Sourced by compare-redis: what our server saves of values that are left alone.

# The memory that the server's group uses, in bytes.
used() {
    cat "$group/$usage_file"
}

compare_idle() {
    local round line before after saved lost
    for ((round = 1; round <= rounds; round++)); do
        echo "# round $round of $rounds: $keys values of $size bytes, left alone for $idle s"
        add_group idle
        run_ours "$group" "${threads[0]}" --cold-after "$cold_after" "${ours_options[@]}"
        line=$(load --phases fill)
        before=$(used)
        sleep "$idle"
        after=$(used)
        redis-cli -s "$socket" info thermocline | tr -d '\r' >"$place/idle.info"
        # Few at a time, as a cache that was left alone is asked; so a touch does not wait for others.
        line=$(load --phases first --every 20 --rate 2000 --verify 100% --json "$place/idle.json")
        require_alive
        keep "round=$round side=ours what=idle ${line#load phase=first } before_bytes=$before after_bytes=$after" \
            "saved_percent=$(awk -v a="$before" -v b="$after" 'BEGIN { printf "%.1f", 100 * (1 - b / a) }')"
        stop_server
        remove_groups
    done
    saved=$(column ours saved_percent | median)
    lost=$(sum_of misses errors wrong)
    echo
    echo "compare idle saved_percent=$saved first_p50_us=$(column ours p50_us | median)" \
        "first_p999_us=$(column ours p999_us | median) lost_or_wrong=$lost"
    [[ $lost == 0 ]]
}
