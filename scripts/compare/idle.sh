# shellcheck shell=bash
# Sourced by compare-redis: how much memory our server saves while no request arrives.

# The memory that the server's group uses, in bytes.
used() {
    cat "$group/$usage_file"
}

# The memory of the arena alone, which holds the values: its pages and their compressed copies.
used_by_values() {
    echo $(($(info thermocline resident_bytes) + $(info thermocline store_bytes)))
}

# percent_saved BEFORE AFTER
percent_saved() {
    awk -v a="$1" -v b="$2" 'BEGIN { printf "%.1f", 100 * (1 - b / a) }'
}

# One request at a time, and few per second, as after an idle time. So a touch waits for no other touch.
touch_some() {
    load --phases first --every 20 --rate 2000 --verify 100% --json "$place/idle.json"
}

# compare_size_idle ROUND
compare_size_idle() {
    local line again before after values_before values_after
    echo "# round $1 of $rounds: $keys values of $size bytes, left alone for $idle s"
    add_group idle
    run_ours "$group" "${threads[0]}" --cold-after "$cold_after" "${ours_options[@]}"
    line=$(load --phases fill)
    before=$(used) values_before=$(used_by_values)
    sleep "$idle"
    after=$(used) values_after=$(used_by_values)
    redis-cli -s "$socket" info thermocline | tr -d '\r' >"$place/idle-$size.info"
    line=$(touch_some)
    # The same keys again, to tell the cost of a refault from delays of the machine.
    again=$(touch_some)
    require_alive
    keep "round=$1 size=$size side=ours what=idle ${line#load phase=first }" \
        "refault_p999_us=$(info thermocline refault_us_p999) again_p50_us=$(figure p50_us "$again") again_p999_us=$(figure p999_us "$again")" \
        "before_bytes=$before after_bytes=$after saved_percent=$(percent_saved "$before" "$after")" \
        "values_saved_percent=$(percent_saved "$values_before" "$values_after")"
    stop_server
    remove_groups
}

# The medians of the present size, in a line that begins with what is saved.
idle_line() {
    echo "saved_percent=$(column idle ours saved_percent | median) size=$size" \
        "values_saved_percent=$(column idle ours values_saved_percent | median)" \
        "first_p50_us=$(column idle ours p50_us | median) first_p999_us=$(column idle ours p999_us | median)" \
        "refault_p999_us=$(column idle ours refault_p999_us | median)" \
        "again_p50_us=$(column idle ours again_p50_us | median) again_p999_us=$(column idle ours again_p999_us | median)"
}

compare_idle() {
    local round lost lines
    amount=(--keys "$keys")
    for ((round = 1; round <= rounds; round++)); do
        for size in "${sizes[@]}"; do compare_size_idle "$round"; done
    done
    lines=$(for size in "${sizes[@]}"; do idle_line; done | sort -t = -k 2 -g)
    lost=$(sum_of misses errors wrong)
    printf '\n%s\ncompare idle worst: %s lost_or_wrong=%s\n' "$lines" "${lines%%$'\n'*}" "$lost"
    [[ $lost == 0 ]]
}
