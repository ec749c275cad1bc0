"""An aggregate without its inputs: what one member of a secure sum does, and what it refuses.

A round asks five questions, in this order, each answered once:

    Open ─▶ OPENED ─Share▶ SHARED ─Mask▶ MASKED ─Confirm▶ CONFIRMED ─Reveal▶ (forgotten)

What a member sends of its input is masked twice: by one pad for every pair of members, which
cancel in the sum, and by a pad of its own. When a member drops out, the others open their
shares of its pairwise seed; for one that stayed, those of its own pad. Whoever held both could
unmask it, so each member opens for one set of survivors only, once, after a threshold of them
has signed that very set.
Source: Bonawitz et al. 2017, figure 4 (the malicious setting).

What this does not do: it hides inputs, not the result. A coordinator that asks twice, with and
without one node, sees that node in the difference, unless the plan adds noise; a member may
lie about its own input; and more than a third of a roster together may unmask another.
"""

from __future__ import annotations

import enum
import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NoReturn

import msgspec

from mesh.core.clock import Now
from mesh.core.identity import LocalIdentity, Member, RandomBytes, Signed
from mesh.core.sum_masking import RoundKey, commitment, derive, noise, pad, seal, split, unseal
from mesh.core.sum_messages import (
    MIN_INPUTS,
    SEED_BYTES,
    SHARE_BYTES,
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
    SumPlan,
    SumRefused,
    SurvivorsBody,
    check_plan,
)

if TYPE_CHECKING:
    from mesh.core.sum_masking import Cells


class Stage(enum.IntEnum):
    """How far a member is in a round."""

    OPENED = 0
    SHARED = 1
    MASKED = 2
    CONFIRMED = 3


# Which question a stage waits for; anything else, and anything twice, is refused.
AWAITED: dict[Stage, type[Question]] = {
    Stage.OPENED: ShareOut,
    Stage.SHARED: Mask,
    Stage.MASKED: Confirm,
    Stage.CONFIRMED: Reveal,
}


class SumLimits(msgspec.Struct, frozen=True, kw_only=True):
    """What a member lets others ask of it. Each field names what it stops.

    ``min_inputs``: a sum over fewer nodes is refused: the fewer, the more it says of each.
    ``rest_s``: least time between two sums of one name that this node's data goes into. Two
    sums over nearly the same nodes and the same data differ by one input: make it longer than
    the data takes to change.
    ``life_s``: an unfinished round is forgotten after this time; a coordinator that opens
    rounds and leaves cannot fill the memory.
    ``open_rounds``: rounds under way at once, one per coordinator and name.
    ``horizon_s``: a plan's wall time may be off by so much; round ids are remembered for twice
    as long, so that none is taken twice.
    ``remembered``: round ids kept at most; when they are used up, new rounds wait.
    """

    min_inputs: int = MIN_INPUTS
    rest_s: float = 10.0
    life_s: float = 120.0
    open_rounds: int = 8
    horizon_s: float = 300.0
    remembered: int = 4096


def verify(member: Member, identity: LocalIdentity, purpose: str, body: Signed) -> bool:
    """Whether ``member`` signed this for ``purpose`` in this mesh."""
    return identity.trust.verify(member.key, purpose, body)


def signed(body: msgspec.Struct, signature: bytes) -> Signed:
    """A body as its signer encoded it: signatures travel alone, the reader knows the rest."""
    return Signed(msgspec.msgpack.encode(body), signature)


class _Round:
    """One round at one member: its secrets, and whom it shares them with."""

    def __init__(
        self, plan: SumPlan, place: int, roster: Sequence[Member], asker: str, until: float
    ) -> None:
        self.plan = plan
        self.digest = plan.digest()
        self.place = place
        self.roster = roster
        self.asker = asker
        self.until = until
        self.stage = Stage.OPENED
        self.pair_seed = b""
        self.own_seed = b""
        # Shared with nobody: opening a dropped node's pair seed must not open its letters.
        self.sealing_seed = b""
        self.keys: dict[int, KeysOf] = {}
        self.sealing: dict[int, bytes] = {}  # place: secret shared for sealing
        self.own_shares: tuple[bytes, bytes] = (b"", b"")
        self.shares: dict[int, tuple[bytes, bytes]] = {}  # place: (pair seed's, own seed's)
        self.sharers: frozenset[int] = frozenset()
        self.survivors: tuple[int, ...] = ()

    @property
    def node(self) -> bytes:
        return self.plan.nodes[self.place]


class SumMember:
    """This node's part in secure sums. ``members`` finds a certified member by its id.

    Not for several threads: hand it one question at a time. ``counters`` counts what it refused
    and what it survived.
    """

    def __init__(
        self,
        identity: LocalIdentity,
        members: Callable[[bytes], Member | None],
        random: RandomBytes,
        limits: SumLimits | None = None,
    ) -> None:
        self._identity = identity
        self._members = members
        self._random = random
        self.limits = limits or SumLimits()
        self.counters: Counter[str] = Counter()
        self._rounds: dict[bytes, _Round] = {}
        self._seen: dict[bytes, float] = {}  # round id: monotonic time until when it is kept
        self._rested: dict[str, float] = {}  # name: monotonic time of its last masked input

    @property
    def open_rounds(self) -> int:
        """How many rounds are under way."""
        return len(self._rounds)

    def plan_of(self, round_id: bytes) -> SumPlan | None:
        """The plan of a round under way; the shell looks up the data that it asks for."""
        found = self._rounds.get(round_id)
        return found.plan if found else None

    def forget(self, round_id: bytes) -> None:
        """Leave a round: its secrets are gone, its id stays refused."""
        self._rounds.pop(round_id, None)

    def answer(
        self, question: Question, asker: str, now: Now, cells: Cells | None = None
    ) -> Answer:
        """The answer to one question of ``asker``; ``cells`` is the input, for Mask only.

        ``cells``: unsigned 64-bit integers, shape (plan.cells,), from
        :func:`mesh.core.sum_statistics.encode`. Raises :class:`SumRefused`; a refused round is
        over at this member, and nothing of it can be asked again.
        """
        self._expire(now)
        try:
            if isinstance(question, Open):
                return self._open(question.plan, asker, now)
            current = self._enter(question, asker)
            match question:
                case ShareOut():
                    return self._share(current, question)
                case Mask():
                    return self._mask(current, question, cells, now)
                case Confirm():
                    return self._confirm(current, question)
                case Reveal():
                    return self._reveal(current, question)
        except SumRefused:
            self.counters["refused"] += 1
            raise

    # -- opening ----------------------------------------------------------------------------

    def _open(self, plan: SumPlan, asker: str, now: Now) -> Keys:
        check_plan(plan)
        limits, me = self.limits, self._identity.node
        if plan.round in self._seen:
            raise SumRefused("this round was asked before: begin a new one")
        if abs(plan.issued - now.wall) > limits.horizon_s:
            raise SumRefused("this round was issued at another time: compare the nodes' clocks")
        if plan.threshold < limits.min_inputs:
            raise SumRefused(
                f"a sum needs {limits.min_inputs} inputs here, this one allows {plan.threshold}",
                hint="ask more nodes, or raise the threshold",
            )
        if me not in plan.nodes:
            raise SumRefused("this node is not in the roster of the sum")
        self._check_rest(plan.name, now)
        # A coordinator that begins anew has given its last round up: this node was too slow then.
        for old in [
            r for r in self._rounds.values() if (r.asker, r.plan.name) == (asker, plan.name)
        ]:
            self.counters["superseded"] += 1
            self.forget(old.plan.round)
        if len(self._rounds) >= limits.open_rounds or len(self._seen) >= limits.remembered:
            raise SumRefused("too many sums at once: ask again later")
        roster = [self._certified(node) for node in plan.nodes]
        current = _Round(plan, plan.nodes.index(me), roster, asker, now.mono + limits.life_s)
        current.pair_seed, current.own_seed = self._random(SEED_BYTES), self._random(SEED_BYTES)
        current.sealing_seed = self._random(SEED_BYTES)
        body = KeysBody(
            current.digest,
            me,
            RoundKey(current.pair_seed, "pair", current.digest).public,
            RoundKey(current.sealing_seed, "seal", current.digest).public,
            commitment(current.own_seed, current.digest, me),
        )
        self._seen[plan.round] = now.mono + 2 * limits.horizon_s
        self._rounds[plan.round] = current
        signature = self._identity.sign(Purpose.KEYS, body).signature
        return Keys(body.mask_key, body.seal_key, body.commitment, signature)

    def _certified(self, node: bytes) -> Member:
        if node == self._identity.node:
            return self._identity.member
        member = self._members(node)
        if member is None:
            raise SumRefused(
                f"the roster names {node.hex()[:8]}, which no certificate here vouches for",
                hint="only certified members of this mesh take part in a sum",
            )
        return member

    def _check_rest(self, name: str, now: Now) -> None:
        left_s = self._rested.get(name, float("-inf")) + self.limits.rest_s - now.mono
        if left_s > 0:
            raise SumRefused(
                f"this node's data went into a sum of {name} just now: ask in {left_s:.0f} s"
            )

    def _enter(self, question: ShareOut | Mask | Confirm | Reveal, asker: str) -> _Round:
        current = self._rounds.get(question.round)
        if current is None or current.asker != asker:
            raise SumRefused("no such round is open here for this coordinator")
        if not isinstance(question, AWAITED[current.stage]):
            # Out of turn or twice: an answer to it could be the second half of a secret.
            self._end(current, f"out of turn: this node waits for {AWAITED[current.stage]}")
        return current

    def _end(self, current: _Round, why: str) -> NoReturn:
        self.forget(current.plan.round)
        raise SumRefused(f"the round is over at this node: {why}")

    # -- sharing ----------------------------------------------------------------------------

    def _share(self, current: _Round, question: ShareOut) -> Sealed:
        keys = {entry.index: entry for entry in question.keys}
        if len(keys) != len(question.keys) or current.place in keys:
            self._end(current, "the keys name a node twice, or this one itself")
        self._enough(current, len(keys) + 1)
        sealing = RoundKey(current.sealing_seed, "seal", current.digest)
        own = {sealing.public, RoundKey(current.pair_seed, "pair", current.digest).public}
        publics = {key for entry in keys.values() for key in (entry.mask_key, entry.seal_key)}
        if len(publics | own) != 2 * len(keys) + 2:
            self._end(current, "two nodes show the same key")
        for place, entry in keys.items():
            if place >= len(current.roster):
                self._end(current, "keys of a node outside the roster")
            body = KeysBody(
                current.digest,
                current.plan.nodes[place],
                entry.mask_key,
                entry.seal_key,
                entry.commitment,
            )
            member = current.roster[place]
            if not verify(member, self._identity, Purpose.KEYS, signed(body, entry.signature)):
                self._end(current, f"the keys of {member.name} are not signed by it")
        count, threshold = len(current.roster), current.plan.threshold
        pairs = list(
            zip(
                split(current.pair_seed, count, threshold),
                split(current.own_seed, count, threshold),
                strict=True,
            )
        )
        boxes = []
        for place in sorted(keys):
            shared = current.sealing[place] = sealing.agree(keys[place].seal_key)
            receiver = current.plan.nodes[place]
            body_bytes = pairs[place][0] + pairs[place][1]
            box = seal(shared, current.digest, current.node, receiver, body_bytes)
            boxes.append((place, box))
        current.keys = keys
        current.own_shares = pairs[current.place]
        current.stage = Stage.SHARED
        said = SealedBody(current.digest, current.node, tuple(boxes))
        return Sealed(tuple(boxes), self._identity.sign(Purpose.SEALED, said).signature)

    # -- masking ----------------------------------------------------------------------------

    def _mask(self, current: _Round, question: Mask, cells: Cells | None, now: Now) -> Masked:
        plan = current.plan
        boxes = dict(question.boxes)
        if len(boxes) != len(question.boxes) or not boxes.keys() <= current.sealing.keys():
            self._end(current, "shares of a node twice, or of one that gave no keys")
        self._enough(current, len(boxes) + 1)
        if cells is None or cells.shape != (plan.cells,):
            self._end(current, "this node has no data of the shape that the plan asks for")
        try:
            self._check_rest(plan.name, now)  # another round may have finished meanwhile
        except SumRefused:
            self.forget(plan.round)
            raise
        for place, box in boxes.items():
            sender = plan.nodes[place]
            opened = unseal(current.sealing[place], current.digest, sender, current.node, box)
            if opened is None or len(opened) != 2 * SHARE_BYTES:
                self.counters["bad_share"] += 1  # the others' shares serve in its place
                continue
            current.shares[place] = (opened[:SHARE_BYTES], opened[SHARE_BYTES:])
        current.shares[current.place] = current.own_shares
        current.sharers = frozenset({*boxes, current.place})
        total = cells + pad(derive(current.own_seed, "own", current.digest), plan.cells)
        pair = RoundKey(current.pair_seed, "pair", current.digest)
        for place in boxes:
            stream = pair_pad(pair, current.keys[place].mask_key, current.digest, plan.cells)
            total = total + stream if current.place < place else total - stream
        if plan.noise_std:
            total = total + noise(
                plan.noise_std, plan.threshold, plan.fraction_bits, plan.cells, self._random
            )
        current.stage = Stage.MASKED
        self._rested[plan.name] = now.mono
        data = total.astype("<u8").tobytes()
        said = MaskedBody(current.digest, current.node, hashlib.sha256(data).digest())
        return Masked(data, self._identity.sign(Purpose.MASKED, said).signature)

    # -- unmasking --------------------------------------------------------------------------

    def _confirm(self, current: _Round, question: Confirm) -> Confirmed:
        survivors = tuple(sorted(set(question.survivors)))
        if len(survivors) != len(question.survivors) or not current.sharers.issuperset(survivors):
            self._end(current, "survivors that this node does not know, or one named twice")
        if current.place not in survivors:
            self._end(current, "it calls this node dropped, which it is not")
        self._enough(current, len(survivors))
        current.survivors = survivors
        current.stage = Stage.CONFIRMED
        said = SurvivorsBody(current.digest, survivors)
        return Confirmed(self._identity.sign(Purpose.SURVIVORS, said).signature)

    def _reveal(self, current: _Round, question: Reveal) -> Revealed:
        signatures = dict(question.signatures)
        self._enough(current, len(signatures))
        if not signatures.keys() <= set(current.survivors):
            self._end(current, "a signature of a node that did not survive")
        said = SurvivorsBody(current.digest, current.survivors)
        for place, signature in signatures.items():
            member = current.roster[place]
            held = verify(member, self._identity, Purpose.SURVIVORS, signed(said, signature))
            if not held:
                self._end(current, f"{member.name} did not sign these survivors")
        alive = frozenset(current.survivors)
        shares = tuple(
            (place, own if place in alive else pairwise)
            for place, (pairwise, own) in sorted(current.shares.items())
        )
        self.forget(current.plan.round)  # nothing of this round can be asked again
        body = RevealedBody(current.digest, current.node, shares)
        return Revealed(shares, self._identity.sign(Purpose.REVEALED, body).signature)

    # -- keeping house ----------------------------------------------------------------------

    def _enough(self, current: _Round, count: int) -> None:
        if count < current.plan.threshold:
            self._end(current, f"{count} nodes are left, {current.plan.threshold} are needed")

    def _expire(self, now: Now) -> None:
        for round_id in [r for r, x in self._rounds.items() if x.until <= now.mono]:
            self.counters["expired"] += 1
            self.forget(round_id)
        for round_id in [r for r, until in self._seen.items() if until <= now.mono]:
            del self._seen[round_id]
        rest_s = self.limits.rest_s
        for name in [n for n, at in self._rested.items() if at + rest_s <= now.mono]:
            del self._rested[name]


def pair_pad(key: RoundKey, other: bytes, digest: bytes, cells: int) -> Cells:
    """The pad that two members share; the one earlier in the roster adds it, the other
    subtracts."""
    return pad(derive(key.agree(other), "pair pad", digest), cells)
