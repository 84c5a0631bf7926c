# shellcheck shell=bash disable=SC2034 # names used by the scripts that source this file
# Sourced by the other scripts.

repo=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# Absolute and exported, so that cargo and the scripts use the same directory.
CARGO_TARGET_DIR=$(realpath -m "${CARGO_TARGET_DIR:-$repo/target}")
export CARGO_TARGET_DIR
kernel_cache=${XDG_CACHE_HOME:-$HOME/.cache}/thermocline/kernels

# In Debian's redis-tools the program redis-check-rdb is a server when its name is redis-server.
if ! command -v redis-server >/dev/null && command -v redis-check-rdb >/dev/null; then
    mkdir -p "$CARGO_TARGET_DIR/tools"
    ln -sf "$(command -v redis-check-rdb)" "$CARGO_TARGET_DIR/tools/redis-server"
    PATH=$CARGO_TARGET_DIR/tools:$PATH
fi

# Debian's nutcracker is in /usr/sbin, which users may not have in their PATH.
if ! command -v nutcracker >/dev/null && [[ -x /usr/sbin/nutcracker ]]; then PATH=$PATH:/usr/sbin; fi

# 6.1 has none of the optional kernel features that the crate can use, 7.3 all, 6.12 all except read-write
# protection. The slowest is first.
kernel_matrix=(6.1 7.3 6.12)

# The user nobody must be able to read the test programs and the guest's files.
umask 022

die() {
    printf '%s: %s\n' "${0##*/}" "$*" >&2
    exit 1
}

require_known_kernel() {
    [[ " ${kernel_matrix[*]} " == *" $1 "* ]] || die "unknown kernel '$1', not one of ${kernel_matrix[*]}"
}

# Builds the test programs and copies them to a directory, each under its target's name. Symbols
# stay, for backtraces. Debug information would make an initramfs too large.
copy_test_programs() {
    local executables executable name
    executables=$(cd "$repo" &&
        cargo test --quiet --no-run --locked --all-features --message-format=json-render-diagnostics |
        sed -nE '/"profile":\{[^}]*"test":true/ s/.*"executable":"([^"]+)".*/\1/p')
    [[ $executables ]] || die "cargo named no test program"
    while read -r executable; do
        name=${executable##*/}
        name=$1/${name%-*}
        [[ ! -e $name ]] || die "two test programs are called ${name##*/}"
        strip --strip-debug -o "$name" "$executable"
    done <<<"$executables"
}
