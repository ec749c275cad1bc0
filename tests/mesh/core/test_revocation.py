"""Who may take whom out, for how long it is kept, and how the word spreads."""

from __future__ import annotations

import random

import msgspec
import pytest

from mesh.core.errors import IdentityError
from mesh.core.exclusion import Exclusion
from mesh.core.identity import Authority, Member, Signed, Trust, fingerprint, sign
from mesh.core.revocation import (
    MAX_KEPT_S,
    MAX_PER_SIGNER,
    YEAR_S,
    RevocationBody,
    Revocations,
    read_id,
    read_revocation,
    revocation_text,
    revoke,
)
from mesh.core.signing import ED25519, Purpose, show_id
from mesh.core.wire import Revocation, Rumours, Want, decode, encode

WALL = 1_700_000_000.0
rng = random.Random(3)
AUTHORITY = Authority(rng.randbytes(32))
ISSUER = rng.randbytes(32)
ISSUER_ID = fingerprint(ED25519.public(ISSUER))
PAPER = AUTHORITY.appoint(
    key=ED25519.public(ISSUER),
    name="laptop",
    groups=("*",),
    publish=("*.gpt/**",),
    max_validity_s=YEAR_S,
    not_before=WALL,
    not_after=WALL + YEAR_S,
    serial=b"p",
)


def trust() -> Trust:
    return Trust(AUTHORITY.key)


def member(node: bytes, issuer: bytes = AUTHORITY.mesh) -> Member:
    return Member(node, "pi", (), (), b"k" * 32, b"c" * 32, WALL + YEAR_S, b"s", WALL, issuer)


def by_authority(node: bytes, reason: str = "lost", until: float = WALL + YEAR_S) -> Revocation:
    return revoke(
        AUTHORITY.mesh,
        AUTHORITY.sign,
        AUTHORITY.mesh,
        node,
        name="pi",
        reason=reason,
        wall=WALL,
        until=until,
    )


def by_issuer(node: bytes, paper: Signed | None = PAPER, private: bytes = ISSUER) -> Revocation:
    def with_key(purpose: str, body: msgspec.Struct) -> Signed:
        return sign(private, purpose, AUTHORITY.mesh, body)

    return revoke(
        ISSUER_ID,
        with_key,
        AUTHORITY.mesh,
        node,
        name="pi",
        reason="sold",
        wall=WALL,
        until=WALL + YEAR_S,
        paper=paper,
    )


def test_the_authority_takes_anybody_out_and_an_issuer_only_whom_it_let_in() -> None:
    kept = Revocations(trust())
    one, other = rng.randbytes(16), rng.randbytes(16)
    assert kept.add(by_authority(one), WALL) is not None
    assert kept.add(by_issuer(other), WALL) is not None
    assert kept.why(member(one)) == "lost"
    assert kept.why(member(one, ISSUER_ID)) == "lost"
    assert kept.why(member(other, ISSUER_ID)) == "sold"
    assert kept.why(member(other)) == ""  # the authority's certificate outranks the issuer
    assert kept.add(by_authority(one), WALL) is None  # known


def test_whom_a_revoked_issuer_let_in_is_out_as_well() -> None:
    kept = Revocations(trust())
    kept.add(by_authority(ISSUER_ID, "its key was stolen"), WALL)
    assert "its key was stolen" in kept.why(member(rng.randbytes(16), ISSUER_ID))
    assert kept.why(member(rng.randbytes(16))) == ""


@pytest.mark.parametrize(
    "forged",
    [
        by_issuer(bytes(16), paper=None),
        by_issuer(bytes(16), private=bytes(32)),
        by_issuer(bytes(16), paper=Signed(PAPER.payload, bytes(64))),
        Revocation(Signed(by_authority(bytes(16)).statement.payload, bytes(64))),
        Revocation(Signed(b"\xc1" * 8, bytes(64))),
        Revocation(Signed(b"x" * 5000, bytes(64))),
        by_authority(bytes(16), until=WALL - 1),
        Revocation(
            AUTHORITY.sign(
                Purpose.STATEMENT,
                msgspec.msgpack.decode(
                    by_authority(bytes(16)).statement.payload, type=RevocationBody
                ),
            )
        ),
        Revocation(
            AUTHORITY.sign(
                Purpose.REVOCATION,
                RevocationBody(
                    AUTHORITY.mesh, bytes(16), "x", "x", WALL, WALL + 9e9, AUTHORITY.mesh
                ),
            )
        ),
        Revocation(
            AUTHORITY.sign(
                Purpose.REVOCATION,
                RevocationBody(
                    AUTHORITY.mesh, bytes(16), "x", "x", WALL + 9e5, WALL + 9e6, AUTHORITY.mesh
                ),
            )
        ),
        Revocation(
            AUTHORITY.sign(
                Purpose.REVOCATION,
                RevocationBody(bytes(16), bytes(16), "x", "x", WALL, WALL + 9, AUTHORITY.mesh),
            )
        ),
    ],
)
def test_a_revocation_that_is_forged_over_or_foreign_takes_nobody_out(forged: Revocation) -> None:
    kept = Revocations(trust())
    with pytest.raises(IdentityError):
        kept.add(forged, WALL)
    assert len(kept) == 0
    assert kept.why(member(bytes(16))) == ""


def test_it_is_kept_until_no_certificate_can_run_and_then_forgotten() -> None:
    kept = Revocations(trust())
    empty, node = kept.hash, rng.randbytes(16)
    kept.add(by_authority(node, until=WALL + 100), WALL)
    assert kept.hash != empty
    kept.sweep(WALL + 99)
    assert kept.why(member(node))
    kept.sweep(WALL + 100)
    assert not kept.why(member(node))
    assert kept.hash == empty
    long = by_authority(node, until=WALL + 10 * MAX_KEPT_S)
    body = msgspec.msgpack.decode(long.statement.payload, type=RevocationBody)
    assert body.until == WALL + MAX_KEPT_S


def test_an_issuers_word_outlives_its_time_but_not_its_share() -> None:
    kept = Revocations(trust())
    node = rng.randbytes(16)
    late = by_issuer(node)
    assert kept.add(late, WALL + YEAR_S - 1) is not None
    full = Revocations(trust())
    for _ in range(MAX_PER_SIGNER):
        full._kept[(rng.randbytes(16), ISSUER_ID)] = next(iter(kept._kept.values()))
    with pytest.raises(IdentityError, match="more nodes than are kept"):
        full.add(by_issuer(rng.randbytes(16)), WALL)
    assert full.add(by_authority(rng.randbytes(16)), WALL) is not None


def test_a_revocation_fits_a_line_and_reads_back() -> None:
    revocation = by_issuer(rng.randbytes(16))
    text = revocation_text(revocation)
    assert read_revocation(f" {text[:50]}\n{text[50:]}") == revocation
    for bad in (text[:-9], text[9:], "revoke1.", "revoke1.!!!", "x" * 9000):
        with pytest.raises(IdentityError):
            read_revocation(bad)
    node = rng.randbytes(16)
    assert read_id(show_id(node)) == node
    for bad in ("", "pi", "0" * 26, "a" * 25):
        with pytest.raises(IdentityError):
            read_id(bad)


class Peer:
    """One node's share in spreading, without anything else of a node."""

    def __init__(self, node: bytes, mesh: dict[bytes, Peer]) -> None:
        self.node = node
        self.kept = Revocations(trust())
        self.out: list[bytes] = []
        self.sharing = Exclusion(
            self.kept,
            rng,
            lambda: [n for n in mesh if n != node],
            lambda body: self.out.append(body.node),
        )


def crowd(count: int) -> dict[bytes, Peer]:
    mesh: dict[bytes, Peer] = {}
    for _ in range(count):
        node = rng.randbytes(16)
        mesh[node] = Peer(node, mesh)
    return mesh


def deliver(mesh: dict[bytes, Peer], sends, sender: bytes, cut=lambda to: False) -> int:  # type: ignore[no-untyped-def]
    waiting, frames = [(sender, send) for send in sends], 0
    while waiting:
        by, send = waiting.pop()
        if cut(send.to):
            continue
        frames += 1
        message, peer = decode(encode(send.message)), mesh[send.to]
        if isinstance(message, Rumours):
            answers = peer.sharing.hear(by, message.revocations, WALL)
        else:
            assert message == Want([(b"", 0)])
            answers = peer.sharing.all_for(by)
        waiting += [(send.to, answer) for answer in answers]
    return frames


def test_a_mesh_of_two_hundred_hears_it_in_one_wave_at_a_bounded_price() -> None:
    mesh = crowd(200)
    first = next(iter(mesh.values()))
    gone = rng.randbytes(16)
    frames = deliver(mesh, first.sharing.revoke(by_authority(gone), WALL), first.node)
    heard = sum(peer.out == [gone] for peer in mesh.values())
    assert heard >= 195
    assert frames <= 200 * 8


def test_who_was_away_hears_it_with_the_first_comparison_in_either_direction() -> None:
    mesh = crowd(2)
    here, away = mesh.values()
    gone = [rng.randbytes(16) for _ in range(100)]
    for node in gone:
        deliver(mesh, here.sharing.revoke(by_authority(node), WALL), here.node, lambda to: True)
    assert not away.out
    deliver(mesh, away.sharing.compare(here.node, here.sharing.hash), away.node)
    assert sorted(away.out) == sorted(gone)
    assert away.kept.hash == here.kept.hash
    assert away.sharing.compare(here.node, here.sharing.hash) == []
    assert away.sharing.compare(here.node, b"") == []  # a node of before revocations


def test_a_forged_one_among_many_is_counted_and_ends_the_message() -> None:
    mesh = crowd(2)
    here, _ = mesh.values()
    bad = Revocation(Signed(b"nonsense", bytes(64)))
    assert here.sharing.hear(b"", [bad, by_authority(rng.randbytes(16))], WALL) == []
    assert here.sharing.counters["refused_revocation"] == 1
    assert not here.out
