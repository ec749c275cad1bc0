#!/bin/sh
# The installer in a clean Debian root that is booted: first run, second run, a wheelhouse without a
# network, the units' verdict. Minutes; needs root, debootstrap, systemd-container and a network.
#   sudo sh packaging/check/installer.sh
# LLAMA_WHEEL=FILE takes a llama-cpp-python that was compiled on this machine before, since compiling
# is most of the time. REUSE=1 goes on in the root of a run that broke off, as after a power cut.
# WATCHDOG=1 also freezes the agent, and waits until systemd has restarted it.
set -eu
# shellcheck source=packaging/check/root.sh
. "$(dirname "$0")/root.sh"
mkdir -p "$WORK"

[ -n "${REUSE:-}" ] || make_root amd64 amd64 systemd,systemd-sysv,dbus,ca-certificates
WHEEL=
if [ -n "${LLAMA_WHEEL:-}" ]; then
    cp "$LLAMA_WHEEL" "$WORK/amd64/srv/"
    WHEEL="--llama /srv/$(basename "$LLAMA_WHEEL")"
fi
say "boot the clean root"
boot "$WORK/amd64"
trap halt_root EXIT

say "first run: installs everything, makes a mesh, starts"
# shellcheck disable=SC2086  # an option and its value, or nothing
inside sh /src/install.sh --mesh home --name attic $WHEEL
inside systemctl is-active gossamer.service
inside sh -c 'sleep 8; systemctl show -p StatusText,NRestarts,User,MemoryMax,WatchdogUSec gossamer.service'

say "second run: changes nothing"
inside sh /src/install.sh --mesh home --name attic 2>&1 | tee "$WORK/second.log"
grep -q '^Nothing changed' "$WORK/second.log"

say "it answers, as its own user"
inside setpriv --reuid gossamer --regid gossamer --init-groups \
    gossamer ask --state /var/lib/gossamer/node 'What is 48 * 27?'

say "a frozen event loop is restarted by the watchdog"
before=$(inside systemctl show -p MainPID --value gossamer.service)
if [ -n "${WATCHDOG:-}" ]; then
    inside sh -c "kill -STOP $before"
    for _ in $(seq 100); do
        sleep 1
        now=$(inside systemctl show -p MainPID --value gossamer.service)
        [ "$now" = "$before" ] || [ "$now" = 0 ] || break
    done
    echo "process $before, then $now"
    [ "$now" != "$before" ]
else
    echo "left out: WATCHDOG=1 waits for it, 60 s and more"
fi

say "doctor"
inside gossamer doctor --state /var/lib/gossamer/node || echo "doctor exits with $?"

say "the units' verdict"
inside systemd-analyze verify /etc/systemd/system/gossamer.service /etc/systemd/system/gossamer-join.service && echo "verify: clean"
for unit in gossamer gossamer-join; do
    inside systemd-analyze security --offline=true --no-pager "/etc/systemd/system/$unit.service" | tail -n 1
done

say "a wheelhouse, made here"
inside sh -c 'cd /tmp && apt-get download -q libgomp1 >/dev/null; gossamer board wheelhouse -o /srv/stick --source /src --llama /opt/gossamer/wheels/llama-*/llama_cpp_python-*.whl'
halt_root
trap - EXIT
mkdir -p "$WORK/stick"
cp -a "$WORK/amd64/srv/stick/." "$WORK/stick/"

say "a root that was never on a network: python3 alone"
make_root offline amd64 systemd,systemd-sysv,dbus,python3-minimal,python3
cp -a "$WORK/stick" "$WORK/offline/srv/stick"
BOOT_OPTIONS=--private-network
boot "$WORK/offline"
trap halt_root EXIT
inside ip link 2>/dev/null || inside cat /proc/net/dev
inside sh /srv/stick/install.sh --wheelhouse /srv/stick --mesh home --name cellar
inside systemctl is-active gossamer.service
inside sh /srv/stick/install.sh --wheelhouse /srv/stick --mesh home --name cellar 2>&1 | tee "$WORK/second-offline.log"
grep -q '^Nothing changed' "$WORK/second-offline.log"

say "uninstall, and again"
inside sh /srv/stick/install.sh --uninstall
inside sh /srv/stick/install.sh --uninstall --purge
inside sh -c 'test ! -e /opt/gossamer && test ! -e /var/lib/gossamer && ! getent passwd gossamer'
say "all of it held"
