"""An OpenSSH server of a test's own: its port, keys and folders in a temporary directory."""

from __future__ import annotations

import getpass
import os
import shutil
import socket
import subprocess
import time
from pathlib import Path

SSHD = shutil.which("sshd") or shutil.which("sshd", path="/usr/sbin:/usr/local/sbin")
KEYGEN = shutil.which("ssh-keygen")
START_S = 10.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Sshd:
    """One server; :attr:`host` is what an inventory says of it."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder, self.name = folder / name, name
        self.folder.mkdir(parents=True)
        self.port = free_port()
        self.log = self.folder / "sshd.log"
        if os.geteuid() == 0:  # where privileges are dropped to
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        for key in ("host_key", "user_key"):
            subprocess.run(
                [str(KEYGEN), "-q", "-t", "ed25519", "-N", "", "-f", str(self.folder / key)],
                check=True,
            )
        (self.folder / "authorized_keys").write_bytes((self.folder / "user_key.pub").read_bytes())
        public = (self.folder / "host_key.pub").read_text().split()
        (self.folder / "known_hosts").write_text(f"[127.0.0.1]:{self.port} {public[0]} {public[1]}")
        config = self.folder / "sshd_config"
        config.write_text(
            f"Port {self.port}\nListenAddress 127.0.0.1\nHostKey {self.folder}/host_key\n"
            f"AuthorizedKeysFile {self.folder}/authorized_keys\nStrictModes no\nUsePAM no\n"
            f"PasswordAuthentication no\nPermitRootLogin prohibit-password\n"
            f"PidFile {self.folder}/pid\nLogLevel VERBOSE\n"
        )
        self._process = subprocess.Popen(
            [str(SSHD), "-D", "-f", str(config), "-E", str(self.log)], stdin=subprocess.DEVNULL
        )
        until = time.monotonic() + START_S
        while not self._answers():
            assert time.monotonic() < until, self.log.read_text()
            assert self._process.poll() is None, self.log.read_text()
            time.sleep(0.05)

    def _answers(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    @property
    def host(self) -> dict[str, object]:
        return {
            "address": "127.0.0.1",
            "port": self.port,
            "user": getpass.getuser(),
            "identity_file": str(self.folder / "user_key"),
            "ssh_options": [
                f"UserKnownHostsFile={self.folder}/known_hosts",
                "IdentitiesOnly=yes",
            ],
            "root": str(self.folder / "root"),
        }

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(10)
