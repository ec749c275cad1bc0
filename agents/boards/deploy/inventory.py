"""The inventory: which nodes there are, on which machines, and what each of them runs.

    [mesh]
    name = "city"
    owner = "owner"                # directory of the mesh's key; made by the first apply

    [defaults]                     # whatever a host may say, for all that do not say it
    user = "pi"

    [[host]]
    name = "camera-1"              # the node's name in the mesh
    address = "192.168.1.21"
    publish = ["data.gpt/camera/**"]
    config = "nodes/camera.toml"   # the agent's configuration but for [node], which deploy writes

Unknown fields are refused. Relative paths are taken from the inventory's own folder.
"""

from __future__ import annotations

import tomllib
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import msgspec

from mesh.core.errors import ConfigError, GossamerError
from mesh.core.names import check_node_name, check_pattern

SSH_PORT = 22
PORTS = (7100, 7101, 7102)
INSTALLED_PYTHON = "/opt/gossamer/venv/bin/python"  # where install.sh puts it
MAX_HOSTS = 500  # one owner's terminal; beyond it, images and invitations are the way


class Mesh(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The mesh that all hosts belong to."""

    name: str
    owner: str = "owner"


class Run(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A program beside the agent, such as one that feeds it. ``{python}``, ``{release}`` and
    ``{state}`` are filled in."""

    name: str
    command: tuple[str, ...]
    environment: dict[str, str] = {}


class Host(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One node and the machine that it runs on."""

    name: str
    address: str
    user: str = ""
    port: int = SSH_PORT
    identity_file: str = ""
    ssh_options: tuple[str, ...] = ()
    """Options of ssh's -o, such as ``UserKnownHostsFile=known_hosts``; ``{folder}`` is the
    inventory's folder."""
    root: str = "~/gossamer"
    """The folder on the machine; two nodes on one machine have two."""
    python: str = INSTALLED_PYTHON
    """An interpreter there that has Gossamer, or at least its libraries where ``wheel`` is. With
    a wheelhouse the one that the environment is made with, python3 unless said."""
    wheelhouse: str = ""
    """A folder by ``gossamer board wheelhouse``: Gossamer and its libraries are installed from it
    into an environment of the node's own."""
    wheel: str = ""
    """A wheel of Gossamer that takes the place of the installed version in this release."""
    runner: Literal["auto", "systemd", "plain"] = "auto"
    """systemd: a unit that comes back after a boot. plain: a process that does not."""
    groups: tuple[str, ...] = ()
    publish: tuple[str, ...] = ()
    seed: bool = False
    """Others find the mesh through this one; where none says so, the first is it."""
    listen: str = "0.0.0.0"  # noqa: S104 - links are encrypted and admit members only
    advertise: str = ""
    """What other nodes dial; ``address`` where empty."""
    ports: tuple[int, int, int] = PORTS
    config: str = ""
    files: dict[str, str] = {}
    """Paths in the release by local file or folder: ``"models/tiny.gguf" = "tiny.gguf"``."""
    secrets: dict[str, str] = {}
    """Local files by the name that they get under ``secrets/`` in the release, mode 600."""
    run: tuple[Run, ...] = ()

    @property
    def base(self) -> str:
        """What an environment is made with."""
        return "python3" if self.python == INSTALLED_PYTHON else self.python

    @property
    def dialled(self) -> str:
        """The address at which other nodes find it."""
        return self.advertise or self.address


class Inventory(msgspec.Struct, frozen=True, kw_only=True):
    """A checked inventory; ``folder`` is where its relative paths begin."""

    mesh: Mesh
    hosts: tuple[Host, ...]
    folder: Path

    def path(self, text: str) -> Path:
        """A path of the inventory as an absolute one."""
        return (self.folder / Path(text).expanduser()).absolute()

    def seeds(self) -> tuple[Host, ...]:
        """Through whom the others find the mesh."""
        return tuple(host for host in self.hosts if host.seed) or self.hosts[:1]

    def chosen(self, names: list[str]) -> tuple[Host, ...]:
        """The hosts of these names, all where there are none; raises :class:`ConfigError`."""
        known = {host.name for host in self.hosts}
        for name in names:
            if name not in known:
                raise ConfigError(
                    f"the inventory has no host {name!r}", hint=", ".join(sorted(known))
                )
        return tuple(host for host in self.hosts if not names or host.name in names)


class _File(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    mesh: Mesh
    host: tuple[Host, ...]


def load_inventory(path: Path) -> Inventory:
    """Read an inventory; raises :class:`ConfigError` that names what is wrong with it."""
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is no TOML: {error}") from error
    return make_inventory(raw, path.absolute().parent, str(path))


def make_inventory(raw: dict[str, Any], folder: Path, source: str = "inventory") -> Inventory:
    """Check what a file holds; raises :class:`ConfigError`."""
    raw = dict(raw)
    defaults = raw.pop("defaults", {})
    hosts = raw.get("host", [])
    if isinstance(defaults, dict) and isinstance(hosts, list):
        raw["host"] = [{**defaults, **host} if isinstance(host, dict) else host for host in hosts]
    try:
        file = msgspec.convert(raw, _File)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{source}: {error}", hint="docs/deploy.md has every field") from error
    inventory = Inventory(mesh=file.mesh, hosts=file.host, folder=folder)
    try:
        _check(inventory)
    except GossamerError as error:
        raise ConfigError(f"{source}: {error.message}", hint=error.hint) from error
    return inventory


def _check(inventory: Inventory) -> None:
    hosts = inventory.hosts
    check_node_name(inventory.mesh.name)
    if not 1 <= len(hosts) <= MAX_HOSTS:
        raise ConfigError(f"it has {len(hosts)} hosts; there are 1 to {MAX_HOSTS}")
    names: set[str] = set()
    places: set[tuple[str, int, str]] = set()
    for host in hosts:
        check_node_name(host.name)
        if host.name in names:
            raise ConfigError(f"two hosts are called {host.name}")
        names.add(host.name)
        place = (host.address, host.port, host.root)
        if place in places:
            raise ConfigError(
                f"{host.name} shares the folder {host.root} on {host.address} with another node",
                hint='give each a root of its own, such as root = "~/gossamer-2"',
            )
        places.add(place)
        _check_host(host)


def _check_host(host: Host) -> None:
    # ssh would take either for an option of its own.
    for what, value in (("address", host.address), ("user", host.user)):
        if value.startswith("-") or any(c.isspace() for c in value):
            raise ConfigError(f"{host.name}: {value!r} is no {what}")
    if not host.address:
        raise ConfigError(f"{host.name} has no address")
    if not (host.root.startswith(("/", "~/")) and PurePosixPath(host.root).name):
        raise ConfigError(f"{host.name}: root {host.root!r} is neither absolute nor under ~/")
    if not all(0 < port < 1 << 16 for port in (host.port, *host.ports)):
        raise ConfigError(f"{host.name}: a port is 1 to 65535")
    if len(set(host.ports)) != len(host.ports):
        raise ConfigError(f"{host.name}: its three ports differ: control, bulk, admission")
    if host.wheel and host.wheelhouse:
        raise ConfigError(f"{host.name}: a wheelhouse has the wheel in it; name one of the two")
    for pattern in host.publish:
        check_pattern(pattern)
    for target in host.files.values():
        _check_inside(host, target)
    for name in host.secrets:
        _check_inside(host, name)
        if len(PurePosixPath(name).parts) != 1:
            raise ConfigError(f"{host.name}: the secret {name!r} is a plain file name")
    programs = [run.name for run in host.run]
    if len(set(programs)) != len(programs):
        raise ConfigError(f"{host.name}: two programs have one name")
    for run in host.run:
        check_node_name(run.name)
        if run.name == "agent" or not run.command:
            raise ConfigError(f"{host.name}: {run.name!r} needs a command and another name")


RESERVED = {"agent.toml", "release.json", "secrets", "lib"}


def _check_inside(host: Host, target: str) -> None:
    path = PurePosixPath(target)
    if path.is_absolute() or ".." in path.parts or not path.parts or path.parts[0] in RESERVED:
        raise ConfigError(
            f"{host.name}: {target!r} is no place in a release",
            hint=f"a relative path that does not begin with {', '.join(sorted(RESERVED))}",
        )
