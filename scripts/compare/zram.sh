# shellcheck shell=bash
# Sourced by compare-redis: swap to a zram device of our own, and the limit on what Redis and that
# device take together.

zram='' zram_swap='' page_cluster='' swappiness=''

# start_zram BYTES: room for as much, with lz4 if the kernel has it.
start_zram() {
    local number
    number=$(cat /sys/class/zram-control/hot_add 2>/dev/null) ||
        die "no zram device can be added; it takes root and the module zram (modprobe zram)"
    zram=zram$number
    echo lz4 >"/sys/block/$zram/comp_algorithm" 2>/dev/null || true
    zram_algorithm=$(sed -nE 's/.*\[(.*)\].*/\1/p' "/sys/block/$zram/comp_algorithm")
    echo "$1" >"/sys/block/$zram/disksize"
    mkswap "/dev/$zram" >/dev/null
    swapon --priority 32767 "/dev/$zram"
    zram_swap=yes
    # One page at a time: neighbours on the device are none in memory.
    page_cluster=$(</proc/sys/vm/page-cluster)
    echo 0 >/proc/sys/vm/page-cluster
    # There is nothing but anonymous memory to reclaim. At the default of 60 the kernel, seeing how
    # often it comes back, looks for files instead until it gives up and kills.
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

# govern GROUP LIMIT FILE: keeps what a group uses and what the zram device takes below the limit
# together, by giving the group what the device leaves, until it is killed. Writes to a file the most
# that both took, for how long they took more than the limit, and how often it looked; since the
# beginning, or since the last signal USR1.
govern() {
    local group=$1 limit=$2 file=$3
    local slack=$((limit / 128)) last=$2 peak over looks waits zram_peak
    local used device rest now before oom never
    exec {never}<> <(:)
    trap 'exit 0' TERM
    begin() { peak=0 over=0 looks=0 waits=0 zram_peak=0 before=${EPOCHREALTIME/./}; }
    trap begin USR1
    begin
    while :; do
        read -r _ _ device _ <"/sys/block/$zram/mm_stat"
        read -r used <"$group/$usage_file"
        now=${EPOCHREALTIME/./}
        looks=$((looks + 1))
        peak=$((used + device > peak ? used + device : peak))
        zram_peak=$((device > zram_peak ? device : zram_peak))
        [[ $((used + device)) -le $limit ]] || over=$((over + now - before))
        before=$now
        rest=$((limit - slack - device))
        # Writing makes the kernel reclaim what is over it; it is spared trifles. If it cannot reclaim
        # so much, the old limit stays and is tried again.
        if [[ $((rest - last)) -gt 262144 || $((last - rest)) -gt 65536 ]]; then
            if { echo "$rest" >"$group/$limit_file"; } 2>/dev/null; then last=$rest; fi
        fi
        # Where the kernel does not find anything to reclaim at once, the server waits, and is let go on.
        if [[ -e $group/memory.oom_control ]]; then
            oom=$(<"$group/memory.oom_control")
            if [[ $oom == *under_oom\ 1* ]]; then
                waits=$((waits + 1)) last=$((last + 262144))
                echo "$last" >"$group/$limit_file"
            fi
        fi
        echo "peak_bytes=$peak over_ms=$((over / 1000)) zram_bytes=$device zram_peak_bytes=$zram_peak looks=$looks waits=$waits" >"$file"
        read -rt 0.02 -u "$never" _ || true
    done
}
