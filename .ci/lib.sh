# Sourced by the scripts beside it: where things are, and how to become root.
# shellcheck shell=bash

ROOT=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
CACHE="${THINFS_CACHE:-$ROOT/.cache}"
export PATH="$PATH:/usr/sbin:/sbin"

say() { printf '%s\n' "$*" >&2; }

die() { say "error: $*"; exit 1; }

as_root() {
    if (( EUID == 0 )); then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo -- "$@"
    else
        die "this needs root and there is no sudo; run as root: $*"
    fi
}
