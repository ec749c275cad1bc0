"""Members of a test mesh with keys that are the same in every run."""

from __future__ import annotations

import random

from mesh.core.clock import Now
from mesh.core.identity import (
    ED25519,
    Authority,
    LocalIdentity,
    NodeKeys,
    SignatureScheme,
    Signed,
    Trust,
    make_passport,
    new_keys,
)
from mesh.core.records import Device, Endpoints, Kind, Profile, ServedName, Status, seal

WALL = 1_800_000_000.0
NOW = Now(100.0, WALL)
YEAR_S = 365 * 86400.0


def at(seconds: float) -> Now:
    """This long after NOW on both clocks."""
    return Now(NOW.mono + seconds, NOW.wall + seconds)


class Mesh:
    """An authority and whoever it certifies."""

    def __init__(self, seed: int = 1, scheme: SignatureScheme = ED25519) -> None:
        self.rng = random.Random(seed)
        self.scheme = scheme
        self.authority = Authority(self.rng.randbytes(32), scheme)
        self.trust = Trust(self.authority.key, scheme)

    def certificate(self, keys: NodeKeys, name: str, **changes: object) -> Signed:
        fields: dict[str, object] = {
            "key": self.scheme.public(keys.signing),
            "name": name,
            "groups": ("home",),
            "publish": ("knowledge.gpt/**",),
            "not_before": WALL - YEAR_S,
            "not_after": WALL + YEAR_S,
            "serial": b"1",
        }
        return self.authority.certify(**(fields | changes))  # type: ignore[arg-type]

    def person(self, name: str, **changes: object) -> Person:
        return Person(self, name, **changes)


class Person:
    """A node with an identity, that can say things of itself."""

    def __init__(self, mesh: Mesh, name: str, **changes: object) -> None:
        self.mesh = mesh
        self.keys = new_keys(mesh.rng.randbytes)
        certificate = mesh.certificate(self.keys, name, **changes)
        self.passport = make_passport(self.keys, certificate, mesh.trust.mesh, mesh.scheme)
        self.identity = LocalIdentity(self.keys, self.passport, mesh.trust)
        self.node, self.member = self.identity.node, self.identity.member

    def profile(
        self, *names: str | ServedName, sequence: int = 1, incarnation: int = 1, **changes: object
    ) -> Signed:
        served = tuple(n if isinstance(n, ServedName) else ServedName(n) for n in names)
        fields: dict[str, object] = {
            "kind": Kind.PROFILE,
            "node": self.node,
            "incarnation": incarnation,
            "sequence": sequence,
            "issued": WALL,
            "expires": WALL + 3600,
            "passport": self.passport,
            "endpoints": Endpoints("tcp://10.0.0.1:1"),
            "names": served,
            "device": Device(kind="test", tokens_per_s=10.0),
        }
        record = Profile(**(fields | changes))  # type: ignore[arg-type]
        return seal(self.keys.signing, self.mesh.trust.mesh, record, self.mesh.scheme)

    def status(self, *, sequence: int = 2, incarnation: int = 1, **changes: object) -> Signed:
        fields: dict[str, object] = {
            "kind": Kind.STATUS,
            "node": self.node,
            "incarnation": incarnation,
            "sequence": sequence,
            "issued": WALL,
            "expires": WALL + 600,
            "slots": 4,
        }
        record = Status(**(fields | changes))  # type: ignore[arg-type]
        return seal(self.keys.signing, self.mesh.trust.mesh, record, self.mesh.scheme)
