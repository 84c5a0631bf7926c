# shellcheck shell=bash
# Sourced by compare-redis: starting and stopping the two servers.

server='' server_name=''

# run_server GROUP NAME COMMAND...: starts a server in a control group, sets `server` to its process, and
# waits until it answers.
run_server() {
    local into=$1 name=$2
    shift 2
    rm -f "$socket"
    (
        echo "$BASHPID" >"$into/cgroup.procs"
        exec "$@"
    ) >"$place/$name.log" 2>&1 &
    server=$! server_name=$name
    local deadline=$((SECONDS + 30))
    until [[ $(redis-cli -s "$socket" ping 2>/dev/null) == PONG ]]; do
        kill -0 "$server" 2>/dev/null || die "$name has ended; see $place/$name.log"
        [[ $SECONDS -lt $deadline ]] || die "$name does not answer; see $place/$name.log"
        sleep 0.1
    done
}

# Without saving, evicting and defragmenting.
run_redis() {
    run_server "$1" redis redis-server --port 0 --unixsocket "$socket" --save '' --appendonly no \
        --activedefrag no --maxmemory 0 --dir "$place"
}

# run_ours GROUP THREADS OPTION...
run_ours() {
    local into=$1 threads=$2
    shift 2
    run_server "$into" ours "$ours" --port 0 --unixsocket "$socket" --threads "$threads" "$@"
}

stop_server() {
    [[ $server ]] || return 0
    kill "$server" 2>/dev/null || true
    local _
    for _ in {1..100}; do
        kill -0 "$server" 2>/dev/null || break
        sleep 0.1
    done
    kill -9 "$server" 2>/dev/null || true
    wait "$server" 2>/dev/null || true
    server=''
}

require_alive() {
    kill -0 "$server" 2>/dev/null || die "$server_name has died; see $place/$server_name.log"
}

# The server's use so far: clock ticks in user mode, in kernel mode, and major faults.
server_usage() {
    sed 's/.*) //' "/proc/$server/stat" | awk '{ print $12, $13, $10 }'
}

# info SECTION NAME: one figure of INFO, or 0.
info() {
    redis-cli -s "$socket" info "$1" | tr -d '\r' | awk -F: -v name="$2" \
        '$1 == name { value = $2 } END { print value + 0 }'
}
