"""A log that cannot be changed unseen: each line holds the hash of the line before it.

A line is one JSON object with sorted keys and no spaces. Every line but a torn last one can be
checked by itself and against its neighbour; now and then a line is a *checkpoint*, signed by
the node's key, which binds everything before it to that node. Whoever holds the disk but not
the key can cut the log's end after the last checkpoint, and nothing else without being seen;
who holds the key as well can rewrite it, unless a checkpoint was kept elsewhere
(:func:`verify` takes one).
"""

from __future__ import annotations

import base64
import enum
import hashlib
from collections.abc import Iterable

import msgspec

from mesh.core.errors import GossamerError
from mesh.core.identity import ED25519, SignatureScheme, signing_context

HASH_HEX = 64
MAX_LINE_BYTES = 4096  # a peer's text in an event must not fill the disk
MAX_FIELD_CHARS = 400
MAX_FIELDS = 16
PURPOSE = "audit"
START = "0" * HASH_HEX  # the hash before the first line of all


class AuditError(GossamerError):
    """An audit log that cannot be read or continued."""

    code = "audit"


class What(enum.StrEnum):
    """What is audited."""

    ADMISSION = "admission"
    REFUSAL = "refusal"
    REVOCATION = "revocation"
    ESCALATION = "escalation"
    ADMIN = "admin"  # a node was drained, a model loaded: by whom, and whether it was done
    START = "start"  # the log was opened; after a torn line it says so
    DROPPED = "dropped"  # so many events were lost, because the disk did not keep up
    ROTATED = "rotated"  # lines before ``first_kept`` were removed, to keep the log bounded
    CHECKPOINT = "checkpoint"


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One line. ``at`` is wall time in seconds; ``detail`` is text, cut to a few hundred
    characters; ``prev`` and ``hash`` are SHA-256 in hexadecimal."""

    seq: int
    at: float
    what: str
    who: str = ""  # the node's name and id, as far as they are known
    detail: dict[str, str] = {}
    prev: str
    hash: str = ""


class Broken(msgspec.Struct, frozen=True):
    """Where a log stops being believable: the line, from 1, and why."""

    line: int
    why: str


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What a check found. ``broken`` is None for a log that holds.

    ``torn``: the last line is incomplete, as after a power cut; that is told and is no break.
    ``lines`` hold; ``signed`` of them are vouched for by checkpoints. ``dropped``: events that
    the log says it has lost. ``first`` and ``last``: numbers of the first and the last line that
    hold; ``head``: the hash of the last.
    """

    lines: int
    signed: int
    checkpoints: int
    dropped: int
    first: int
    last: int
    head: str
    torn: bool = False
    broken: Broken | None = None

    @property
    def ok(self) -> bool:
        """Whether nothing is broken; a torn tail is not."""
        return self.broken is None


_encoder = msgspec.json.Encoder(order="sorted")
_decoder = msgspec.json.Decoder(Entry)


def _hashed(entry: Entry) -> str:
    return hashlib.sha256(_encoder.encode(msgspec.structs.replace(entry, hash=""))).hexdigest()


def _clean(text: str) -> str:
    return text if len(text) <= MAX_FIELD_CHARS else text[: MAX_FIELD_CHARS - 1] + "…"


class AuditChain:
    """The end of a log: makes the next line. ``now`` is handed in, the key as well.

    ``signing`` is the node's Ed25519 private key; without it no checkpoints are made.
    """

    def __init__(
        self,
        *,
        mesh: bytes,
        signing: bytes = b"",
        seq: int = 0,
        head: str = START,
        scheme: SignatureScheme = ED25519,
    ) -> None:
        self.seq = seq
        self.head = head
        self._mesh = mesh
        self._signing = signing
        self._scheme = scheme
        self.since_checkpoint = 0

    def append(
        self, what: str, at: float, who: str = "", detail: dict[str, str] | None = None
    ) -> bytes:
        """The next line, with its newline. Long fields are cut, surplus ones left out."""
        fields = sorted((detail or {}).items())[:MAX_FIELDS]
        cleaned = {_clean(key): _clean(value) for key, value in fields}
        entry = Entry(
            seq=self.seq + 1, at=at, what=what, who=_clean(who), detail=cleaned, prev=self.head
        )
        line = self._sealed(entry)
        if len(line) > MAX_LINE_BYTES:
            entry = msgspec.structs.replace(entry, detail={"cut": "the details were too long"})
            line = self._sealed(entry)
        self.since_checkpoint += 1
        return line

    def checkpoint(self, at: float) -> bytes:
        """A line in which the node signs the head of the log."""
        message = checkpoint_message(self._mesh, self.seq, self.head)
        signature = self._scheme.sign(self._signing, message)
        detail = {
            "key": self._scheme.public(self._signing).hex(),
            "signature": base64.b64encode(signature).decode(),
        }
        entry = Entry(seq=self.seq + 1, at=at, what=What.CHECKPOINT, detail=detail, prev=self.head)
        line = self._sealed(entry)
        self.since_checkpoint = 0
        return line

    def _sealed(self, entry: Entry) -> bytes:
        digest = _hashed(entry)
        line = _encoder.encode(msgspec.structs.replace(entry, hash=digest)) + b"\n"
        if len(line) <= MAX_LINE_BYTES:
            self.seq, self.head = entry.seq, digest
        return line


def checkpoint_message(mesh: bytes, seq: int, head: str) -> bytes:
    """What a checkpoint signs: the mesh, how many lines there are, and the hash of the last."""
    return signing_context(PURPOSE, mesh) + f"{seq}:{head}".encode()


def read_line(line: bytes) -> Entry:
    """One line, its own hash checked; raises :class:`AuditError`."""
    if len(line) > MAX_LINE_BYTES:
        raise AuditError(f"a line of {len(line)} bytes, at most {MAX_LINE_BYTES} are written")
    try:
        entry = _decoder.decode(line)
    except (msgspec.MsgspecError, RecursionError, ValueError) as error:
        raise AuditError(f"not a line of an audit log ({error})") from error
    if _hashed(entry) != entry.hash:
        raise AuditError("its hash does not fit: it was changed after it was written")
    if _encoder.encode(entry) != line.rstrip(b"\n"):
        raise AuditError("it is not spelt as it was written")
    return entry


def verify(  # one pass, one state: splitting it would hide the order of the checks
    lines: Iterable[bytes],
    *,
    mesh: bytes,
    key: bytes = b"",
    kept: tuple[int, str] | None = None,
    scheme: SignatureScheme = ED25519,
) -> Report:
    """Check a whole log, line by line; holds one line at a time in memory.

    ``lines`` as a file yields them, each with its newline. ``key``: the node's Ed25519 public
    key, so that a log signed by another is seen; empty accepts the key that the log names.
    ``kept``: the number and hash of a line noted elsewhere, which the log must still hold.
    """
    state = _Verified(mesh, key, kept, scheme)
    number, torn = 0, False
    for number, line in enumerate(lines, 1):
        if not line.endswith(b"\n") and len(line) < MAX_LINE_BYTES:
            torn = True  # only the last line can be so: every other one ends in a newline
            break
        why = state.take(line)
        if why:
            return state.report(broken=Broken(number, why))
    why = state.missing()
    return state.report(torn=torn, broken=Broken(number + 1, why) if why else None)


def _number(entry: Entry, field: str) -> int:
    text = entry.detail.get(field, "")
    return int(text) if text.isdecimal() and len(text) < 19 else 0


class _Verified:
    def __init__(
        self, mesh: bytes, key: bytes, kept: tuple[int, str] | None, scheme: SignatureScheme
    ) -> None:
        self.mesh, self.key, self.kept, self.scheme = mesh, key, kept, scheme
        self.head, self.seq = "", 0
        self.lines = self.signed = self.checkpoints = self.dropped = 0
        self.first = self.first_kept = 0

    def take(self, line: bytes) -> str:
        """Why the line breaks the log, empty if it does not."""
        try:
            entry = read_line(line)
        except AuditError as error:
            return error.message
        first = not self.lines
        if first and entry.seq == 1 and entry.prev != START:
            return "the first line of all does not begin a log"
        if not first and (entry.seq != self.seq + 1 or entry.prev != self.head):
            return "it does not follow the line before it: lines are missing or were put in"
        if entry.what == What.CHECKPOINT:
            why = self._signature(entry)
            if why:
                return why
            self.checkpoints += 1
            self.signed = self.lines + 1
        if entry.what == What.DROPPED:
            self.dropped += _number(entry, "count")
        if entry.what == What.ROTATED:
            self.first_kept = max(self.first_kept, _number(entry, "first_kept"))
        if self.kept and entry.seq == self.kept[0] and entry.hash != self.kept[1]:
            return "it is another line than the one noted elsewhere: the log was rewritten"
        self.first = self.first or entry.seq
        self.lines += 1
        self.seq, self.head = entry.seq, entry.hash
        return ""

    def missing(self) -> str:
        """Why the log ends too early or begins too late, empty if it does not."""
        if self.first > max(1, self.first_kept):
            return f"the log begins with line {self.first}, and no line says that this was done"
        if self.kept and self.seq < self.kept[0]:
            return f"line {self.kept[0]} was noted elsewhere and is not here: the end was cut off"
        return ""

    def _signature(self, entry: Entry) -> str:
        try:
            key = bytes.fromhex(entry.detail.get("key", ""))
            signature = base64.b64decode(entry.detail.get("signature", ""), validate=True)
        except ValueError:
            return "its signature cannot be read"
        if self.key and key != self.key:
            return "the checkpoint is signed by another key than this node's"
        self.key = key
        message = checkpoint_message(self.mesh, entry.seq - 1, entry.prev)
        return "" if self.scheme.verify(key, signature, message) else "its signature does not hold"

    def report(self, *, torn: bool = False, broken: Broken | None = None) -> Report:
        return Report(
            lines=self.lines,
            signed=self.signed,
            checkpoints=self.checkpoints,
            dropped=self.dropped,
            first=self.first,
            last=self.seq,
            head=self.head,
            torn=torn,
            broken=broken,
        )
