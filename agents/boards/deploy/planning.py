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
    lacking = tuple(name for name in wanted.sizes if name not in set(facts["blobs"]))
    size = sum(wanted.sizes[name] for name in lacking)
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
    )

    def with_(action: str, why: str) -> Step:
        return msgspec.structs.replace(step, action=action, why=why)

    if not (facts["installed"] or wanted.brings_gossamer):
        return with_(IMPOSSIBLE, "Gossamer is not installed there: run install.sh, or name a wheel")
    if size + MARGIN_BYTES > facts["free_bytes"]:
        return with_(IMPOSSIBLE, f"{size / 1e6:.0f} MB do not fit on its disk")
    if not facts["current"]:
        return with_(INSTALL, "nothing runs there yet")
    if facts["current"] != wanted.release:
        return with_(CHANGE, "its files or its configuration differ")
    if certify:
        return with_(CERTIFY, "its certificate ends soon, or says something else")
    stopped = sorted(name for name, runs in facts["processes"].items() if not runs)
    if stopped:
        return with_(START, f"{', '.join(stopped)} does not run")
    return step


def back_to(history: Sequence[str], current: str) -> str:
    """The release before ``current``; empty where there is none."""
    earlier = [release for release in history if release != current]
    return earlier[-1] if earlier else ""
