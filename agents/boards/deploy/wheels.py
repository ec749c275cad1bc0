"""A wheelhouse as a deployment needs it: what is in it, for which machines, under one name."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import msgspec

from agents.boards.deploy.release import Blob, blob_of
from agents.boards.doctor import LLAMA
from agents.boards.wheelhouse import SUMS, needs_of
from mesh.core.errors import ConfigError

HINT = "gossamer board wheelhouse -o FOLDER makes one"
OURS = "gossamer_mesh-"
UNPACKED = 5  # times the size of the wheels: an environment on disk, with what Python compiles


class Wheelhouse(msgspec.Struct, frozen=True, kw_only=True):
    """``name`` is by content. ``machines`` and ``pythons`` (such as 311) are those that its
    compiled wheels are for; empty where all of them are for any."""

    name: str
    version: str
    gossamer: str
    blobs: tuple[Blob, ...]
    requirements: tuple[str, ...]
    machines: frozenset[str]
    pythons: frozenset[str]
    models: bool

    @property
    def size(self) -> int:
        """Bytes of all wheels."""
        return sum(blob.size for blob in self.blobs)

    @property
    def imports(self) -> list[str]:
        """What must load once it is installed."""
        return ["agents", "mesh", "capabilities", *(["llama_cpp"] if self.models else [])]


def read_wheelhouse(folder: Path, base: str) -> Wheelhouse:
    """The wheels in ``folder``, for an environment of the interpreter ``base``.

    Raises :class:`ConfigError` for a folder that is none, or whose files are damaged.
    """
    wheels = sorted((folder / "wheels").glob("*.whl"))
    ours = [wheel for wheel in wheels if wheel.name.startswith(OURS)]
    if len(ours) != 1 or not any(wheel.name.startswith("pip-") for wheel in wheels):
        raise ConfigError(f"{folder} is no wheelhouse of Gossamer", hint=HINT)
    blobs = tuple(blob_of(wheel.name, wheel) for wheel in wheels)
    _check_sums(folder, blobs)
    models = any(wheel.name.startswith(LLAMA.replace("-", "_") + "-") for wheel in wheels)
    needs = [need for need in needs_of(ours[0]) if models or not need.startswith(LLAMA)]
    content = json.dumps([base, *sorted((blob.path, blob.sha256) for blob in blobs)])
    tags = [wheel.stem.split("-")[-3:] for wheel in wheels]
    return Wheelhouse(
        name=hashlib.sha256(content.encode()).hexdigest()[:12],
        version=ours[0].name.split("-")[1],
        gossamer=ours[0].name,
        blobs=blobs,
        requirements=tuple(needs),
        machines=frozenset(
            machine
            for *_, platform in tags
            for machine in ("x86_64", "aarch64")
            if platform.endswith(machine)
        ),
        pythons=frozenset(
            python[2:] for python, abi, _ in tags if python.startswith("cp") and abi == python
        ),
        models=models,
    )


def _check_sums(folder: Path, blobs: tuple[Blob, ...]) -> None:
    try:
        lines = (folder / SUMS).read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise ConfigError(f"{folder} has no {SUMS}", hint=HINT) from error
    sums = {name: digest for digest, _, name in (line.partition("  ") for line in lines)}
    for blob in blobs:
        if sums.get(f"wheels/{blob.path}") != blob.sha256:
            raise ConfigError(
                f"{folder}: wheels/{blob.path} is not as its {SUMS} says",
                hint="make the wheelhouse again into an empty folder",
            )
