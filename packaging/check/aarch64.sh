#!/bin/sh
# The aarch64 path under emulation, as far as doctor: install.sh in a Debian arm64 root. llama.cpp is
# left out, since compiling it under emulation takes hours. Needs qemu-user-static with binfmt.
#   sudo sh packaging/check/aarch64.sh
set -eu
# shellcheck source=packaging/check/root.sh
. "$(dirname "$0")/root.sh"
mkdir -p "$WORK"
if [ ! -e /proc/sys/fs/binfmt_misc/qemu-aarch64 ]; then
    [ -e /proc/sys/fs/binfmt_misc/register ] || mount -t binfmt_misc none /proc/sys/fs/binfmt_misc
    update-binfmts --enable qemu-aarch64
fi
make_root arm64 arm64 systemd,dbus,ca-certificates,python3,python3-venv
mount --bind /proc "$WORK/arm64/proc"
mount --bind /dev "$WORK/arm64/dev"
trap 'umount "$WORK/arm64/proc" "$WORK/arm64/dev"' EXIT
emulated() {
    chroot "$WORK/arm64" env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
        HOME=/root LANG=C.UTF-8 "$@"
}
say "the machine, by its own word"
emulated uname -m

say "first run, without systemd"
emulated sh /src/install.sh --without-llama --mesh home --name arm

say "second run: changes nothing"
emulated sh /src/install.sh --without-llama --mesh home --name arm 2>&1 | tee "$WORK/second-arm64.log"
grep -q '^Nothing changed' "$WORK/second-arm64.log"

say "doctor"
emulated gossamer doctor --state /var/lib/gossamer/node
say "all of it held"
