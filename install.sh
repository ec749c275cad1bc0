#!/bin/sh
# Installs Gossamer on 64-bit Raspberry Pi OS, Jetson Linux, Debian and Ubuntu (x86-64, aarch64):
#
#   curl -fsSL URL/install.sh | sudo sh
#   sudo sh install.sh --wheelhouse /media/usb/gossamer        # without a network
#
# It may be run again at any time: what is in place is left alone, what broke off goes on.
set -eu

PREFIX=${GOSSAMER_PREFIX:-/opt/gossamer}
STATE=/var/lib/gossamer
ETC=/etc/gossamer
ACCOUNT=gossamer
# Where Gossamer comes from: a folder, a wheel, a URL, or a name in the package index. Without it,
# the folder that this script lies in, else the name.
SOURCE=${GOSSAMER_URL:-}
WHEELHOUSE=
INVITATION=
MESH=
NAME=
LLAMA=yes
LLAMA_WHEEL=
START=yes
DRY=
ACTION=install
PURGE=
MIN_PYTHON=11            # of Python 3
LLAMA_REQUIREMENT='llama-cpp-python>=0.3.36,<0.4'
COMPILE_FREE_MB=1500     # sources, objects and the wheel together
PLAIN_FREE_MB=600        # libraries and the environment
COMPILER_MB=900          # what one compiler process takes at its worst
STEPS=9

usage() {
    cat <<'TEXT'
usage: sh install.sh [options]        (as root)

  --source WHAT          a folder, a wheel, a URL or a package's name (or GOSSAMER_URL)
  --wheelhouse DIR       install from what `gossamer board wheelhouse` wrote; no network is used
  --invitation-file FILE join the mesh of this invitation (- reads standard input)
  --mesh NAME            make a mesh of this name; this machine is its first node
  --name NODE            the node's name (by default the invited one, or the host's)
  --llama WHEEL          a llama-cpp-python compiled on such a machine, instead of compiling here
  --without-llama        no models on this machine: it relays, senses and asks
  --no-start             install, do not start
  --dry-run              say what would be done
  --uninstall            stop and remove; keys and state stay (--purge: they go as well)
  --prefix DIR           where the programs go (/opt/gossamer)
  -h, --help
TEXT
}

say() { printf '%s\n' "$*" >&2; }
fail() { say "gossamer: $1"; [ -z "${2:-}" ] || say "  $2"; exit 1; }

while [ $# -gt 0 ]; do
    case $1 in
        --source) SOURCE=${2:?}; shift ;;
        --wheelhouse) WHEELHOUSE=${2:?}; shift ;;
        --invitation-file) INVITATION=${2:?}; shift ;;
        --mesh) MESH=${2:?}; shift ;;
        --name) NAME=${2:?}; shift ;;
        --prefix) PREFIX=${2:?}; shift ;;
        --llama) LLAMA_WHEEL=${2:?}; shift ;;
        --without-llama) LLAMA= ;;
        --no-start) START= ;;
        --dry-run) DRY=yes ;;
        --uninstall) ACTION=uninstall ;;
        --purge) PURGE=yes ;;
        -h|--help) usage; exit 0 ;;
        *) usage >&2; fail "unknown option $1" ;;
    esac
    shift
done
[ -z "$MESH" ] || [ -z "$INVITATION" ] || fail "--mesh makes a mesh, --invitation-file joins one"

CHANGED=0
STEP=0
PYTHON=
BIN=$PREFIX/venv/bin

# One line a step: "[3/9] account: gossamer ... unchanged".
step() { STEP=$((STEP + 1)); LABEL="[$STEP/$STEPS] $1"; }
unchanged() { say "$LABEL: unchanged${1:+ ($1)}"; }
changing() {
    CHANGED=$((CHANGED + 1))
    if [ -n "$DRY" ]; then say "$LABEL: would ${1}"; return 1; fi
    say "$LABEL: $1"
}

running_systemd() { [ -d /run/systemd/system ]; }

# Run a slow command with its output in a log, and say every so often that it moves.
slow() {
    log=$1; shift
    mkdir -p "$(dirname "$log")"
    "$@" >"$log" 2>&1 </dev/null &
    child=$!
    trap 'kill "$child" 2>/dev/null; say "interrupted; run the same command to go on"; exit 130' INT TERM
    elapsed=0
    while kill -0 "$child" 2>/dev/null; do
        sleep 1
        elapsed=$((elapsed + 1))
        if [ $((elapsed % 15)) = 0 ]; then
            doing=$(grep -oE '\[ *[0-9]+[%/][0-9]*\]|^ *(Collecting|Downloading|Building|Installing) [^ ]+' "$log" | tail -n 1)
            say "        $((elapsed / 60)) min $((elapsed % 60)) s  ${doing#"${doing%%[! ]*}"}"
        fi
    done
    trap - INT TERM
    if ! wait "$child"; then
        tail -n 15 "$log" | sed 's/^/        | /' >&2
        fail "that failed; the whole log is $log" "finished parts are kept: mend it and run the same command again"
    fi
}

# --- 1: the machine -----------------------------------------------------------------------------

find_python() {
    for candidate in python3 python3.14 python3.13 python3.12 python3.11; do
        command -v "$candidate" >/dev/null 2>&1 || continue
        if "$candidate" -c "import sys; sys.exit(sys.version_info < (3, $MIN_PYTHON))" 2>/dev/null; then
            command -v "$candidate"
            return 0
        fi
    done
    return 1
}

free_mb() {
    folder=$1
    while [ ! -d "$folder" ]; do folder=$(dirname "$folder"); done
    df -Pm "$folder" | awk 'NR == 2 {print $4}'
}

board() {
    if [ -r /proc/device-tree/model ]; then tr -d '\0' </proc/device-tree/model; else uname -m; fi
}

nvcc_folder() {
    for folder in /usr/local/cuda/bin /usr/local/cuda-*/bin; do
        if [ -x "$folder/nvcc" ]; then printf '%s' "$folder"; return; fi
    done
    if command -v nvcc >/dev/null 2>&1; then dirname "$(command -v nvcc)"; fi
}

check_machine() {
    step machine
    [ "$(id -u)" = 0 ] || [ -n "$DRY" ] || fail "this needs root" "curl -fsSL URL/install.sh | sudo sh"
    case $(uname -m) in
        x86_64|aarch64) ;;
        *) fail "$(uname -m) is not supported" "on a Raspberry Pi, install the 64-bit system" ;;
    esac
    if [ "$(getconf LONG_BIT)" != 64 ]; then
        fail "the system is 32-bit" "on a Raspberry Pi, install the 64-bit system: the kernel alone is not enough"
    fi
    command -v apt-get >/dev/null 2>&1 || fail "this script knows Debian, Ubuntu, Raspberry Pi OS and Jetson Linux" \
        "elsewhere: python3 -m venv ENV && ENV/bin/pip install gossamer-mesh"
    if [ -n "$WHEELHOUSE" ]; then
        [ -d "$WHEELHOUSE/wheels" ] || fail "$WHEELHOUSE is no wheelhouse" "make one: gossamer board wheelhouse -o $WHEELHOUSE"
        WHEELHOUSE=$(cd "$WHEELHOUSE" && pwd)
        (cd "$WHEELHOUSE" && sha256sum --quiet -c SHA256SUMS) || fail "the wheelhouse is damaged" "copy it again"
    fi
    if [ -z "$SOURCE" ]; then
        here=$(dirname "$0")
        # Not where the script comes through a pipe: $0 is the shell then.
        if [ -f "$here/install.sh" ] && [ -d "$here/agents" ] && [ "${0##*/}" = install.sh ]; then
            SOURCE=$here
        else
            SOURCE=gossamer-mesh
        fi
    fi
    if [ -d "$SOURCE" ]; then SOURCE=$(cd "$SOURCE" && pwd); fi
    need=$PLAIN_FREE_MB
    [ -z "$LLAMA" ] || [ -n "$WHEELHOUSE$LLAMA_WHEEL" ] || [ -x "$BIN/python" ] || need=$((PLAIN_FREE_MB + COMPILE_FREE_MB))
    have=$(free_mb "$PREFIX")
    [ -x "$BIN/python" ] || [ "$have" -ge "$need" ] || fail "$have MB are free under $PREFIX, $need MB are needed"
    say "$LABEL: $(board), $(uname -m), from ${WHEELHOUSE:-$SOURCE}"
}

# --- 2: packages of the system ------------------------------------------------------------------

missing_packages() {
    python=$(find_python) || python=
    if [ -z "$python" ]; then
        # Ubuntu 22.04, under JetPack 6, has Python 3.10 as python3 and 3.11 beside it.
        if apt-cache show python3.11 >/dev/null 2>&1 && ! apt-cache show python3 2>/dev/null |
            grep -qE '^Version: 3\.(1[1-9]|[2-9][0-9])'; then
            printf 'python3.11 python3.11-venv '
        else
            printf 'python3 python3-venv '
        fi
    elif [ -z "$WHEELHOUSE" ] && ! "$python" -c 'import ensurepip' 2>/dev/null && [ ! -x "$BIN/pip" ]; then
        case $python in
            */python3) printf 'python3-venv ' ;;
            *) printf '%s-venv ' "${python##*/}" ;;
        esac
    fi
    if [ -n "$LLAMA" ]; then
        # The C runtime of llama.cpp's threads; the compiler brings it, a bare system lacks it.
        ldconfig -p 2>/dev/null | grep -q libgomp.so.1 || printf 'libgomp1 '
        if [ -z "$WHEELHOUSE$LLAMA_WHEEL$(kept_llama)" ]; then
            command -v c++ >/dev/null 2>&1 && command -v cc >/dev/null 2>&1 && command -v make >/dev/null 2>&1 ||
                printf 'build-essential '
        fi
    fi
}

install_packages() {
    step packages
    missing=$(missing_packages)
    PYTHON=$(find_python) || PYTHON=python3   # what is about to be installed
    if [ -z "$missing" ]; then unchanged; return; fi
    changing "install $missing" || return 0
    mkdir -p "$PREFIX"
    if [ -n "$WHEELHOUSE" ]; then
        for package in $missing; do
            set -- "$WHEELHOUSE"/debs/"$package"_*.deb
            [ -f "$1" ] || fail "$package is missing and not in the wheelhouse" "sudo apt install $package"
            dpkg -i "$@" >"$PREFIX/packages.log" 2>&1 || fail "$package could not be installed" "the log is $PREFIX/packages.log"
        done
    else
        # The first boot's own upgrade may hold the lock.
        slow "$PREFIX/packages.log" sh -c "apt-get update -q && apt-get install -q -y --no-install-recommends \
            -o DPkg::Lock::Timeout=300 -o Acquire::Retries=3 $missing"
    fi
    PYTHON=$(find_python) || fail "there is still no Python 3.$MIN_PYTHON or later" "upgrade to Debian 12, Raspberry Pi OS bookworm or Ubuntu 24.04"
}

# --- 3: the account -----------------------------------------------------------------------------

make_account() {
    step account
    if ! getent passwd "$ACCOUNT" >/dev/null; then
        if changing "make $ACCOUNT"; then
            useradd --system --user-group --home-dir "$STATE" --no-create-home --shell /usr/sbin/nologin "$ACCOUNT"
        fi
    else
        unchanged "$ACCOUNT"
    fi
    [ -z "$DRY" ] || return 0
    for group in video render; do   # a Jetson's GPU
        if [ -e /etc/nv_tegra_release ] && getent group "$group" >/dev/null; then usermod -aG "$group" "$ACCOUNT"; fi
    done
    install -d -m 0700 -o "$ACCOUNT" -g "$ACCOUNT" "$STATE"
    install -d -m 0750 -o root -g "$ACCOUNT" "$ETC"
    install -d -m 0700 -o root -g root "$ETC/credentials"
}

# --- 4: the environment -------------------------------------------------------------------------

make_environment() {
    step environment
    if [ -x "$BIN/python" ] && "$BIN/python" -m pip --version >/dev/null 2>&1 &&
        [ "$("$BIN/python" -V 2>&1)" = "$("$PYTHON" -V 2>&1)" ]; then
        unchanged "$("$BIN/python" -V 2>&1)"
        return
    fi
    changing "make $PREFIX/venv" || return 0
    rm -rf "$PREFIX/venv"
    mkdir -p "$PREFIX"
    if [ -n "$WHEELHOUSE" ]; then
        # Without ensurepip, which Debian keeps in a package of its own: pip installs itself.
        "$PYTHON" -m venv --without-pip "$PREFIX/venv"
        set -- "$WHEELHOUSE"/wheels/pip-*.whl
        slow "$PREFIX/environment.log" "$BIN/python" "$1/pip" install --no-index --find-links "$WHEELHOUSE/wheels" pip
    else
        slow "$PREFIX/environment.log" "$PYTHON" -m venv "$PREFIX/venv"
        slow "$PREFIX/environment.log" "$BIN/python" -m pip install --upgrade pip
    fi
}

pip_() {
    if [ -n "$WHEELHOUSE" ]; then
        "$BIN/python" -m pip "$@" --no-index --find-links "$WHEELHOUSE/wheels"
    else
        "$BIN/python" -m pip "$@"
    fi
}

# --- 5: llama.cpp -------------------------------------------------------------------------------

cmake_args() {
    args="${CMAKE_ARGS:-} -DLLAVA_BUILD=OFF"
    if [ -n "$(nvcc_folder)" ]; then
        args="$args -DGGML_CUDA=on"
        # An Orin's GPU; elsewhere CMake asks the card.
        if [ -e /etc/nv_tegra_release ]; then args="$args -DCMAKE_CUDA_ARCHITECTURES=87"; fi
    fi
    printf '%s' "$args"
}

# A build depends on the processor and on the options.
llama_key() {
    { grep -E '^(model name|flags|Features|CPU part)' /proc/cpuinfo | sort -u
      cmake_args; } | sha256sum | cut -c1-12
}

kept_llama() {
    set -- "$PREFIX/wheels/llama-$(llama_key)"/llama_cpp_python-*.whl
    if [ -f "$1" ]; then printf '%s' "$1"; fi
}

build_llama() {
    step llama.cpp
    if [ -z "$LLAMA" ]; then unchanged "left out"; return; fi
    if [ -n "$WHEELHOUSE" ]; then unchanged "in the wheelhouse"; return; fi
    if [ -n "$(kept_llama)" ]; then unchanged "built before"; return; fi
    if [ -n "$LLAMA_WHEEL" ]; then
        [ -f "$LLAMA_WHEEL" ] || fail "there is no $LLAMA_WHEEL"
        changing "take $LLAMA_WHEEL" || return 0
        install -D -m 0644 "$LLAMA_WHEEL" "$PREFIX/wheels/llama-$(llama_key)/$(basename "$LLAMA_WHEEL")"
        return
    fi
    memory=$(awk '/^MemAvailable:/ {print int($2 / 1024)}' /proc/meminfo)
    jobs=$((memory / COMPILER_MB))
    [ "$jobs" -ge 1 ] || jobs=1
    [ "$jobs" -le "$(nproc)" ] || jobs=$(nproc)
    [ "$memory" -ge "$COMPILER_MB" ] ||
        say "        only $memory MB of memory: this may fail; a wheelhouse made on a larger board does not compile"
    kind="for this processor"
    [ -z "$(nvcc_folder)" ] || kind="with CUDA"
    changing "compile $kind, $jobs at a time; minutes on a fast machine, an hour on a small one" || return 0
    folder=$PREFIX/wheels/llama-$(llama_key)
    mkdir -p "$folder/.part" "$PREFIX/cache"
    rm -f "$folder"/.part/*
    PATH="$(nvcc_folder):$PATH" CMAKE_ARGS=$(cmake_args) CMAKE_BUILD_PARALLEL_LEVEL=$jobs \
        TMPDIR=$PREFIX/cache PIP_CACHE_DIR=$PREFIX/cache/pip \
        slow "$PREFIX/llama.log" "$BIN/python" -m pip wheel -v --no-deps --progress-bar=off \
        --no-binary=llama-cpp-python --wheel-dir "$folder/.part" "$LLAMA_REQUIREMENT"
    mv "$folder"/.part/llama_cpp_python-*.whl "$folder"/   # whole, or not there
    rmdir "$folder/.part"
}

# --- 6: Gossamer --------------------------------------------------------------------------------

# What is to be installed, as one line: a folder and a wheel by content, others by name.
wanted() {
    if [ -n "$WHEELHOUSE" ]; then
        (cd "$WHEELHOUSE" && sha256sum SHA256SUMS | cut -c1-16)
    elif [ -d "$SOURCE" ]; then
        (cd "$SOURCE" && { find mesh capabilities agents -type f ! -name '*.pyc' ! -path '*/.*' | LC_ALL=C sort
            echo pyproject.toml; } | tr '\n' '\0' | xargs -0 sha256sum | sha256sum | cut -c1-16)
    elif [ -f "$SOURCE" ]; then
        sha256sum "$SOURCE" | cut -c1-16
    else
        printf '%s\n' "$SOURCE"
    fi
    [ -z "$LLAMA" ] || basename "$(kept_llama)"
}

install_gossamer() {
    step gossamer
    if [ -x "$BIN/gossamer" ] && [ "$(cat "$PREFIX/installed" 2>/dev/null)" = "$(wanted)" ]; then
        unchanged "$("$BIN/gossamer" version | head -n 1)"
        return
    fi
    changing "install Gossamer and its libraries" || return 0
    if [ -n "$WHEELHOUSE" ]; then
        set -- "$WHEELHOUSE"/wheels/gossamer_mesh-*.whl
        wheel=$1
    else
        rm -rf "$PREFIX/wheels/gossamer"
        mkdir -p "$PREFIX/wheels/gossamer"
        slow "$PREFIX/gossamer.log" "$BIN/python" -m pip wheel --no-deps --progress-bar=off \
            --wheel-dir "$PREFIX/wheels/gossamer" "$SOURCE"
        set -- "$PREFIX"/wheels/gossamer/gossamer_mesh-*.whl
        wheel=$1
    fi
    if [ -n "$LLAMA" ]; then
        set -- "$wheel"
        [ -z "$(kept_llama)" ] || set -- "$wheel" "$(kept_llama)"
        slow "$PREFIX/gossamer.log" pip_ install --progress-bar=off --force-reinstall --no-deps "$@"
        slow "$PREFIX/gossamer.log" pip_ install --progress-bar=off "$@"
    else
        # Its libraries but llama-cpp-python, from what the wheel itself names.
        "$BIN/python" - "$wheel" >"$PREFIX/requirements.txt" <<'PYTHON'
import email, sys, zipfile

with zipfile.ZipFile(sys.argv[1]) as wheel:
    name = next(n for n in wheel.namelist() if n.endswith(".dist-info/METADATA"))
    needs = email.message_from_bytes(wheel.read(name)).get_all("Requires-Dist")
print("\n".join(n for n in needs if "extra ==" not in n and "llama-cpp-python" not in n))
PYTHON
        slow "$PREFIX/gossamer.log" pip_ install --progress-bar=off -r "$PREFIX/requirements.txt"
        slow "$PREFIX/gossamer.log" pip_ install --progress-bar=off --no-deps --force-reinstall "$wheel"
    fi
    if [ -n "$LLAMA" ] && ! "$BIN/python" -c 'import llama_cpp' 2>"$PREFIX/llama.check"; then
        tail -n 1 "$PREFIX/llama.check" | sed 's/^/        | /' >&2
        fail "llama.cpp does not load here" "a wheelhouse of another processor? run it with the network, and it is compiled"
    fi
    wanted >"$PREFIX/installed"
    ln -sfn "$BIN/gossamer" /usr/local/bin/gossamer
}

# --- 7: the units -------------------------------------------------------------------------------

install_units() {
    step units
    [ -z "$DRY" ] || { [ -x "$BIN/gossamer" ] || { changing "write gossamer.service and gossamer-join.service" || return 0; }; }
    differ=
    for unit in gossamer gossamer-join; do
        "$BIN/gossamer" board unit "$unit" --prefix "$PREFIX" --account "$ACCOUNT" \
            --credentials "$ETC/credentials" >"/tmp/$unit.service.$$"
        if ! cmp -s "/tmp/$unit.service.$$" "/etc/systemd/system/$unit.service"; then
            differ="$differ $unit"
        fi
    done
    if [ -z "$differ" ]; then
        unchanged
    elif changing "write${differ}"; then
        for unit in $differ; do install -D -m 0644 "/tmp/$unit.service.$$" "/etc/systemd/system/$unit.service"; done
        if running_systemd; then systemctl daemon-reload; fi
    fi
    rm -f "/tmp/gossamer.service.$$" "/tmp/gossamer-join.service.$$"
}

# --- 8: the mesh --------------------------------------------------------------------------------

as_account() { setpriv --reuid "$ACCOUNT" --regid "$ACCOUNT" --init-groups --reset-env "$@"; }

join_mesh() {
    step mesh
    if [ -f "$STATE/node/agent.toml" ]; then
        unchanged "this machine is a node"
    elif [ -n "$MESH" ]; then
        changing "make the mesh $MESH" || return 0
        name=${NAME:-$(hostname | tr 'A-Z_' 'a-z-' | sed 's/\..*//; s/[^a-z0-9-]//g')}
        as_account "$BIN/gossamer" mesh create "$STATE/owner" "$MESH" >/dev/null
        as_account "$BIN/gossamer" board first-node --owner "$STATE/owner" --name "$name" --state "$STATE/node" >/dev/null
        say "        the mesh's key is in $STATE/owner: keep a copy of it in a safe place"
    elif [ -n "$INVITATION" ]; then
        changing "keep the invitation for the first start" || return 0
        # Never an argument of a command, where every user of the machine could read it.
        (umask 077; if [ "$INVITATION" = - ]; then cat; else cat "$INVITATION"; fi >"$ETC/invitation")
    elif [ -f "$ETC/invitation" ]; then
        unchanged "an invitation is kept for the next start"
    else
        say "$LABEL: none yet"
    fi
}

# --- 9: the service -----------------------------------------------------------------------------

start_service() {
    step service
    if [ -z "$START" ]; then unchanged "not started, as asked"; return; fi
    if [ ! -x "$BIN/gossamer" ]; then changing "enable and start gossamer.service" || return 0; fi
    changed_before=$CHANGED
    if ! systemctl is-enabled --quiet gossamer.service gossamer-join.service 2>/dev/null; then
        changing "enable" && systemctl enable --quiet gossamer.service gossamer-join.service
    fi
    if ! running_systemd; then
        if [ "$CHANGED" = "$changed_before" ]; then unchanged; fi
        say "        systemd does not run here: it starts with the next boot"
        return
    fi
    if [ -n "$DRY" ]; then return; fi
    if systemctl is-active --quiet gossamer.service && [ "$CHANGED" = 0 ]; then
        unchanged "$(systemctl show -p StatusText --value gossamer.service)"
        return
    fi
    if [ -f "$ETC/invitation" ] && [ ! -f "$STATE/node/agent.toml" ]; then
        changing "join and start" && systemctl restart --no-block gossamer-join.service
    elif [ -f "$STATE/node/agent.toml" ]; then
        changing "start"
        systemctl restart gossamer.service || fail "it did not start" "journalctl -u gossamer -n 30"
        say "        $(systemctl show -p StatusText --value gossamer.service)"
    else
        say "$LABEL: waits for a mesh"
    fi
}

uninstall() {
    STEPS=2
    step service
    if [ -e /etc/systemd/system/gossamer.service ]; then
        if changing "stop and remove"; then
            if running_systemd; then systemctl disable --now --quiet gossamer.service gossamer-join.service || true
            else systemctl disable --quiet gossamer.service gossamer-join.service || true; fi
            rm -f /etc/systemd/system/gossamer.service /etc/systemd/system/gossamer-join.service
            if running_systemd; then systemctl daemon-reload; fi
        fi
    else
        unchanged
    fi
    step files
    if [ -e "$PREFIX" ] || { [ -n "$PURGE" ] && [ -e "$STATE" ]; }; then
        if changing "remove $PREFIX${PURGE:+, $STATE, $ETC and the account}"; then
            rm -rf "$PREFIX"
            if [ -L /usr/local/bin/gossamer ]; then rm -f /usr/local/bin/gossamer; fi
            if [ -n "$PURGE" ]; then
                rm -rf "$STATE" "$ETC"
                userdel "$ACCOUNT" 2>/dev/null || true
            fi
        fi
    else
        unchanged
    fi
    [ -n "$PURGE" ] || say "Keys and state stay in $STATE and $ETC; --purge removes them."
}

if [ "$ACTION" = uninstall ]; then
    [ "$(id -u)" = 0 ] || [ -n "$DRY" ] || fail "this needs root"
    uninstall
    exit 0
fi
check_machine
install_packages
make_account
make_environment
build_llama
install_gossamer
install_units
join_mesh
start_service
if [ "$CHANGED" = 0 ]; then
    say "Nothing changed: Gossamer is installed in $PREFIX."
elif [ -n "$DRY" ]; then
    say "$CHANGED step(s) would change something. Nothing was done."
else
    say "Gossamer is installed in $PREFIX."
fi
if [ ! -f "$STATE/node/agent.toml" ] && [ ! -f "$ETC/invitation" ] && [ -z "$DRY" ]; then
    say "Next: on a node of your mesh run gossamer invite, then here:"
    say "  sudo sh install.sh --invitation-file FILE     (or --mesh NAME for a mesh of its own)"
fi
