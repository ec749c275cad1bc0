"""How the word spreads that somebody is out: told on at once, compared with every sync.

Whoever hears a revocation for the first time tells a handful of peers; in a small mesh that is
everybody. What that misses, anti-entropy brings: each opening of a comparison carries one hash
of all revocations, and where it differs, both sides hand over theirs. They are few and small.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable

from mesh.core.effects import Send
from mesh.core.errors import IdentityError
from mesh.core.revocation import RevocationBody, Revocations
from mesh.core.wire import Revocation, Rumours, Want

# Told on by each who hears it: with 8 a wave misses about one in three thousand, and a mesh of
# nine is told in one step. The rest hear it with their next comparison.
TOLD = 8
PART = 32  # revocations in one message: with their papers about 16 KiB, a quarter of a frame
MAX_PARTS = 8  # in one answer; the rest follows with the next comparison
MAX_TAKEN = 64  # of one message: each costs two verifications, and a frame could hold hundreds
ALL = (b"", 0)  # in a Want: send me all revocations


class Exclusion:
    """Believes, tells on and compares revocations. ``out`` carries one out here."""

    def __init__(
        self,
        revocations: Revocations,
        rng: random.Random,
        present: Callable[[], list[bytes]],
        out: Callable[[RevocationBody], None],
    ) -> None:
        self._revocations = revocations
        self._rng = rng
        self._present = present
        self._out = out
        self.counters: Counter[str] = Counter()

    def revoke(self, revocation: Revocation, wall: float, told: bytes = b"") -> list[Send]:
        """Honour a revocation and tell it on, unless it is known; raises IdentityError."""
        body = self._revocations.add(revocation, wall)
        if body is None:
            return []
        # Before it is honoured: the one that is out is told as well, so that it can say so.
        peers = [node for node in self._present() if node != told]
        chosen = self._rng.sample(peers, min(len(peers), TOLD))
        self._out(body)
        return [Send(peer, Rumours(revocations=[revocation])) for peer in chosen]

    def hear(self, sender: bytes, revocations: list[Revocation], wall: float) -> list[Send]:
        """Revocations that a peer sent; each stands or falls by its signature alone."""
        sends: list[Send] = []
        for revocation in revocations[:MAX_TAKEN]:
            try:
                sends += self.revoke(revocation, wall, sender)
            except IdentityError:
                self.counters["refused_revocation"] += 1
                break  # honest nodes verify before they relay: the rest costs nothing
        return sends

    @property
    def hash(self) -> bytes:
        """What an opening of a comparison carries."""
        return self._revocations.hash

    def compare(self, sender: bytes, theirs: bytes) -> list[Send]:
        """A peer's hash: where it differs, hand over and ask for all."""
        if not theirs or theirs == self._revocations.hash:
            return []
        return [*self.all_for(sender), Send(sender, Want([ALL]))]

    def all_for(self, peer: bytes) -> list[Send]:
        """Everything that this node believes, the newest first, within bounds."""
        everything = self._revocations.all()[: PART * MAX_PARTS]
        return [
            Send(peer, Rumours(revocations=everything[at : at + PART]))
            for at in range(0, len(everything), PART)
        ]
