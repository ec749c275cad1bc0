"""What differs between the inventory and the machines, and what to do about it. Decides only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

# What is done to a host, in words.
UNCHANGED, INSTALL, CHANGE, START, CERTIFY, IMPOSSIBLE = (
    "unchanged",
    "install",
    "change",
    "start",
    "certify",
    "impossible",
)
RENEW_BEFORE_S = 30 * 86400.0  # a certificate that ends within a month is made anew
MARGIN_BYTES = 50_000_000  # left free on a machine's disk beyond what is sent


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be done on one host. ``release`` is empty where it depends on keys that are
    made while applying."""

    host: str
    action: str
    why: str
    release: str = ""
    current: str = ""
    send_bytes: int = 0
    certify: bool = False
    fetched: tuple[str, ...] = ()
    """Names of the files that the machine lacks."""
    installs: str = ""
    """The version of Gossamer that is installed there first, empty where none is."""


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """What the inventory wants of one host."""

    name: str
    groups: tuple[str, ...]
    publish: tuple[str, ...]
    release: str
    sizes: Mapping[str, int]
    """Bytes by name of each file."""
    brings_gossamer: bool = False
    mesh: str = ""
    paths: Mapping[str, str] = {}
    """Where in the release each file goes, by its name."""
    house: House | None = None


class House(msgspec.Struct, frozen=True, kw_only=True):
    """A wheelhouse that Gossamer is installed from. ``wheels``: bytes by name of each file."""

    name: str
    version: str
    wheels: Mapping[str, int]
    unpacked_bytes: int
    machines: frozenset[str] = frozenset()
    pythons: frozenset[str] = frozenset()


def certificate_is_right(public: Mapping[str, Any] | None, wanted: Wanted, wall: float) -> bool:
    """Whether the node's certificate says what the inventory says, for long enough."""
    return public is not None and (
        public["name"] == wanted.name
        and public["mesh"] == wanted.mesh
        and set(public["groups"]) == set(wanted.groups)
        and set(public["publish"]) == set(wanted.publish)
        and public["not_after"] > wall + RENEW_BEFORE_S
    )


def plan_host(facts: Mapping[str, Any], wanted: Wanted, wall: float) -> Step:
    """One host's step, from the ``facts`` that it told and the wall time now."""
    house = wanted.house
    new = house if house is not None and house.name not in facts.get("environments", ()) else None
    sizes = {**wanted.sizes, **(new.wheels if new is not None else {})}
    lacking = tuple(name for name in sizes if name not in set(facts["blobs"]))
    size = sum(sizes[name] for name in lacking)
    room = size + (new.unpacked_bytes if new is not None else 0)
    certify = not certificate_is_right(facts["public"], wanted, wall)
    step = Step(
        host=wanted.name,
        action=UNCHANGED,
        why="it runs what the inventory says",
        release=wanted.release,
        current=facts["current"],
        send_bytes=size,
        certify=certify,
        fetched=lacking,
        installs=new.version if new is not None else "",
    )

    def with_(action: str, why: str) -> Step:
        return msgspec.structs.replace(step, action=action, why=why)

    if not (facts["installed"] or wanted.brings_gossamer):
        return with_(
            IMPOSSIBLE, "Gossamer is not installed there: name a wheelhouse, or run install.sh"
        )
    if new is not None and (why := _unfit(facts, new)):
        return with_(IMPOSSIBLE, why)
    if room + MARGIN_BYTES > facts["free_bytes"]:
        return with_(IMPOSSIBLE, f"{room / 1e6:.0f} MB do not fit on its disk")
    brings = _brings(facts, new)
    if not facts["current"]:
        return with_(INSTALL, f"nothing runs there yet{brings}")
    if facts["current"] != wanted.release:
        return with_(CHANGE, _differs(wanted, lacking) + brings)
    if certify:
        return with_(CERTIFY, "its certificate ends soon, or says something else")
    stopped = sorted(name for name, runs in facts["processes"].items() if not runs)
    if stopped:
        return with_(START, f"{', '.join(stopped)} does not run")
    return step


def _unfit(facts: Mapping[str, Any], house: House) -> str:
    """Why wheels cannot be installed there; empty where they can."""
    if house.machines and facts["machine"] not in house.machines:
        made = ", ".join(sorted(house.machines))
        return f"its wheelhouse is for {made}, the machine is {facts['machine']}"
    python = facts["base"]
    short = "".join(python.split(".")[:2])
    if house.pythons and short not in house.pythons:
        made = ", ".join(f"{one[0]}.{one[1:]}" for one in sorted(house.pythons))
        return f"its wheelhouse is for Python {made}, the machine has {python or 'none'}"
    return ""


def _brings(facts: Mapping[str, Any], house: House | None) -> str:
    if house is None:
        return ""
    before = facts["runs"]
    instead = f" in place of {before}" if before and before != house.version else ""
    return f"; Gossamer {house.version} is installed first{instead}"


def _differs(wanted: Wanted, lacking: Sequence[str]) -> str:
    changed = sorted({wanted.paths[name] for name in lacking if name in wanted.paths})
    if not changed:
        return "its files, programs or configuration differ"
    more = f" and {len(changed) - 3} more" if len(changed) > 3 else ""
    return f"{', '.join(changed[:3])}{more} differ{'s' if len(changed) == 1 else ''}"


def back_to(history: Sequence[str], current: str) -> str:
    """The release before ``current``; empty where there is none."""
    earlier = [release for release in history if release != current]
    return earlier[-1] if earlier else ""
