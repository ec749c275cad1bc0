"""The coordinator of a secure sum: collects what members say, and learns the sum alone.

It checks every signature before it hands anything on, and every seed that it puts together
against what its owner had said before: a wrong share ends in another choice of shares or in an
error, never in a wrong sum. Members that fail it are dropped; a sum with too few left fails.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, TypeVar

from mesh.core.identity import Member, Signed, Trust
from mesh.core.secure_sum import pair_pad, signed
from mesh.core.sum_masking import RoundKey, combine, commitment, derive, pad
from mesh.core.sum_messages import (
    CELL_BYTES,
    Answer,
    Confirm,
    Confirmed,
    Keys,
    KeysBody,
    KeysOf,
    Mask,
    Masked,
    MaskedBody,
    Open,
    Purpose,
    Question,
    Reveal,
    Revealed,
    RevealedBody,
    Sealed,
    SealedBody,
    ShareOut,
    SumFailed,
    SumPlan,
    SumRefused,
    SurvivorsBody,
    check_plan,
)
from mesh.core.sum_statistics import SumResult, decode

if TYPE_CHECKING:
    from mesh.core.sum_masking import Cells

T = TypeVar("T", Keys, Sealed, Masked, Confirmed, Revealed)


class SumCoordinator:
    """One round, seen from who asks for it.

    Ask :meth:`questions` for what to send, hand every answer to :meth:`take`, call
    :meth:`advance` when all have come or enough time has passed; after five times,
    :meth:`result`. Raises :class:`SumFailed` when too few members are left and
    :class:`SumRefused` for a roster with nodes that are no members. ``counters`` says what was
    wrong with what came.
    """

    STAGES: tuple[type[Answer], ...] = (Keys, Sealed, Masked, Confirmed, Revealed)

    def __init__(
        self, plan: SumPlan, trust: Trust, members: Callable[[bytes], Member | None]
    ) -> None:
        self.plan = check_plan(plan)
        self.digest = plan.digest()
        self.counters: Counter[str] = Counter()
        self._trust = trust
        self._roster: list[Member] = []
        for node in plan.nodes:
            member = members(node)
            if member is None:
                raise SumRefused(f"{node.hex()[:8]} is no member of this mesh: leave it out")
            self._roster.append(member)
        self._place = {node: place for place, node in enumerate(plan.nodes)}
        self._stage = 0
        self._came: list[dict[int, Answer]] = [{} for _ in self.STAGES]
        self._keys: dict[int, KeysOf] = {}
        self._letters: dict[int, list[tuple[int, bytes]]] = {}  # receiver: (sender, box)
        self._masked: dict[int, Masked] = {}
        self._survivors: tuple[int, ...] = ()

    @property
    def done(self) -> bool:
        """Whether all five questions were asked."""
        return self._stage == len(self.STAGES)

    def questions(self) -> dict[bytes, Question]:
        """What to ask now, by node."""
        if self._stage == 0:
            return dict.fromkeys(self.plan.nodes, Open(self.plan))
        round_id = self.plan.round
        asked = sorted(self._came[self._stage - 1])
        match self._stage:
            case 1:
                return {self.plan.nodes[place]: self._others_keys(place) for place in asked}
            case 2:
                return {
                    self.plan.nodes[p]: Mask(round_id, tuple(self._letters.get(p, ())))
                    for p in asked
                }
            case 3:
                confirm = Confirm(round_id, self._survivors)
                return {self.plan.nodes[place]: confirm for place in asked}
            case 4:
                confirmed = sorted(self._said(3, Confirmed).items())
                signatures = tuple((p, x.signature) for p, x in confirmed)
                return {self.plan.nodes[place]: Reveal(round_id, signatures) for place in asked}
            case _:
                return {}

    def take(self, node: bytes, answer: Answer) -> None:
        """The answer of ``node``; raises :class:`SumRefused` and leaves it out if it is wrong."""
        place = self._place.get(node)
        expected = self.STAGES[self._stage] if not self.done else None
        if place is None or (self._stage and place not in self._came[self._stage - 1]):
            self._refuse("stranger", "an answer of a node that was not asked")
        elif expected is None or not isinstance(answer, expected):
            self._refuse("out_of_turn", f"not an answer to the question that {node.hex()[:8]} got")
        elif place in self._came[self._stage]:
            self._refuse("repeated", f"{self._roster[place].name} answered before")
        else:
            purpose, body = self._signed_body(place, answer)
            if not self._trust.verify(self._roster[place].key, purpose, body):
                name = self._roster[place].name
                self._refuse("forged", f"the answer of {name} is not signed by it")
            self._came[self._stage][place] = answer

    def advance(self) -> None:
        """Go on with those who have answered; raises :class:`SumFailed` when they are too few."""
        came = len(self._came[self._stage])
        if came < self.plan.threshold:
            raise SumFailed(
                f"{came} of {len(self._roster)} nodes answered, {self.plan.threshold} are needed:"
                " nothing comes out",
                hint="ask again when more of them are reachable",
            )
        match self._stage:
            case 0:
                self._keys = {
                    p: KeysOf(p, x.mask_key, x.seal_key, x.commitment, x.signature)
                    for p, x in self._said(0, Keys).items()
                }
            case 1:
                for sender, sealed in sorted(self._said(1, Sealed).items()):
                    for receiver, box in sealed.boxes:
                        self._letters.setdefault(receiver, []).append((sender, box))
            case 2:
                self._masked = self._said(2, Masked)
                self._survivors = tuple(sorted(self._masked))
        self._stage += 1

    def result(self) -> SumResult:
        """The statistics; costs some milliseconds per node, so call it off the event loop.

        Raises :class:`SumFailed` where shares do not fit what their owners committed to.
        """
        plan = self.plan
        dropped = [node for place, node in enumerate(plan.nodes) if place not in self._masked]
        return decode(plan, self._unmasked(), len(self._masked), dropped)

    # -- checks -----------------------------------------------------------------------------

    def _refuse(self, reason: str, sentence: str) -> None:
        self.counters[reason] += 1
        raise SumRefused(sentence)

    def _signed_body(self, place: int, answer: Answer) -> tuple[str, Signed]:
        node, digest = self.plan.nodes[place], self.digest
        match answer:
            case Keys():
                keys = KeysBody(digest, node, answer.mask_key, answer.seal_key, answer.commitment)
                return Purpose.KEYS, signed(keys, answer.signature)
            case Sealed():
                others = set(self._came[0]) - {place}
                if [p for p, _ in answer.boxes] != sorted(others):
                    self._refuse("malformed", "shares for other nodes than those taking part")
                sealed = SealedBody(digest, node, answer.boxes)
                return Purpose.SEALED, signed(sealed, answer.signature)
            case Masked():
                if len(answer.cells) != self.plan.cells * CELL_BYTES:
                    self._refuse("malformed", "a masked input of another length than planned")
                masked = MaskedBody(digest, node, hashlib.sha256(answer.cells).digest())
                return Purpose.MASKED, signed(masked, answer.signature)
            case Confirmed():
                survivors = SurvivorsBody(digest, self._survivors)
                return Purpose.SURVIVORS, signed(survivors, answer.signature)
            case Revealed():
                places = [p for p, _ in answer.shares]
                if len(set(places)) != len(places) or not self._came[1].keys() >= set(places):
                    self._refuse("malformed", "shares of other nodes than those taking part")
                revealed = RevealedBody(digest, node, answer.shares)
                return Purpose.REVEALED, signed(revealed, answer.signature)

    def _said(self, stage: int, kind: type[T]) -> dict[int, T]:
        return {p: answer for p, answer in self._came[stage].items() if isinstance(answer, kind)}

    def _others_keys(self, place: int) -> ShareOut:
        others = (entry for p, entry in sorted(self._keys.items()) if p != place)
        return ShareOut(self.plan.round, tuple(others))

    # -- unmasking --------------------------------------------------------------------------

    def _unmasked(self) -> Cells:
        import numpy as np

        plan, digest = self.plan, self.digest
        if not self.done:
            raise SumFailed("the sum is not over: ask the remaining questions first")
        keys, masked = self._keys, self._masked
        total = np.zeros(plan.cells, dtype=np.uint64)
        for one in masked.values():
            total = total + np.frombuffer(one.cells, dtype="<u8").astype(np.uint64)
        held: dict[int, list[tuple[int, bytes]]] = {}
        for holder, answer in sorted(self._said(4, Revealed).items()):
            for place, share in answer.shares:
                held.setdefault(place, []).append((holder, share))
        for place in sorted(self._came[1]):
            shares = held.get(place, [])
            if place in masked:
                node, promised = plan.nodes[place], keys[place].commitment

                def own_fits(seed: bytes, node: bytes = node, want: bytes = promised) -> bool:
                    return commitment(seed, digest, node) == want

                seed = self._seed(place, shares, own_fits)
                total = total - pad(derive(seed, "own", digest), plan.cells)
                continue
            public = keys[place].mask_key

            def pair_fits(seed: bytes, want: bytes = public) -> bool:
                return RoundKey(seed, "pair", digest).public == want

            pair = RoundKey(self._seed(place, shares, pair_fits), "pair", digest)
            for other in masked:
                stream = pair_pad(pair, keys[other].mask_key, digest, plan.cells)
                total = total - stream if other < place else total + stream
        return total

    def _seed(
        self, place: int, shares: Sequence[tuple[int, bytes]], fits: Callable[[bytes], bool]
    ) -> bytes:
        for choice in _choices(shares, self.plan.threshold):
            seed = combine(choice, self.plan.threshold)
            if seed is not None and fits(seed):
                return seed
            self.counters["bad_share"] += 1
        name = self._roster[place].name
        raise SumFailed(
            f"the shares of {name}'s mask do not fit: nothing comes out",
            hint=f"begin a new sum; leave {name} out if this happens again",
        )


def _choices(
    shares: Sequence[tuple[int, bytes]], threshold: int
) -> Iterator[Sequence[tuple[int, bytes]]]:
    """All shares; then, where there are spare ones, without each of the first in turn: one
    liar is found, at a bounded price, and several make the sum fail."""
    yield shares
    if len(shares) > threshold:
        for left_out in range(threshold):
            yield [*shares[:left_out], *shares[left_out + 1 :]]
