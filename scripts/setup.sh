#!/bin/sh
# Finds a Python that Gossamer runs on and hands over to scripts/setup.py.
# What is missing is said in one line each, with the command that installs it.
set -eu
cd "$(dirname "$0")/.."

found=
for candidate in "${PYTHON:-}" python3 python3.14 python3.13 python3.12 python3.11; do
    [ -n "$candidate" ] || continue
    command -v "$candidate" >/dev/null 2>&1 || continue
    found=$("$candidate" -c 'import platform; print(platform.python_version())' 2>/dev/null) || continue
    if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
        exec "$candidate" scripts/setup.py "$@"
    fi
done

if [ -n "$found" ]; then
    echo "Gossamer needs Python 3.11 or later and this machine has $found: upgrade to Debian 12 / Raspberry Pi OS bookworm or later, or set PYTHON=/path/to/python3.11" >&2
else
    echo "Gossamer needs Python 3.11 or later and finds none: sudo apt install python3 python3-venv" >&2
fi
exit 1
