"""Files for a board's first boot: it installs Gossamer and joins by invitation, unattended.

``cloud-init`` is for Ubuntu, Debian's cloud images and Raspberry Pi OS from trixie on;
``firstrun`` for Raspberry Pi OS bookworm. Both put the invitation into a file that only root can
read, never on a command line, and wipe it from the card once it is redeemed.
"""

from __future__ import annotations

import json
import os
import re
import shlex
from pathlib import Path
from typing import Any

import msgspec

from mesh.core.errors import ConfigError
from mesh.core.invitations import read_token

KINDS = ("cloud-init", "firstrun")
PRIVATE = 0o600
_HOST = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_KEY = re.compile(r"(ssh-|ecdsa-|sk-)[\w@.-]+ [A-Za-z0-9+/=]+( [^\n\r]*)?")
_USER = re.compile(r"[a-z_][a-z0-9_-]{0,31}")

INSTALL = "/usr/local/sbin/gossamer-install"
INVITATION = "/etc/gossamer/invitation"
# Where a first boot leaves copies of what it was told.
COPIES = (
    "/boot/firmware/user-data",
    "/boot/user-data",
    "/var/lib/cloud/instance/user-data.txt",
    "/var/lib/cloud/instance/user-data.txt.i",
    "/var/lib/cloud/instance/cloud-config.txt",
)


class Image(msgspec.Struct, frozen=True, kw_only=True):
    """What a board is to be."""

    hostname: str
    invitation: str
    url: str
    """Where install.sh is."""
    source: str = ""
    """GOSSAMER_URL for it; empty leaves it to the script."""
    user: str = "pi"
    ssh_keys: tuple[str, ...] = ()
    wifi: str = ""
    wifi_password: str = ""
    country: str = ""
    timezone: str = ""


def check(image: Image) -> None:
    """Raise :class:`ConfigError` for what would not boot, or would be another setting."""
    read_token(image.invitation)
    if not _HOST.fullmatch(image.hostname):
        raise ConfigError(f"{image.hostname!r} is no host name", hint="letters, digits and -")
    if not _USER.fullmatch(image.user):
        raise ConfigError(f"{image.user!r} is no user name")
    for key in image.ssh_keys:
        if not _KEY.fullmatch(key):
            raise ConfigError("one of the keys is no public ssh key", hint="ssh-ed25519 AAAA... me")
    if not image.url.startswith("https://") and not image.url.startswith("http://"):
        raise ConfigError(f"{image.url!r} is no URL of install.sh")
    for what in (image.url, image.source, image.wifi, image.wifi_password):
        if any(ord(c) < 32 for c in what):
            raise ConfigError("a line's end or a control character stands in a value")
    if image.wifi and not 8 <= len(image.wifi_password) <= 63:
        raise ConfigError("a wireless password has 8 to 63 characters")
    if image.wifi and not re.fullmatch("[A-Z]{2}", image.country):
        raise ConfigError("wireless needs a country of two letters", hint="--country DE")


def write(image: Image, kind: str, output: Path) -> list[Path]:
    """Write the files of ``kind`` for the card's boot partition; readable by their owner only."""
    check(image)
    if kind not in KINDS:
        raise ConfigError(f"there is no kind {kind!r}", hint=", ".join(KINDS))
    files = cloud_init(image) if kind == "cloud-init" else {"firstrun.sh": firstrun(image)}
    output.mkdir(parents=True, exist_ok=True)
    written = []
    for name, text in files.items():
        path = output / name
        path.unlink(missing_ok=True)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, PRIVATE), "w") as out:
            out.write(text)
        written.append(path)
    return written


def installing(image: Image) -> str:
    """The script of the first boot: fetch, install, join; tried again at each boot until done."""
    source = f"GOSSAMER_URL={shlex.quote(image.source)} " if image.source else ""
    copies = " ".join(COPIES)
    return f"""#!/bin/sh
# Written by gossamer board image-config. The invitation is in {INVITATION}.
set -eu
script=$(mktemp)
trap 'rm -f "$script"' EXIT
curl -fsSL --retry 20 --retry-delay 15 --retry-all-errors -o "$script" {shlex.quote(image.url)}
{source}sh "$script"
# It is kept for the service; what the first boot was told is wiped of it.
for file in {copies}; do
    [ ! -f "$file" ] || sed -i 's/gossamer1[.][A-Za-z0-9_-]*/redeemed/g' "$file"
done
systemctl disable gossamer-install.service
"""


UNIT = f"""[Unit]
Description=Install Gossamer at the first boot
Wants=network-online.target
After=network-online.target
[Service]
Type=oneshot
ExecStart={INSTALL}
Restart=on-failure
RestartSec=60
TimeoutStartSec=infinity
[Install]
WantedBy=multi-user.target
"""


def cloud_init(image: Image) -> dict[str, str]:
    """user-data, network-config and meta-data of the NoCloud source. JSON is YAML as well."""
    config: dict[str, Any] = {
        "hostname": image.hostname,
        "manage_etc_hosts": True,
        "write_files": [
            _file(INVITATION, image.invitation + "\n", "0600"),
            _file(INSTALL, installing(image), "0700"),
            _file("/etc/systemd/system/gossamer-install.service", UNIT, "0644"),
        ],
        "runcmd": [
            ["systemctl", "daemon-reload"],
            ["systemctl", "enable", "gossamer-install.service"],
            ["systemctl", "start", "--no-block", "gossamer-install.service"],
        ],
    }
    if image.ssh_keys:
        config["users"] = [
            {
                "name": image.user,
                "groups": "sudo",
                "shell": "/bin/bash",
                "sudo": "ALL=(ALL) NOPASSWD:ALL",
                "lock_passwd": True,
                "ssh_authorized_keys": list(image.ssh_keys),
            }
        ]
    if image.timezone:
        config["timezone"] = image.timezone
    network: dict[str, Any] = {
        "version": 2,
        "ethernets": {"wired": {"match": {"name": "e*"}, "dhcp4": True, "optional": True}},
    }
    if image.wifi:
        network["wifis"] = {
            "wlan0": {
                "dhcp4": True,
                "optional": True,
                "regulatory-domain": image.country,
                "access-points": {image.wifi: {"password": image.wifi_password}},
            }
        }
    return {
        "user-data": "#cloud-config\n" + json.dumps(config, indent=2) + "\n",
        "network-config": json.dumps(network, indent=2) + "\n",
        "meta-data": json.dumps({"instance-id": f"gossamer-{image.hostname}"}) + "\n",
    }


def _file(path: str, content: str, mode: str) -> dict[str, str]:
    return {"path": path, "content": content, "permissions": mode, "owner": "root:root"}


def firstrun(image: Image) -> str:
    """firstrun.sh for Raspberry Pi OS bookworm, to be named in cmdline.txt."""
    quoted = shlex.quote
    lines = [
        "#!/bin/bash",
        "# Written by gossamer board image-config. Copy it to the boot partition and append to",
        "# the one line of cmdline.txt:  systemd.run=/boot/firmware/firstrun.sh",
        "#   systemd.run_success_action=reboot systemd.unit=kernel-command-line.target",
        "set +e",
        f"/usr/lib/raspberrypi-sys-mods/imager_custom set_hostname {quoted(image.hostname)}",
    ]
    if image.ssh_keys:
        keys = " ".join(quoted(key) for key in image.ssh_keys)
        lines += [
            f"/usr/lib/userconf-pi/userconf {quoted(image.user)} '!'",
            f"/usr/lib/raspberrypi-sys-mods/imager_custom enable_ssh -k {keys}",
        ]
    if image.wifi:
        lines.append(
            "/usr/lib/raspberrypi-sys-mods/imager_custom set_wlan "
            f"{quoted(image.wifi)} {quoted(image.wifi_password)} {quoted(image.country)}"
        )
    if image.timezone:
        lines.append(
            f"/usr/lib/raspberrypi-sys-mods/imager_custom set_timezone {quoted(image.timezone)}"
        )
    lines += [
        "install -d -m 0750 /etc/gossamer",
        _here(INVITATION, image.invitation + "\n", "0600"),
        _here(INSTALL, installing(image), "0700"),
        _here("/etc/systemd/system/gossamer-install.service", UNIT, "0644"),
        "systemctl enable gossamer-install.service",
        "rm -f /boot/firmware/firstrun.sh",
        "sed -i 's| systemd[.][^ ]*||g' /boot/firmware/cmdline.txt",
        "exit 0",
        "",
    ]
    return "\n".join(lines)


def _here(path: str, content: str, mode: str) -> str:
    mark = "GOSSAMER_END"
    return f"(umask 077; cat >{path} <<'{mark}'\n{content}{mark}\n)\nchmod {mode} {path}"
