# Sourced by the checks: a clean Debian root, booted or not. Needs root, debootstrap, systemd-nspawn.
# shellcheck shell=sh
SUITE=${SUITE:-bookworm}
MIRROR=${MIRROR:-http://deb.debian.org/debian}
WORK=${WORK:-/var/tmp/gossamer-check}
HERE=$(cd "$(dirname "$0")/../.." && pwd)

say() { printf '\n== %s\n' "$*"; }

# make_root NAME ARCH PACKAGES: a debootstrap root, kept, and a fresh copy of it to work in.
make_root() {
    kept=$WORK/$1.clean
    if [ ! -e "$kept/.done" ]; then
        say "debootstrap $SUITE for $2 (kept in $kept)"
        rm -rf "$kept"
        mkdir -p "$kept"
        debootstrap --arch="$2" --variant=minbase --include="$3" "$SUITE" "$kept" "$MIRROR" >"$WORK/$1.debootstrap.log"
        touch "$kept/.done"
    fi
    rm -rf "${WORK:?}/$1"
    cp -a "$kept" "$WORK/$1"
    # This machine's certificates: some networks have an authority of their own. A root without the
    # package needs none, since it never speaks with one.
    if [ -d "$WORK/$1/etc/ssl/certs" ]; then
        cp /etc/ssl/certs/ca-certificates.crt "$WORK/$1/etc/ssl/certs/ca-certificates.crt"
    fi
    rm -f "$WORK/$1/etc/resolv.conf"
    cp /etc/resolv.conf "$WORK/$1/etc/resolv.conf"
    mkdir -p "$WORK/$1/src"
    # shellcheck disable=SC2016  # expanded by the inner shell
    (cd "$HERE" && git ls-files -z --cached --others --exclude-standard -- \
        mesh capabilities agents install.sh pyproject.toml README.md LICENSE Makefile docs |
        xargs -0 sh -c 'for f in "$@"; do [ -f "$f" ] && printf "%s\0" "$f"; done' sh |
        tar -c --null -T - -f -) | tar -x -C "$WORK/$1/src" -f -
}

# boot ROOT: systemd as pid 1 of its own namespaces; LEADER is its pid outside.
boot() {
    # shellcheck disable=SC2086  # several options, or none
    setsid systemd-nspawn -q -b -D "$1" --register=no --keep-unit --resolv-conf=off \
        ${BOOT_OPTIONS:-} </dev/null >"$1.console" 2>&1 &
    NSPAWN=$!
    for _ in $(seq 120); do
        LEADER=$(pgrep -P "$NSPAWN" | head -n 1)
        if [ -n "$LEADER" ] && inside systemctl is-system-running 2>/dev/null | grep -qE 'running|degraded'; then return; fi
        sleep 1
    done
    tail "$1.console"
    echo "the root did not boot" >&2
    exit 1
}

inside() { nsenter -a -t "$LEADER" env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 "$@"; }

halt_root() {
    inside systemctl poweroff >/dev/null 2>&1 || true
    for _ in $(seq 30); do kill -0 "$NSPAWN" 2>/dev/null || return 0; sleep 1; done
    kill -KILL "$NSPAWN" 2>/dev/null || true
}
