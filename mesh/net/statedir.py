"""What a node keeps on disk: its keys and certificate, its incarnation, its clock, its journal.

One agent per directory: the directory is locked while an agent runs. Files are replaced as a
whole (written beside, synced, renamed), so that a power cut leaves the old one or the new one.
"""

from __future__ import annotations

import base64
import fcntl
import os
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from mesh.core.clock import Now
from mesh.core.errors import ConfigError, StateLocked
from mesh.core.identity import (
    Authority,
    CertificateBody,
    NodeKeys,
    Passport,
    Signed,
    Trust,
    make_passport,
)
from mesh.core.mesh_time import MeshTime
from mesh.net.kernel_clock import is_unsynchronised

IDENTITY_FILE = "identity.json"
AUTHORITY_FILE = "authority.json"
YEAR_S = 365 * 86400.0


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that makes a node this node; ``identity.json`` holds it, for its owner only."""

    mesh_name: str
    authority_key: bytes
    signing: bytes
    curve_secret: bytes
    certificate: Signed
    issuer: Signed | None = None
    doors: tuple[str, ...] = ()
    """Seeds of who gave the certificate and can renew it."""

    @property
    def keys(self) -> NodeKeys:
        """The private keys."""
        return NodeKeys(signing=self.signing, curve_secret=self.curve_secret)

    @property
    def trust(self) -> Trust:
        """What the node believes."""
        return Trust(self.authority_key)

    def passport(self) -> Passport:
        """What it shows."""
        return make_passport(self.keys, self.certificate, self.trust.mesh, issuer=self.issuer)


class AuthorityFile(msgspec.Struct, frozen=True, kw_only=True):
    """The authority's secret; it may be kept offline."""

    mesh_name: str
    private: bytes


def write_private(path: Path, data: bytes) -> None:
    """Replace ``path`` as a whole, readable by its owner only; raises :class:`ConfigError`."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            os.write(descriptor, data)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        beside.replace(path)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise ConfigError(
            f"{path} cannot be written: {error.strerror}", hint="free space or change its owner"
        ) from error


def read_private(path: Path) -> bytes:
    """The bytes of a file; raises :class:`ConfigError`."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from error


def create_authority(directory: Path, mesh_name: str) -> Authority:
    """A new mesh authority, kept in ``directory``; raises if there is one already."""
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    path = directory / AUTHORITY_FILE
    if path.exists():
        raise ConfigError(f"{path} exists: a mesh was created here before")
    secret = AuthorityFile(mesh_name=mesh_name, private=os.urandom(32))
    write_private(path, msgspec.json.format(msgspec.json.encode(secret)))
    return Authority(secret.private)


def open_authority(directory: Path) -> tuple[Authority, str]:
    """The authority kept in ``directory`` and its mesh's name; raises :class:`ConfigError`."""
    path = directory / AUTHORITY_FILE
    if not path.exists():
        raise ConfigError(
            f"there is no mesh authority in {directory}",
            hint="make one with: gossamer mesh create NAME",
        )
    try:
        secret = msgspec.json.decode(read_private(path), type=AuthorityFile)
    except msgspec.MsgspecError as error:
        raise ConfigError(f"{path} is damaged: {error}") from error
    return Authority(secret.private), secret.mesh_name


def create_identity(
    directory: Path,
    authority: Authority,
    mesh_name: str,
    *,
    name: str,
    groups: tuple[str, ...],
    publish: tuple[str, ...],
    valid_s: float = YEAR_S,
) -> Identity:
    """Keys and a certificate for a node, written to its state directory."""
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    keys = NodeKeys(signing=os.urandom(32), curve_secret=os.urandom(32))
    wall = time.time()
    certificate = authority.certify(
        key=keys.key,
        name=name,
        groups=groups,
        publish=publish,
        not_before=wall,
        not_after=wall + valid_s,
        serial=os.urandom(8),
    )
    identity = Identity(
        mesh_name=mesh_name,
        authority_key=authority.key,
        signing=keys.signing,
        curve_secret=keys.curve_secret,
        certificate=certificate,
    )
    write_identity(directory, identity)
    return identity


def write_identity(directory: Path, identity: Identity) -> None:
    """Keep ``identity`` as a whole, for its owner only; raises :class:`ConfigError`."""
    write_private(directory / IDENTITY_FILE, msgspec.json.format(msgspec.json.encode(identity)))


class StateDir:
    """A node's directory, locked while it is open. ``wall`` is the machine's own clock."""

    def __init__(self, path: Path, wall: Callable[[], float] = time.time) -> None:
        self.path = path
        self._wall = wall
        try:
            path.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._lock = (path / "lock").open("a+b")
        except OSError as error:
            raise ConfigError(f"{path} cannot be used: {error.strerror}") from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._lock.close()
            raise StateLocked(
                f"another agent runs on {path}",
                hint="stop it first, or give this one another state directory",
            ) from error
        self.clock = MeshTime(self._read_number("clock"))
        self.incarnation = 0

    def identity(self) -> Identity:
        """The node's identity; raises :class:`ConfigError` when there is none."""
        path = self.path / IDENTITY_FILE
        if not path.exists():
            raise ConfigError(
                f"{self.path} holds no identity",
                hint="copy the node's directory made by gossamer mesh add, or run gossamer demo",
            )
        try:
            return msgspec.json.decode(read_private(path), type=Identity)
        except msgspec.MsgspecError as error:
            raise ConfigError(f"{path} is damaged: {error}") from error

    def next_incarnation(self) -> int:
        """One greater at every boot, whatever the clock says."""
        self.keep_incarnation(int(self._read_number("incarnation")) + 1)
        return self.incarnation

    def keep_incarnation(self, incarnation: int) -> None:
        """The mesh remembers a later boot than this disk did: count on from there."""
        self.incarnation = incarnation
        write_private(self.path / "incarnation", str(incarnation).encode())

    def now(self) -> Now:
        """Both clocks; wall time never below the floor kept here."""
        mono = time.monotonic()
        return Now(mono, self.clock.read(self._wall(), mono))

    def believe(self, certificate: CertificateBody) -> None:
        """What this node's own certificate says of the time: nobody moves it past its end, and
        where nobody sets this machine's clock it is not before its beginning."""
        self.clock.latest = certificate.not_after
        self.clock.unsynchronised = is_unsynchronised()
        if self.clock.unsynchronised:
            self.clock.floor = max(self.clock.floor, certificate.not_before)

    def keep_clock(self) -> None:
        """Remember the wall time; called now and then, off the event loop."""
        write_private(self.path / "clock", str(int(self.clock.floor)).encode())

    def _read_number(self, name: str) -> float:
        try:
            return float((self.path / name).read_text())
        except (OSError, ValueError):
            return 0.0  # a damaged counter must not stop a board from booting

    @property
    def control_socket(self) -> Path:
        """Where the faces find the agent."""
        return self.path / "control.sock"

    @property
    def journal(self) -> Path:
        """What the node knew of the mesh."""
        return self.path / "journal.mpk"

    def close(self) -> None:
        """Unlock."""
        self._lock.close()


def seed_text(address: str, curve: bytes) -> str:
    """A seed as it stands in configuration: ``tcp://host:port#key``."""
    return f"{address}#{base64.urlsafe_b64encode(curve).decode().rstrip('=')}"


def parse_seed(text: str) -> tuple[str, bytes]:
    """Address and CURVE key of a seed; raises :class:`ConfigError`."""
    address, mark, encoded = text.partition("#")
    try:
        curve = base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4))
    except ValueError:
        curve = b""
    if not address.startswith("tcp://") or not mark or len(curve) != 32:
        raise ConfigError(
            f"{text!r} is no seed",
            hint="a seed is tcp://HOST:PORT#KEY; gossamer status prints a node's own",
        )
    return address, curve
