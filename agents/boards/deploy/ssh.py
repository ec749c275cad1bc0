"""Requests to machines through the user's own OpenSSH: its keys, agent, jump hosts, known hosts.

A host key that is not known is refused, as ssh does when nobody is there to answer.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from agents.boards.deploy import environments, remote
from agents.boards.deploy.inventory import Host, Inventory
from agents.boards.deploy.release import Blob
from mesh.core.errors import GossamerError

CONNECT_S = 10
REQUEST_S = 900.0  # the transfer of a large model over a slow link
STOPPED_AT_CONNECTION = 255  # ssh's own exit status
NO_COMMAND = 127
CHUNK = 1 << 20
HIDDEN = "***"


class DeployError(GossamerError):
    """A machine was not reached, or refused; the sentence names it."""

    code = "deploy_failed"


def hide(text: str, secrets: Sequence[str]) -> str:
    """``text`` without any secret, longest first."""
    for secret in secrets:
        text = text.replace(secret, HIDDEN)
    return text


class Ssh:
    """Connections to hosts, one each, kept while the ``with`` block lasts."""

    def __init__(self, inventory: Inventory, *, client: str = "ssh") -> None:
        self._inventory = inventory
        found = shutil.which(client)
        if found is None:
            raise DeployError("there is no ssh", hint="sudo apt install openssh-client")
        self._client = found
        self._script = _script()
        self.environments: dict[str, str] = {}
        """The environment of each host that has one, by the host's name."""
        # Short: a socket's path has 107 characters, and ssh appends a hash.
        self._sockets = Path(tempfile.mkdtemp(prefix="gd-", dir="/tmp"))
        self._used: dict[str, Host] = {}

    def __enter__(self) -> Ssh:
        return self

    def __exit__(self, *_: object) -> None:
        for host in self._used.values():
            subprocess.run(
                [*self._ssh(host), "-O", "exit", host.address],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                check=False,
            )
        shutil.rmtree(self._sockets, ignore_errors=True)

    def _ssh(self, host: Host) -> list[str]:
        options = [
            "BatchMode=yes",
            f"ConnectTimeout={CONNECT_S}",
            "ServerAliveInterval=15",
            "ControlMaster=auto",
            f"ControlPath={self._sockets}/%C",
            "ControlPersist=60",
            "LogLevel=ERROR",
            *(o.replace("{folder}", str(self._inventory.folder)) for o in host.ssh_options),
        ]
        command = [self._client, "-T", "-p", str(host.port)]
        if host.user:
            command += ["-l", host.user]
        if host.identity_file:
            command += ["-i", str(self._inventory.path(host.identity_file))]
        return command + [part for option in options for part in ("-o", option)]

    def ask(
        self,
        host: Host,
        verb: str,
        *,
        blob: Blob | None = None,
        secrets: Sequence[str] = (),
        timeout_s: float = REQUEST_S,
        **facts: Any,
    ) -> Any:
        """One request; raises :class:`DeployError` with the machine's own sentence."""
        self._used.setdefault(host.name, host)
        request = {
            "verb": verb,
            "root": host.root,
            "python": host.python,
            "base": host.base,
            "environment": self.environments.get(host.name, ""),
            "runner": host.runner,
            "unit": f"gossamer-{host.name}",
            "run": [
                {"name": r.name, "command": r.command, "environment": r.environment}
                for r in host.run
            ],
            **facts,
        }
        # The script comes before the request; its length is all that the command line says.
        there = f"python3 -c 'import sys; exec(sys.stdin.buffer.read({len(self._script)}))'"
        process = subprocess.Popen(
            [*self._ssh(host), host.address, there],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert process.stdin is not None
        try:
            with contextlib.suppress(BrokenPipeError):
                process.stdin.write(self._script)
                process.stdin.write(json.dumps(request).encode() + b"\n")
                if blob is not None:
                    _send(process.stdin, blob)
                process.stdin.flush()
            out, err = process.communicate(timeout=timeout_s)
        except BaseException as error:
            process.kill()
            process.wait()
            if isinstance(error, subprocess.TimeoutExpired):
                raise DeployError(
                    f"{host.name}: no reply to {verb} in {timeout_s:.0f} s"
                ) from error
            raise
        return _reply(host, process.returncode, out.decode(), hide(err.decode(), secrets), secrets)


def _script() -> bytes:
    """What is run there: the one module that the other imports, then the other itself."""
    name = environments.__name__
    parts = [Path(str(m.__file__)).read_text("utf-8") for m in (environments, remote)]
    return (
        f"import sys, types\nmade = types.ModuleType({name!r})\nsys.modules[{name!r}] = made\n"
        f"exec(compile({parts[0]!r}, {name!r}, 'exec'), made.__dict__)\n"
        f"exec(compile({parts[1]!r}, 'remote', 'exec'))\n"
    ).encode()


def _send(stream: Any, blob: Blob) -> None:
    if blob.source is None:
        stream.write(blob.data)
        return
    with blob.source.open("rb") as file:
        shutil.copyfileobj(file, stream, CHUNK)


def _reply(host: Host, code: int, out: str, err: str, secrets: Sequence[str]) -> Any:
    lines = [line for line in out.splitlines() if line.startswith(remote.REPLY)]
    if lines:
        reply = json.loads(lines[-1].removeprefix(remote.REPLY))
        if "ok" in reply:
            return reply["ok"]
        raise DeployError(f"{host.name}: {hide(str(reply['error']), secrets)}")
    last = (err.strip().splitlines() or ["no word"])[-1]
    if code == STOPPED_AT_CONNECTION:
        raise DeployError(
            f"{host.name}: ssh to {host.address}: {last}",
            hint=f"try it by hand: ssh -p {host.port} {host.address}",
        )
    if code == NO_COMMAND:
        raise DeployError(
            f"{host.name}: there is no python3", hint="sudo apt install python3 on that machine"
        )
    raise DeployError(f"{host.name}: {last}")
