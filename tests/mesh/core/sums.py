"""Members and a coordinator of secure sums in one process, without a network."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping

import numpy as np

from mesh.core.clock import Now
from mesh.core.identity import (
    Authority,
    LocalIdentity,
    Member,
    Trust,
    make_passport,
    new_keys,
)
from mesh.core.secure_sum import SumLimits, SumMember
from mesh.core.sum_coordinator import SumCoordinator
from mesh.core.sum_messages import Answer, Mask, Question, SumPlan, threshold_for
from mesh.core.sum_statistics import SumResult, encode

NOW = Now(mono=100.0, wall=1_700_000_000.0)
NAME = "data.gpt/room/secure_sum"
ASKER = "the coordinator"
Change = Callable[[bytes, Question], Question | None]


class Group:
    """``count`` certified members of one mesh, and what they contribute."""

    def __init__(
        self, count: int, seed: int = 1, limits: SumLimits | None = None, mesh: bytes = b"m"
    ) -> None:
        self.random = random.Random(seed)
        self.asker = ASKER
        self.authority = Authority(mesh.ljust(32, b"\0"))
        self.trust = Trust(self.authority.key)
        identities = sorted((self._identity(f"n{n}") for n in range(count)), key=lambda x: x.node)
        self.identities = {identity.node: identity for identity in identities}
        self.nodes = tuple(self.identities)
        self.members = {
            node: SumMember(identity, self.find, self.random.randbytes, limits)
            for node, identity in self.identities.items()
        }

    def _identity(self, name: str) -> LocalIdentity:
        keys = new_keys(self.random.randbytes)
        certificate = self.authority.certify(
            key=keys.key,
            name=name,
            groups=(),
            publish=("data.gpt/**",),
            not_before=NOW.wall - 1,
            not_after=NOW.wall + 1e6,
            serial=b"1",
        )
        passport = make_passport(keys, certificate, self.trust.mesh)
        return LocalIdentity(keys, passport, self.trust)

    def find(self, node: bytes) -> Member | None:
        """A certified member."""
        identity = self.identities.get(node)
        return identity.member if identity else None

    def plan(self, **fields: object) -> SumPlan:
        """A plan over everybody, with some fields of its own."""
        usual: dict[str, object] = {
            "round": self.random.randbytes(16),
            "name": NAME,
            "coordinator": self.nodes[0],
            "nodes": self.nodes,
            "threshold": threshold_for(len(self.nodes)),
            "issued": NOW.wall,
        }
        return SumPlan(**(usual | fields))  # type: ignore[arg-type]

    def coordinator(self, plan: SumPlan) -> SumCoordinator:
        """An honest coordinator of the plan."""
        return SumCoordinator(plan, self.trust, self.find)

    def answer(
        self, node: bytes, question: Question, rows: object = None, plan: SumPlan | None = None
    ) -> Answer:
        """One member's answer; ``rows`` is its data, needed for Mask."""
        cells = None
        if isinstance(question, Mask) and plan is not None:
            cells = encode(plan, np.asarray(rows, dtype=float))
        return self.members[node].answer(question, self.asker, NOW, cells)

    def step(
        self,
        coordinator: SumCoordinator,
        rows: Mapping[bytes, object],
        silent: frozenset[bytes] = frozenset(),
    ) -> None:
        """One question to all but the silent, and on to the next."""
        for node, question in coordinator.questions().items():
            if node not in silent:
                coordinator.take(
                    node, self.answer(node, question, rows.get(node), coordinator.plan)
                )
        coordinator.advance()

    def run(
        self,
        plan: SumPlan,
        rows: Mapping[bytes, object],
        drops: Mapping[bytes, int] | None = None,
    ) -> SumResult:
        """A whole round; ``drops`` says from which question on (0 to 4) a node is silent."""
        coordinator = self.coordinator(plan)
        for stage in range(5):
            gone = frozenset(n for n, at in (drops or {}).items() if at <= stage)
            self.step(coordinator, rows, gone)
        return coordinator.result()
