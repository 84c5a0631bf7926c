# shellcheck shell=bash
# Sourced by compare-redis: swap to a zram device of our own, and a limit on the memory of Redis and that
# device together.

zram='' zram_swap='' page_cluster='' swappiness=''

# Prints why there can be no zram device; nothing if there can.
zram_obstacle() {
    local program
    if [[ ! -e /sys/class/zram-control/hot_add ]]; then
        echo "the kernel has no zram, or has not loaded the module (modprobe zram)"
    elif [[ ! -w /sys/block || ! -w /proc/sys/vm/swappiness ]]; then
        echo "/sys or /proc/sys is mounted read-only"
    else
        for program in mkswap swapon swapoff; do
            command -v $program >/dev/null || echo "$program is missing"
        done | head -n 1
    fi
}

# start_zram BYTES: a device of that size, with lz4 if the kernel has it. Fails, with a line of output, if the
# system refuses it; then stop_zram removes what was added.
start_zram() {
    local number
    number=$(cat /sys/class/zram-control/hot_add 2>/dev/null) || { echo "no zram device can be added" && return 1; }
    zram=zram$number
    echo lz4 >"/sys/block/$zram/comp_algorithm" 2>/dev/null || true
    zram_algorithm=$(sed -nE 's/.*\[(.*)\].*/\1/p' "/sys/block/$zram/comp_algorithm")
    { echo "$1" >"/sys/block/$zram/disksize"; } 2>/dev/null || { echo "$zram takes no size" && return 1; }
    mkswap "/dev/$zram" >/dev/null || return 1
    swapon --priority 32767 "/dev/$zram" 2>&1 || return 1
    zram_swap=yes
    # Swap in one page at a time: neighbours on the device are no neighbours in memory.
    page_cluster=$(</proc/sys/vm/page-cluster)
    echo 0 >/proc/sys/vm/page-cluster
    # There is only anonymous memory to reclaim. At the default of 60 the kernel sees how often that memory
    # comes back, looks for files instead, and in the end gives up and kills.
    swappiness=$(</proc/sys/vm/swappiness)
    echo 200 >/proc/sys/vm/swappiness
}

stop_zram() {
    [[ ! $page_cluster ]] || echo "$page_cluster" >/proc/sys/vm/page-cluster
    [[ ! $swappiness ]] || echo "$swappiness" >/proc/sys/vm/swappiness
    page_cluster='' swappiness=''
    [[ $zram ]] || return 0
    [[ ! $zram_swap ]] || swapoff "/dev/$zram" || true
    reset_zram() { echo 1 >"/sys/block/$zram/reset"; }
    remove_zram() { echo "${zram#zram}" >/sys/class/zram-control/hot_remove; }
    if ! patiently reset_zram || ! patiently remove_zram; then
        echo "compare-redis: $zram stays behind" >&2
    fi
    zram=''
    zram_swap=''
}

# start_governor GROUP LIMIT: see examples/load/src/bin/govern.rs.
start_governor() {
    coproc governor {
        exec "$CARGO_TARGET_DIR/release/govern" "$2" "/sys/block/$zram/mm_stat" "$1/$usage_file" "$1/$limit_file" \
            "$1/memory.stat"
    }
}

# Prints the governor's figures since the last call.
ask_governor() {
    local line
    echo >&"${governor[1]}"
    read -r line <&"${governor[0]}"
    echo "$line"
}

stop_governor() {
    [[ ${governor_PID-} ]] || return 0
    local pid=$governor_PID
    kill "$pid" 2>/dev/null || true
    wait "$pid" 2>/dev/null || true
}
