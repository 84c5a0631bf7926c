# shellcheck shell=bash
# Sourced by compare-redis: groups of processes whose memory is limited and counted, with version 1 or
# 2 of the kernel's control groups. Both versions count the kernel's own memory for a process, and neither
# counts the content of a zram device.

groups=()

# Finds the memory controller and the names of its files.
find_memory_controller() {
    local v2
    memory_root=$(awk '$3 == "cgroup" && $4 ~ /(^|,)memory(,|$)/ { print $2; exit }' /proc/mounts)
    if [[ $memory_root ]]; then
        cgroup_version=1 limit_file=memory.limit_in_bytes usage_file=memory.usage_in_bytes
        return
    fi
    v2=$(awk '$3 == "cgroup2" { print $2; exit }' /proc/mounts)
    [[ $v2 ]] && grep -qw memory "$v2/cgroup.controllers" || die "there is no memory controller of control groups"
    # For the groups below.
    grep -qw memory "$v2/cgroup.subtree_control" || echo +memory >"$v2/cgroup.subtree_control" ||
        die "$v2: the memory controller cannot be handed down"
    memory_root=$v2 cgroup_version=2 limit_file=memory.max usage_file=memory.current
}

# add_group NAME: sets `group` to the directory of a new group.
add_group() {
    group=$memory_root/compare-redis.$$.$1
    mkdir "$group" || die "no control group can be added; it takes root"
    groups+=("$group")
}

# limit_group GROUP BYTES: above the limit the kernel reclaims or kills.
limit_group() {
    echo "$2" >"$1/$limit_file"
}

# forbid_swap GROUP BYTES: after limit_group, with the same limit.
forbid_swap() {
    case $cgroup_version in
    1)
        if [[ -e $1/memory.memsw.limit_in_bytes ]]; then
            echo "$2" >"$1/memory.memsw.limit_in_bytes"
        else
            echo 0 >"$1/memory.swappiness"
        fi
        ;;
    2) echo 0 >"$1/memory.swap.max" ;;
    esac
}

# The most bytes that a group has ever used.
group_peak() {
    case $cgroup_version in
    1) cat "$1/memory.max_usage_in_bytes" ;;
    2) cat "$1/memory.peak" 2>/dev/null || echo 0 ;;
    esac
}

# How many of a group's processes the kernel has killed because of its limit.
group_kills() {
    case $cgroup_version in
    1) awk '$1 == "oom_kill" { print $2 }' "$1/memory.oom_control" ;;
    2) awk '$1 == "oom_kill" { print $2 }' "$1/memory.events" ;;
    esac
}

# remove_group GROUP: removes a group whose processes have ended.
remove_group() {
    [[ -d $1 ]] || return 0
    [[ ! -e $1/memory.force_empty ]] || echo 0 >"$1/memory.force_empty" 2>/dev/null || true
    patiently rmdir "$1" || echo "compare-redis: $1 stays behind" >&2
}

remove_groups() {
    local each
    for each in "${groups[@]}"; do remove_group "$each"; done
    groups=()
}

# Tries a command for two seconds, until it works.
patiently() {
    local _
    for _ in {1..40}; do
        ! "$@" 2>/dev/null || return 0
        sleep 0.05
    done
    return 1
}
