"""What a host is to have: its files by content, its configuration, and one name for all of it.

Two releases with the same content have the same name, so that applying twice changes nothing.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from agents.boards.deploy.inventory import Host, Inventory
from agents.config import make_config
from mesh.core.errors import ConfigError

CONFIG = "agent.toml"
PLAIN_MODE, PRIVATE_MODE, PROGRAM_MODE = 0o644, 0o600, 0o755
MAX_FILES = 5000  # a folder named by mistake, such as a home, is told instead of sent
_IGNORED = {"__pycache__", ".git", ".venv", ".mypy_cache", ".pytest_cache", ".ruff_cache"}


class Blob(msgspec.Struct, frozen=True, kw_only=True):
    """One file of a release. ``name`` is what it is called on the machine until it is laid out:
    its hash, or for a secret a keyed one, which tells nothing of it."""

    path: str
    name: str
    sha256: str
    size: int
    mode: int = PLAIN_MODE
    unpack: bool = False
    source: Path | None = None
    data: bytes = b""


class Release(msgspec.Struct, frozen=True, kw_only=True):
    """A whole release; ``secrets`` are the texts that no output may show."""

    name: str
    blobs: tuple[Blob, ...]
    secrets: tuple[str, ...] = ()

    @property
    def layout(self) -> list[dict[str, Any]]:
        """What the machine is told: which file goes where."""
        return [
            {"path": b.path, "blob": b.name, "mode": b.mode, "unpack": b.unpack} for b in self.blobs
        ]


def gather(inventory: Inventory, host: Host, key: bytes) -> list[Blob]:
    """The files of a host but its configuration; raises :class:`ConfigError` for a missing one."""
    blobs: list[Blob] = []
    if host.wheel:
        wheel = _existing(inventory, host, host.wheel)
        if wheel.suffix != ".whl":
            raise ConfigError(f"{host.name}: {wheel} is no wheel", hint="pip wheel --no-deps .")
        blobs.append(blob_of("lib", wheel, unpack=True))
    for local, target in sorted(host.files.items()):
        blobs += _tree(target, _existing(inventory, host, local))
        if len(blobs) > MAX_FILES:
            raise ConfigError(f"{host.name}: {local} brings more than {MAX_FILES} files")
    for name, local in sorted(host.secrets.items()):
        data = _existing(inventory, host, local).read_bytes()
        blobs.append(
            Blob(
                path=f"secrets/{name}",
                name=hmac.new(key, data, "sha256").hexdigest(),
                sha256=hashlib.sha256(data).hexdigest(),
                size=len(data),
                mode=PRIVATE_MODE,
                data=data,
            )
        )
    return blobs


def _existing(inventory: Inventory, host: Host, text: str) -> Path:
    path = inventory.path(text)
    if not path.exists():
        raise ConfigError(f"{host.name}: there is no {path}")
    return path


def _tree(target: str, path: Path) -> list[Blob]:
    if path.is_file():
        return [blob_of(target, path)]
    found: list[Blob] = []
    for file in sorted(path.rglob("*")):
        inside = file.relative_to(path)
        if file.is_file() and not _IGNORED & set(inside.parts):
            found.append(blob_of(f"{target}/{inside.as_posix()}", file))
            if len(found) > MAX_FILES:
                break
    return found


def blob_of(target: str, path: Path, *, unpack: bool = False) -> Blob:
    """A local file as it goes to ``target`` in a release."""
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    status = path.stat()
    return Blob(
        path=target,
        name=sha256,
        sha256=sha256,
        size=status.st_size,
        mode=PROGRAM_MODE if status.st_mode & 0o100 else PLAIN_MODE,
        unpack=unpack,
        source=path,
    )


def render(inventory: Inventory, host: Host, seeds: Sequence[str]) -> str:
    """The host's agent.toml: its own part as written, and the ``[node]`` that deploy knows.

    Raises :class:`ConfigError` for a part that an agent would refuse: before any machine is
    touched, not after.
    """
    own = ""
    if host.config:
        path = _existing(inventory, host, host.config)
        own = path.read_text(encoding="utf-8")
        try:
            raw = tomllib.loads(own)
        except tomllib.TOMLDecodeError as error:
            raise ConfigError(f"{path} is no TOML: {error}") from error
        if "node" in raw:
            raise ConfigError(f"{path} has a [node]", hint="deploy writes it from the inventory")
    control, bulk, admission = host.ports
    node = {
        "state": "../../state",
        "host": host.listen,
        "advertise": host.dialled,
        "control_port": control,
        "bulk_port": bulk,
        "admission_port": admission,
        "seeds": list(seeds),
    }
    lines = [own.rstrip(), "", "# Written by gossamer deploy.", "[node]"]
    lines += [f"{key} = {json.dumps(value)}" for key, value in node.items()]
    text = "\n".join(lines).lstrip() + "\n"
    make_config(tomllib.loads(text), base=Path("/"), source=host.config or "the configuration")
    return text


def make_release(
    inventory: Inventory, host: Host, blobs: Sequence[Blob], config: str, python: str
) -> Release:
    """Name a release by all that it is: files, configuration, programs and interpreter."""
    data = config.encode()
    sha256 = hashlib.sha256(data).hexdigest()
    mine = Blob(path=CONFIG, name=sha256, sha256=sha256, size=len(data), data=data)
    whole = (*blobs, mine)
    facts = [
        [[b.path, b.name, b.mode] for b in whole],
        [msgspec.to_builtins(run) for run in host.run],
        python,
    ]
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
    return Release(name=digest[:12], blobs=whole, secrets=secrets_of(blobs))


def secrets_of(blobs: Sequence[Blob]) -> tuple[str, ...]:
    """The texts that must not be shown: each secret, and each of its lines."""
    found = []
    for blob in blobs:
        if blob.mode == PRIVATE_MODE:
            text = blob.data.decode("utf-8", "replace")
            found += [part for part in (text.strip(), *text.split()) if len(part) > 3]
    return tuple(sorted(set(found), key=len, reverse=True))
