"""Structure-aware fuzzing of every decoder of bytes from outside.

    python -m benchmarks.fuzz --json --seconds 600 --only wire.decode

Valid messages are made from the decoders' own types, then mutated: bits, lengths, headers,
splices, nesting, truncation. A decoder may raise its own errors and nothing else, and must not
grow the memory. What it found is kept in ``tests/fuzz``.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, get_args

import msgspec
import psutil

from agents.faces.lines import MAX_REQUEST_BYTES, LineSplitter
from agents.faces.lines import Request as LocalRequest
from benchmarks._report import Options, progress, run
from capabilities import messages
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
from mesh.core.signing import Signed
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


def _passport(data: bytes) -> object:
    trust = identity.Trust(b"\x01" * 32)
    return trust.check(identity.Passport(Signed(data, b""), Signed(data, b"")), 1e9)


def _token(rng: random.Random) -> bytes:
    addresses = ("tcp://10.0.0.1:7102",)
    token = invitations.Token(
        rng.randbytes(16), rng.randbytes(32), rng.randbytes(16), addresses, "pi"
    )
    return token.text().encode()


NAMES = (b"knowledge.gpt/arithmetic@abacus", b"data.gpt/a/b/c", b"computation.gpt/segment/m/0-7")
TARGETS: dict[str, Target] = {
    "wire.decode": Target(wire.decode, _framed(wire.Message)),
    "wire.decode_admission": Target(wire.decode_admission, _framed(wire.AdmissionMessage)),
    "records": Target(_record, packed(records.Profile, records.Status)),
    "statements": Target(_signed(statements.read_statement), packed(statements.Statement)),
    "passport": Target(_passport, packed(identity.CertificateBody, identity.CurveBody)),
    "revocation": Target(
        _text(revocation.read_revocation), lambda rng: rng.randbytes(90).hex().encode()
    ),
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
    "secure_sum.question": Target(
        sum_messages.decode_question, packed(*get_args(sum_messages.Question))
    ),
    "secure_sum.answer": Target(sum_messages.decode_answer, packed(*get_args(sum_messages.Answer))),
    "worker.command": Target(protocol.decode_command, packed(*get_args(protocol.AnyCommand))),
    "worker.reply": Target(protocol.decode_reply, packed(*get_args(protocol.AnyReply))),
    "audit": Target(
        audit_chain.read_line, lambda rng: msgspec.json.encode(example(audit_chain.Entry, rng))
    ),
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


_chosen = argparse.Namespace(seconds=DEFAULT_SECONDS, only="")


def _extend(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seconds", type=float, default=DEFAULT_SECONDS, help="per decoder")
    parser.add_argument("--only", default="", help=f"one of {', '.join(TARGETS)}")
    original = parser.parse_args

    def parse_args(*args: Any, **kwargs: Any) -> argparse.Namespace:
        given = original(*args, **kwargs)
        _chosen.seconds, _chosen.only = given.seconds, given.only
        return given

    parser.parse_args = parse_args  # type: ignore[method-assign,assignment]


def measure(options: Options) -> dict[str, Any]:
    """Every decoder, or the one chosen."""
    figures: dict[str, Any] = {}
    for name, target in TARGETS.items():
        if _chosen.only in ("", name):
            figures[name] = fuzz(target, _chosen.seconds, options.seed)
            progress(f"{name}: {figures[name]['tried']} tried, {len(figures[name]['found'])} found")
    return {"fuzz": figures}


if __name__ == "__main__":
    run("Structure-aware fuzzing of every decoder.", measure, _extend)
