"""Fuzzing of every decoder of bytes from outside.

    python -m benchmarks.fuzz --json --seconds 600 --only wire.decode
    python -m benchmarks.fuzz --json --seconds 600 --coverage --keep     (needs the extra "fuzz")

Valid messages are made from the decoders' own types, then mutated: bits, lengths, headers,
splices, nesting, truncation. With ``--coverage`` libFuzzer steers by the branches of our own
code that an input reaches. A decoder may raise its own errors and nothing else, and must not
grow the memory. What was found is kept in ``tests/fuzz``.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import importlib.util
import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import msgspec
import psutil

from agents.faces.lines import MAX_REQUEST_BYTES, LineSplitter
from agents.faces.lines import Request as LocalRequest
from benchmarks import _corpus
from benchmarks._report import Options, progress, run
from capabilities import messages
from capabilities.drafting import messages as drafts
from capabilities.segments import messages as segments
from capabilities.slm import protocol
from mesh.core import (
    audit_chain,
    identity,
    invitations,
    names,
    records,
    revocation,
    statements,
    sum_messages,
    wire,
)
from mesh.core.errors import GossamerError, WireError
from mesh.core.signing import ED25519, Purpose, Signed, signing_context
from mesh.net.statedir import parse_seed

Decoder = Callable[[bytes], object]
DEFAULT_SECONDS = 2.0
EDGES = (b"\x00", b"\xff", b"\x7f", b"\x80", b"\xc0", b"\xc1", b"\xca\x7f\xc0\x00\x00")
BOMBS = (
    b"\x91" * 2000,  # arrays in arrays
    b"\x81\xa1a" * 700,  # maps in maps
    b"\xdd\xff\xff\xff\xff",  # an array that claims four thousand million elements
    b"\xdf\xff\xff\xff\xff",
    b"\xc6\xff\xff\xff\xff",  # bytes that claim four gigabytes
    b"\xdb\xff\xff\xff\xff",
    b"\xcf" + b"\xff" * 8,
    b"\xd3\x80" + b"\x00" * 7,
)


@dataclass(frozen=True)
class Target:
    """A decoder, and how its valid inputs are made."""

    decode: Decoder
    make: Callable[[random.Random], bytes]


def example(kind: Any, rng: random.Random, depth: int = 0) -> Any:
    """A random valid value of a type, by its msgspec description."""
    return _example(msgspec.inspect.type_info(kind), rng, depth)


def _example(info: Any, rng: random.Random, depth: int) -> Any:
    kinds = msgspec.inspect
    match info:
        case kinds.StructType():
            values = {}
            for field in info.fields:
                if not field.required and rng.random() < 0.3:
                    continue
                values[field.name] = _example(field.type, rng, depth + 1)
            return info.cls(**values)
        case kinds.UnionType():
            return _example(rng.choice(info.types), rng, depth)
        case kinds.BytesType():
            return rng.randbytes(rng.choice((0, 8, 16, 32, 64, 200)))
        case kinds.StrType():
            words = ("", "knowledge.gpt/arithmetic", "abacus", "ä" * 9, "x" * 300, "\x00")
            return rng.choice(words)
        case kinds.IntType():
            return rng.choice((0, 1, 7, 255, 1 << 31, (1 << 63) - 1, -1))
        case kinds.FloatType():
            return rng.choice((0.0, 1.5, -1.0, 1e300, 1_700_000_000.0))
        case kinds.BoolType():
            return rng.random() < 0.5
        case kinds.EnumType():
            return rng.choice(list(info.cls))
        case kinds.LiteralType():
            return rng.choice(info.values)
        case kinds.VarTupleType() | kinds.ListType():
            many = [_example(info.item_type, rng, depth + 1) for _ in range(rng.randrange(4))]
            return tuple(many) if isinstance(info, kinds.VarTupleType) else many
        case kinds.TupleType():
            return tuple(_example(item, rng, depth + 1) for item in info.item_types)
        case kinds.DictType():
            return {
                _example(info.key_type, rng, depth + 1): _example(info.value_type, rng, depth + 1)
                for _ in range(rng.randrange(3))
            }
        case _:
            return None


def packed(*types: Any) -> Callable[[random.Random], bytes]:
    """Makes MessagePack of one of these types."""

    def make(rng: random.Random) -> bytes:
        while True:
            try:
                return msgspec.msgpack.encode(example(rng.choice(types), rng))
            except (ValueError, GossamerError):
                continue  # a type that checks itself refused what was drawn

    return make


def _framed(union: Any) -> Callable[[random.Random], bytes]:
    return lambda rng: bytes([wire.VERSION]) + packed(*get_args(union))(rng)


def _signed(decode: Callable[[Signed], object]) -> Decoder:
    return lambda data: decode(Signed(data, b"s" * 64))


def _text(decode: Callable[[str], object]) -> Decoder:
    return lambda data: decode(data.decode("utf-8", "replace"))


def _record(data: bytes) -> object:
    signed = Signed(data, b"s" * 64)
    return records.decode_record(signed, records.read_head(signed))


def _lines(data: bytes) -> object:
    taken = LineSplitter(MAX_REQUEST_BYTES).feed(data + b"\n")
    try:
        return [msgspec.json.decode(x, type=LocalRequest) for x in taken if isinstance(x, bytes)]
    except ValueError as error:  # as the door does: a name that is no UTF-8 raises this
        raise WireError("not a request") from error


# What a mesh's own authority has signed reaches the checks behind the signature: an issuer or a
# member that went bad signs whatever it likes.
_OWNER = identity.Authority(b"\x01" * 32)
_TRUST = identity.Trust(_OWNER.key)
_KEYS = identity.NodeKeys(b"\x02" * 32, b"\x03" * 32)
_CERTIFICATE = _OWNER.certify(
    key=_KEYS.key,
    name="pi",
    groups=("home",),
    publish=("knowledge.gpt/**",),
    not_before=0.0,
    not_after=2e9,
    serial=b"s" * 8,
)
_ISSUED = msgspec.msgpack.encode(
    msgspec.structs.replace(
        msgspec.msgpack.decode(_CERTIFICATE.payload, type=identity.CertificateBody),
        issuer=_KEYS.node,
    )
)
_WALL = 1e9


def _by(private: bytes, purpose: str, payload: bytes) -> Signed:
    context = signing_context(purpose, _TRUST.mesh)
    return Signed(payload, ED25519.sign(private, context + payload))


def _passport(data: bytes) -> object:
    """The same bytes as each part of a passport, rightly signed; the last part raises."""
    curve = identity.sign_curve(_KEYS, _TRUST.mesh)
    certificate = _by(b"\x01" * 32, Purpose.CERTIFICATE, data)
    paper = _by(b"\x01" * 32, Purpose.ISSUER, data)
    issued = _by(_KEYS.signing, Purpose.ISSUED, _ISSUED)
    with contextlib.suppress(GossamerError):
        _TRUST.check(identity.Passport(certificate, curve), _WALL)
    with contextlib.suppress(GossamerError):
        _TRUST.check(identity.Passport(issued, curve, paper), _WALL)
    own = _by(_KEYS.signing, Purpose.CURVE, data)
    return _TRUST.check(identity.Passport(_CERTIFICATE, own), _WALL)


def _make_paper(rng: random.Random) -> bytes:
    """A body that a check would pass, or one of its type with anything in its fields."""
    if rng.random() < 0.5:
        kinds = (identity.CertificateBody, identity.CurveBody, identity.IssuerBody)
        return packed(*kinds)(rng)
    issuer = identity.IssuerBody(
        mesh=_TRUST.mesh,
        key=_KEYS.key,
        name="pi",
        groups=("home",),
        publish=("knowledge.gpt/**",),
        max_validity_s=3e9,
        not_before=0.0,
        not_after=3e9,
        serial=rng.randbytes(8),
    )
    curve = identity.CurveBody(_KEYS.node, _KEYS.curve)
    certificate = msgspec.msgpack.decode(_CERTIFICATE.payload, type=identity.CertificateBody)
    serial = msgspec.structs.replace(certificate, serial=rng.randbytes(8))
    return msgspec.msgpack.encode(rng.choice((issuer, curve, serial)))


def _revocation(text: str) -> object:
    read = revocation.read_revocation(text)
    statement = _by(b"\x01" * 32, Purpose.REVOCATION, read.statement.payload)
    return revocation.Revocations(_TRUST).add(wire.Revocation(statement, read.issuer), _WALL)


def _make_revocation(rng: random.Random) -> bytes:
    body = revocation.RevocationBody(
        _TRUST.mesh, rng.randbytes(16), "pi", "lost", _WALL, _WALL + 60, _TRUST.mesh
    )
    signed = Signed(msgspec.msgpack.encode(body), rng.randbytes(64))
    return revocation.revocation_text(wire.Revocation(signed)).encode()


_SORTED = msgspec.json.Encoder(order="sorted")


def _audit_line(data: bytes) -> object:
    """A line whose hash fits, as whoever can write to the disk can make it."""
    with contextlib.suppress(msgspec.MsgspecError, ValueError, RecursionError):
        entry = msgspec.json.decode(data, type=audit_chain.Entry)
        digest = hashlib.sha256(_SORTED.encode(msgspec.structs.replace(entry, hash=""))).hexdigest()
        data = _SORTED.encode(msgspec.structs.replace(entry, hash=digest))
    audit_chain.verify([data + b"\n"], mesh=_TRUST.mesh)
    return audit_chain.read_line(data)


def _question(data: bytes) -> object:
    question = sum_messages.decode_question(data)
    return (
        sum_messages.check_plan(question.plan)
        if isinstance(question, sum_messages.Open)
        else question
    )


def _unbundled(data: bytes) -> object:
    return [wire.decode(frame) for frame in wire.unbundle(data)]


def _make_bundle(rng: random.Random) -> bytes:
    make = _framed(wire.Message)
    return next(wire.bundle([make(rng) for _ in range(rng.randrange(1, 5))], 1 << 16))


def _token(rng: random.Random) -> bytes:
    addresses = ("tcp://10.0.0.1:7102",)
    token = invitations.Token(
        rng.randbytes(16), rng.randbytes(32), rng.randbytes(16), addresses, "pi"
    )
    return token.text().encode()


NAMES = (b"knowledge.gpt/arithmetic@abacus", b"data.gpt/a/b/c", b"computation.gpt/segment/m/0-7")
TARGETS: dict[str, Target] = {
    "wire.decode": Target(wire.decode, _framed(wire.Message)),
    "wire.unbundle": Target(_unbundled, _make_bundle),
    "wire.decode_admission": Target(wire.decode_admission, _framed(wire.AdmissionMessage)),
    "records": Target(_record, packed(records.Profile, records.Status)),
    "statements": Target(_signed(statements.read_statement), packed(statements.Statement)),
    "passport": Target(_passport, _make_paper),
    "revocation": Target(_text(_revocation), _make_revocation),
    "invitation": Target(_text(invitations.read_token), _token),
    "names": Target(_text(names.parse_address), lambda rng: rng.choice(NAMES)),
    "seed": Target(
        _text(parse_seed),
        lambda _: b"tcp://10.0.0.1:7102#UfQVVNw8d3g5uARdU8i6-UeajlfxJDkOr3ajPS7Ih0o",
    ),
    "generate": Target(
        lambda data: messages.decode(data, messages.Generate), packed(messages.Generate)
    ),
    "events": Target(messages.decode_event, packed(*get_args(messages.Event))),
    "secure_sum.question": Target(_question, packed(*get_args(sum_messages.Question))),
    "secure_sum.answer": Target(sum_messages.decode_answer, packed(*get_args(sum_messages.Answer))),
    "segments.question": Target(segments.decode_question, packed(*get_args(segments.Question))),
    "segments.answer": Target(segments.decode_answer, packed(*get_args(segments.Answer))),
    "drafts.question": Target(drafts.decode_question, packed(*get_args(drafts.Question))),
    "drafts.answer": Target(drafts.decode_answer, packed(*get_args(drafts.Answer))),
    "worker.command": Target(protocol.decode_command, packed(*get_args(protocol.AnyCommand))),
    "worker.reply": Target(protocol.decode_reply, packed(*get_args(protocol.AnyReply))),
    "audit": Target(_audit_line, lambda rng: msgspec.json.encode(example(audit_chain.Entry, rng))),
    "control": Target(_lines, lambda rng: msgspec.json.encode(example(LocalRequest, rng))),
}


def mutate(data: bytes, rng: random.Random, others: list[bytes]) -> bytes:
    """One to four changes of a valid input."""
    body = bytearray(data)
    for _ in range(rng.randrange(1, 5)):
        at = rng.randrange(len(body) + 1)
        match rng.randrange(8):
            case 0 if body:
                body[at - 1] ^= 1 << rng.randrange(8)
            case 1:
                body[at:at] = rng.randbytes(rng.randrange(1, 9))
            case 2:
                del body[at : at + rng.randrange(1, 9)]
            case 3:
                body[at : at + 1] = rng.choice(EDGES)
            case 4:
                body[at:at] = rng.choice(BOMBS)
            case 5 if others:
                other = rng.choice(others)
                body[at:] = other[rng.randrange(len(other) + 1) :]
            case 6:
                del body[at:]
            case _:
                body[at:at] = body[: rng.randrange(len(body) + 1)]
    return bytes(body[: 1 << 17])


def fuzz(target: Target, seconds: float, seed: int, most: int = 1 << 62) -> dict[str, Any]:
    """Feed mutated inputs until the time or their number is over."""
    rng = random.Random(seed)
    seen: list[bytes] = []
    tried = accepted = 0
    found: list[dict[str, str]] = []
    process = psutil.Process()
    before = process.memory_info().rss
    until = time.monotonic() + seconds
    while tried < most and time.monotonic() < until:
        valid = target.make(rng)
        seen = [*seen[-200:], valid]
        for data in (valid, *(mutate(valid, rng, seen) for _ in range(20))):
            tried += 1
            try:
                target.decode(data)
            except GossamerError:
                continue
            except Exception as error:  # this is what is looked for
                found.append({"error": repr(error)[:200], "input": data[:4096].hex()})
                continue
            accepted += 1
    return {
        "tried": tried,
        "accepted": accepted,
        "found": found[:20],
        "grown_mb": round((process.memory_info().rss - before) / 2**20, 1),
    }


def guided(name: str, seconds: float, seed: int, *, keep: bool) -> dict[str, Any]:
    """The same by coverage, in a process of its own; ``keep`` adds to the corpus of the tests."""
    with tempfile.TemporaryDirectory() as folder:
        corpus, report = Path(folder, "corpus"), Path(folder, "report.json")
        corpus.mkdir()
        for number, data in enumerate(_corpus.read(name)):
            (corpus / f"kept{number}").write_bytes(data)
        place = [name, str(seconds), str(seed), str(corpus), str(report)]
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks._coverage", *place],
            capture_output=True,
            text=True,
            check=False,
        )
        if not report.exists():
            raise SystemExit(f"{name}: the fuzzer did not start:\n{done.stderr[-2000:]}")
        figures: dict[str, Any] = json.loads(report.read_text())
        if done.returncode:  # too slow, too much memory, or the process itself broke
            crashed = [p.read_bytes()[:4096].hex() for p in Path(folder).glob("*-*") if p.is_file()]
            figures["found"].append({"error": done.stderr[-400:], "input": " ".join(crashed)})
        found = [path.read_bytes() for path in corpus.iterdir()]
        figures["corpus"] = len(found)
        if keep:
            figures["kept"] = _corpus.keep(name, TARGETS[name].decode, found)
    return figures


def _extend(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seconds", type=float, default=DEFAULT_SECONDS, help="per decoder")
    parser.add_argument("--only", default="", choices=["", *TARGETS], help="one decoder")
    parser.add_argument("--coverage", action="store_true", help="guided by coverage (atheris)")
    parser.add_argument("--keep", action="store_true", help="add to the corpus of the tests")


def measure(options: Options) -> dict[str, Any]:
    """Every decoder, or the one chosen."""
    given = options.more
    if given.coverage and importlib.util.find_spec("atheris") is None:
        raise SystemExit("--coverage needs atheris: pip install 'gossamer-mesh[fuzz]' (Linux, x86)")
    figures: dict[str, Any] = {}
    for name, target in TARGETS.items():
        if given.only in ("", name):
            figures[name] = (
                guided(name, given.seconds, options.seed, keep=given.keep)
                if given.coverage
                else fuzz(target, given.seconds, options.seed)
            )
            progress(f"{name}: {figures[name]['tried']} tried, {len(figures[name]['found'])} found")
    return {"guided" if given.coverage else "fuzz": figures}


if __name__ == "__main__":
    run("Fuzzing of every decoder.", measure, _extend)
