"""Machines that are network namespaces: a switch, boards on it, a NAT router with a LAN behind.

Everything happens in namespaces that a :class:`Lab` makes and deletes; not even a cable end
lies outside them. It needs root and iproute2, and nft for what cuts or loses packets.
"""

from __future__ import annotations

import asyncio
import atexit
import itertools
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from agents.faces.client import ControlClient
from mesh.core.identity import Authority
from mesh.net.statedir import create_identity

LAN = "10.77.0"  # inside the namespaces only
HOME = "10.78.0"  # behind the router
PORTS = "control_port = 7100\nbulk_port = 7101\nadmission_port = 7102"
OPEN = '[[access]]\nallow = true\nnames = "data.gpt/machine/**"\n'
SUMMARY = "data.gpt/machine/summary"

_number = itertools.count()


def run(*command: str, text: str | None = None) -> str:
    """Run a command; raises with what it said when it fails."""
    done = subprocess.run(
        command, input=text, capture_output=True, text=True, timeout=30, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip() or done.returncode}")
    return done.stdout


@cache
def why_not() -> str:
    """Why namespaces cannot be had here; empty when they can."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    for tool, package in (("ip", "iproute2"), ("nft", "nftables")):
        if shutil.which(tool) is None:
            return f"{tool} is not installed (package {package})"
    try:
        with Lab(Path(os.devnull)) as lab:
            lab.cut(lab.machine("probe"), "input")
    except (RuntimeError, subprocess.TimeoutExpired) as error:
        return f"this machine allows no network namespaces: {error}"
    return ""


class Machine:
    """A namespace with one cable, and at most one agent in it."""

    def __init__(self, lab: Lab, name: str, address: str) -> None:
        self.lab = lab
        self.name = name
        self.space = f"{lab.prefix}-{name}"
        self.address = address
        self.process: subprocess.Popen[bytes] | None = None
        self.state = lab.folder / name

    def run(self, *command: str, text: str | None = None) -> str:
        """Run a command on the machine."""
        return run("ip", "netns", "exec", self.space, *command, text=text)

    def start(self, node: str = "", **settings: str) -> None:
        """Start an agent that offers this machine's readings; it gets an identity if it has none.

        ``node`` are lines for ``[node]`` of its configuration.
        """
        if not (self.state / "identity.json").exists():
            create_identity(
                self.state,
                self.lab.authorities.setdefault(settings.get("mesh", "lab"), _authority()),
                settings.get("mesh", "lab"),
                name=self.name,
                groups=("home",),
                publish=("data.gpt/machine/**",),
            )
        config = self.lab.folder / f"{self.name}.toml"
        config.write_text(
            f'machine = true\n[node]\nstate = "{self.state}"\nhost = "0.0.0.0"\n{PORTS}\n{node}\n'
            + OPEN
        )
        command = [sys.executable, "-m", "agents.faces.up", str(config)]
        with self.log.open("ab") as out:
            self.process = subprocess.Popen(
                ["ip", "netns", "exec", self.space, *command],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
            )

    def readdress(self, address: str) -> None:
        """Give the machine another address."""
        run("ip", "-n", self.space, "addr", "del", f"{self.address}/24", "dev", "eth0")
        run("ip", "-n", self.space, "addr", "add", f"{address}/24", "dev", "eth0")
        self.address = address

    @property
    def log(self) -> Path:
        """What the agent said."""
        return self.lab.folder / f"{self.name}.log"

    def stop(self, number: int = signal.SIGTERM) -> None:
        """End the agent; ip netns exec has become it, so the signal reaches it."""
        if self.process is not None:
            self.process.send_signal(number)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(20)
            self.process = None

    def fetch(self, verb: str, **args: Any) -> Any:
        """Ask the agent at its local door, which is a file and needs no network."""

        async def ask() -> Any:
            async with await ControlClient.connect(self.state) as client:
                return await client.fetch(verb, args)

        return asyncio.run(ask())

    def seed(self) -> str:
        """A line of configuration that makes another agent knock here."""
        return f'seeds = ["{self.fetch("status")["seed"]}"]'

    def peer(self, other: Machine) -> dict[str, Any]:
        """Another machine's node as this one's agent sees it; empty when unknown."""
        try:
            found = self.fetch("peers")
        except Exception:  # it is still starting
            return {}
        return next((dict(p) for p in found if p["name"] == other.name), {})

    def sees(self, other: Machine, state: str = "alive") -> bool:
        """Whether the other node is in that state, as this one's agent sees it."""
        return self.peer(other).get("state") == state

    def calls(self, other: Machine) -> str:
        """The answer of the other machine; empty when there is none."""
        try:
            found = self.fetch("call", name=f"{SUMMARY}@{other.name}", text="", timeout_s=10)
        except Exception:
            return ""
        return str(found["text"])


def _authority() -> Authority:
    return Authority(os.urandom(32))


class Lab:
    """A switch and the machines on it; leaving the ``with`` block leaves nothing behind."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.prefix = f"gossamer-{os.getpid()}-{next(_number)}"
        self.authorities: dict[str, Authority] = {}
        self.machines: list[Machine] = []
        self._spaces: list[str] = []
        self._hosts = itertools.count(2)

    def __enter__(self) -> Lab:
        atexit.register(self._delete)
        try:
            self._space("switch")
            run("ip", "-n", f"{self.prefix}-switch", "link", "add", "br0", "type", "bridge")
            run("ip", "-n", f"{self.prefix}-switch", "link", "set", "br0", "up")
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _space(self, name: str) -> str:
        space = f"{self.prefix}-{name}"
        self._spaces.append(space)
        run("ip", "netns", "add", space)
        run("ip", "-n", space, "link", "set", "lo", "up")
        return space

    def _cable(self, space: str, device: str, other: str, port: str) -> None:
        run(
            *("ip", "-n", space, "link", "add", device, "type", "veth"),
            *("peer", "name", port, "netns", other),
        )
        run("ip", "-n", space, "link", "set", "dev", device, "up")
        run("ip", "-n", other, "link", "set", "dev", port, "up")

    def machine(self, name: str) -> Machine:
        """A machine on the switch."""
        made = Machine(self, name, f"{LAN}.{next(self._hosts)}")
        self._space(name)
        switch = f"{self.prefix}-switch"
        self._cable(made.space, "eth0", switch, name)
        run("ip", "-n", switch, "link", "set", "dev", name, "master", "br0")
        run("ip", "-n", made.space, "addr", "add", f"{made.address}/24", "dev", "eth0")
        self.machines.append(made)
        return made

    def behind_nat(self, name: str) -> Machine:
        """A machine on a LAN of its own, behind a router that masquerades."""
        router = self.machine(f"{name}-nat")
        made = Machine(self, name, f"{HOME}.2")
        self._space(name)
        self._cable(made.space, "eth0", router.space, "home")
        run("ip", "-n", router.space, "addr", "add", f"{HOME}.1/24", "dev", "home")
        run("ip", "-n", made.space, "addr", "add", f"{made.address}/24", "dev", "eth0")
        run("ip", "-n", made.space, "route", "add", "default", "via", f"{HOME}.1")
        router.run("sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward")
        router.run(
            *("nft", "-f", "-"),
            text="table ip nat {\nchain out { type nat hook postrouting priority 100; "
            'oifname "eth0" masquerade; }\n}\n',
        )
        self.machines.append(made)
        return made

    def cut(self, machine: Machine, *hooks: str, share: int = 100) -> None:
        """Drop that share, in percent, of what comes in ("input") or goes out ("output")."""
        match = "" if share == 100 else f"numgen random mod 100 < {share} "
        chains = "".join(
            f"chain {hook} {{ type filter hook {hook} priority 0; "
            f"{'iifname' if hook == 'input' else 'oifname'} eth0 {match}counter drop; }}\n"
            for hook in hooks
        )
        machine.run("nft", "-f", "-", text=f"table inet cut {{\n{chains}}}\n")

    def heal(self, machine: Machine) -> None:
        """Let everything pass again."""
        machine.run("nft", "delete", "table", "inet", "cut")

    def cable(self, machine: Machine, state: str) -> None:
        """Pull the cable out of the switch ("down"), or plug it in ("up")."""
        run("ip", "-n", f"{self.prefix}-switch", "link", "set", "dev", machine.name, state)

    def close(self) -> None:
        """End the agents, delete the namespaces; cables go with them."""
        try:
            for machine in self.machines:
                machine.stop()
        finally:
            self._delete()
            atexit.unregister(self._delete)

    def _delete(self) -> None:
        """Also at the interpreter's end, when the above was itself interrupted."""
        for machine in self.machines:
            if machine.process is not None:
                machine.process.kill()
                machine.process.wait(20)
        for space in self._spaces:
            subprocess.run(["ip", "netns", "del", space], capture_output=True, check=False)


@contextmanager
def lab(folder: Path) -> Iterator[Lab]:
    """A lab; when a test fails, what its agents said is printed."""
    with Lab(folder) as made:
        try:
            yield made
        except BaseException:
            for machine in made.machines:
                if machine.log.exists():
                    print(f"--- {machine.name} ---\n{machine.log.read_text()[-3000:]}")
                    print(machine.fetch("peers") if machine.process else "stopped")
            raise
