"""Which machine this is, and what suits it: the profiles beside this module, one file a board.

A profile bounds a model by what the board's memory can hold and its bandwidth can read; the file
says where its figures come from. What is measured on the machine itself outweighs it: threads and
memory are looked at again when a model is loaded.
"""

from __future__ import annotations

import tomllib
from functools import cache
from pathlib import Path

import msgspec

from agents.boards.readings import ROOT, text
from mesh.core.errors import ConfigError

LAPTOP, SERVER = "laptop", "server"
FOLDER = Path(__file__).parent


class Board(msgspec.Struct, frozen=True, kw_only=True):
    """What the machine says of itself."""

    model: str
    arch: str = ""
    cores: int = 1
    memory_mb: int = 0
    tegra: str = ""
    """The Jetson Linux release, such as R36.4; empty elsewhere."""
    cuda: bool = False
    battery: bool = False


class ModelSizes(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a model of the user's own may be. Megabytes are those of its file."""

    file_mb: int
    context: int
    slots: int
    queue: int
    threads: int
    """0 leaves it to the measurement at load, one fewer than the cores at most."""
    example: str
    """A model that fits, as people look for it on a hub."""


class Profile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One kind of machine."""

    name: str
    matches: tuple[str, ...] = ()
    """Beginnings of the device tree's model; the longest that fits wins."""
    models: tuple[str, ...]
    """What it runs when nobody says."""
    memory_share: int
    """Percent of the memory that the agent and its models may take together (MemoryMax)."""
    bandwidth_gb_s: float = 0.0
    """Of the memory, as its maker states; 0 where machines of this kind differ."""
    sources: tuple[str, ...] = ()
    size: ModelSizes


def look(root: Path = ROOT) -> Board:
    """The board below ``root``."""
    import os

    meminfo = text(root / "proc/meminfo").splitlines()
    total = next((line.split()[1] for line in meminfo if line.startswith("MemTotal:")), "0")
    release = text(root / "etc/nv_tegra_release")
    cores = text(root / "sys/devices/system/cpu/present").rpartition("-")[2]
    return Board(
        model=text(root / "proc/device-tree/model"),
        arch=os.uname().machine if root == ROOT else text(root / "proc/sys/kernel/arch"),
        cores=int(cores) + 1 if cores.isdecimal() else os.cpu_count() or 1,
        memory_mb=int(total) // 1024 if total.isdecimal() else 0,
        tegra=_tegra(release),
        cuda=any(root.glob("usr/local/cuda*/bin/nvcc")),
        battery=any(
            text(supply) == "Battery" for supply in root.glob("sys/class/power_supply/BAT*/type")
        ),
    )


def _tegra(release: str) -> str:
    """``# R36 (release), REVISION: 4.0, ...`` as R36.4.0."""
    words = release.replace(",", " ").split()
    major = next((word for word in words if word.startswith("R") and word[1:].isdecimal()), "")
    minor = words[words.index("REVISION:") + 1] if "REVISION:" in words[:-1] else ""
    return f"{major}.{minor}".rstrip(".") if major else ""


@cache
def profiles() -> dict[str, Profile]:
    """Every profile by name."""
    found = {}
    for path in sorted(FOLDER.glob("*.toml")):
        try:
            profile = msgspec.convert(tomllib.loads(path.read_text()), Profile)
        except (msgspec.ValidationError, tomllib.TOMLDecodeError) as error:
            raise ConfigError(f"the profile {path.name} is damaged: {error}") from error
        found[profile.name] = profile
    return found


def choose(board: Board, known: dict[str, Profile] | None = None) -> Profile:
    """The profile of a board; machines that none names are laptops or servers."""
    known = profiles() if known is None else known
    fitting = [
        (len(start), profile)
        for profile in known.values()
        for start in profile.matches
        if board.model.startswith(start)
    ]
    if fitting:
        chosen = max(fitting, key=lambda pair: pair[0])[1]
    elif board.battery:
        chosen = known[LAPTOP]
    elif not board.model and board.memory_mb >= SERVER_MB:
        chosen = known[SERVER]
    elif not board.model:
        chosen = known[LAPTOP]
    else:  # a board that no profile names: by its memory, as the smallest Pi that has as much
        rows = [(1024, "pi-zero2"), (3000, "pi-4"), (1 << 30, "pi-5")]
        chosen = known[next(name for limit, name in rows if board.memory_mb < limit)]
    return fitted(chosen, board)


SERVER_MB = 12_000  # without a battery and with so much memory it is taken for a server
SPARE_MB = 250  # the agent, a worker's own memory, and the system's share of them


def fitted(profile: Profile, board: Board) -> Profile:
    """The profile held to the memory of this one: a Pi 5 has 2, 4, 8 or 16 GB."""
    room = board.memory_mb * profile.memory_share // 100 - SPARE_MB
    if board.memory_mb <= 0 or profile.size.file_mb <= room:
        return profile
    size = msgspec.structs.replace(profile.size, file_mb=max(0, room))
    return msgspec.structs.replace(profile, size=size)


def named(name: str) -> Profile:
    """A profile by its name; raises :class:`ConfigError`."""
    known = profiles()
    if name not in known:
        raise ConfigError(f"there is no profile {name!r}", hint=", ".join(known))
    return known[name]
