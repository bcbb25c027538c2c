# shellcheck shell=bash
# Shared by the scripts of this folder. Sourced, never run.

# The Python that Debian ships: python3-scapy and python3-pytest belong to it, and to no other.
PYTHON=/usr/bin/python3

die() {
    printf '%s: error: %s\n' "${0##*/}" "$*" >&2
    exit 1
}

say() {
    printf '== %s\n' "$*"
}

need_root() {
    [ "$(id -u)" -eq 0 ] || die "must be run as root: $1"
}

need_python() {
    [ -x "$PYTHON" ] || die "$PYTHON is missing: run scripts/setup first"
}
