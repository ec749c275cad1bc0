"""An issuer certifies within the limits that the authority set, and every member checks them."""

from __future__ import annotations

import base64
import contextlib
import random

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.core.cms import Store
from mesh.core.errors import GossamerError, IdentityError
from mesh.core.identity import (
    Authority,
    CertificateBody,
    LocalIdentity,
    NodeKeys,
    Passport,
    Purpose,
    Signed,
    Trust,
    make_passport,
    new_keys,
    read_certificate,
    sign,
    sign_curve,
)
from mesh.core.invitations import MAX_OPEN, Book, Token, read_token
from mesh.core.issuing import DAY_S, Desk, renewal_due
from mesh.core.names import covers, matches
from mesh.core.revocation import read_revocation
from mesh.core.signing import ED25519
from mesh.core.wire import Certified, Redeem, decode_admission, encode

WALL = 1_700_000_000.0
rng = random.Random(11)
AUTHORITY = Authority(rng.randbytes(32))
TRUST = Trust(AUTHORITY.key)
PRIVATE = rng.randbytes(32)
KEYS = new_keys(rng.randbytes)


def appointed(
    authority: Authority = AUTHORITY,
    *,
    groups: tuple[str, ...] = ("sensors", "home"),
    publish: tuple[str, ...] = ("data.gpt/**", "knowledge.gpt/*"),
    max_validity_s: float = 30 * DAY_S,
    not_after: float = WALL + 100 * DAY_S,
    renews: bool = True,
) -> Signed:
    return authority.appoint(
        key=ED25519.public(PRIVATE),
        name="laptop",
        groups=groups,
        publish=publish,
        max_validity_s=max_validity_s,
        not_before=WALL,
        not_after=not_after,
        serial=b"issuer01",
        renews=renews,
    )


def desk(paper: Signed | None = None, book: Book | None = None, **kw: object) -> Desk:
    return Desk(
        PRIVATE, paper or appointed(), TRUST, "home", book or Book(), rng.randbytes, WALL, **kw
    )  # type: ignore[arg-type]


def redeem(secret: bytes, keys: NodeKeys, name: str = "pi", **changes: object) -> Redeem:
    asked = Redeem(secret, keys.key, keys.curve, name, sign_curve(keys, TRUST.mesh))
    return msgspec.structs.replace(asked, **changes)


def issued(  # what a thief of the issuer's key could sign
    keys: NodeKeys,
    *,
    groups: tuple[str, ...] = ("sensors",),
    publish: tuple[str, ...] = ("data.gpt/x",),
    valid_s: float = DAY_S,
    purpose: str = Purpose.ISSUED,
    private: bytes = PRIVATE,
) -> Signed:
    body = CertificateBody(
        TRUST.mesh,
        keys.node,
        keys.key,
        "pi",
        groups,
        publish,
        WALL,
        WALL + valid_s,
        b"s",
        appointed_id(),
    )
    return sign(private, purpose, TRUST.mesh, body)


def appointed_id() -> bytes:
    return TRUST.check_issuer(appointed(), WALL).id


def passport(keys: NodeKeys, certificate: Signed, paper: Signed | None) -> Passport:
    return make_passport(keys, certificate, TRUST.mesh, issuer=paper)


def test_an_issuers_certificate_is_believed_by_who_knows_the_authority_alone() -> None:
    keys = new_keys(rng.randbytes)
    member = TRUST.check(passport(keys, issued(keys), appointed()), WALL)
    assert (member.name, member.groups, member.issuer) == ("pi", ("sensors",), appointed_id())


@pytest.mark.parametrize(
    ("wishes", "said"),
    [
        ({"groups": ("admins",)}, "may not give group 'admins'"),
        ({"publish": ("computation.gpt/cloud",)}, "may not grant 'computation.gpt/cloud'"),
        ({"publish": ("knowledge.gpt/**",)}, "may not grant"),
        ({"publish": ("*.gpt/**",)}, "may not grant"),
        ({"valid_s": 31 * DAY_S}, "certifies for at most"),
        ({"purpose": Purpose.CERTIFICATE}, "not signed by the issuer"),
        ({"private": bytes(32)}, "not signed by the issuer"),
    ],
)
def test_a_stolen_issuer_key_cannot_go_beyond_its_paper(
    wishes: dict[str, object], said: str
) -> None:
    keys = new_keys(rng.randbytes)
    certificate = issued(keys, **wishes)  # type: ignore[arg-type]
    with pytest.raises(IdentityError, match=said):
        TRUST.check(passport(keys, certificate, appointed()), WALL)


def test_no_certificate_outlasts_its_issuer_and_none_is_believed_after_it() -> None:
    keys = new_keys(rng.randbytes)
    short = appointed(not_after=WALL + DAY_S)
    with pytest.raises(IdentityError, match="outlasts its issuer"):
        TRUST.check(passport(keys, issued(keys, valid_s=2 * DAY_S), short), WALL)
    with pytest.raises(IdentityError, match="time of the issuer"):
        TRUST.check(passport(keys, issued(keys, valid_s=DAY_S), short), WALL + DAY_S + 1)


def test_an_issuer_appointed_by_another_authority_is_nobody_here() -> None:
    keys = new_keys(rng.randbytes)
    other = Authority(rng.randbytes(32))
    with pytest.raises(IdentityError, match="another mesh"):
        TRUST.check(passport(keys, issued(keys), appointed(other)), WALL)
    body = msgspec.msgpack.decode(appointed().payload)
    forged = Signed(msgspec.msgpack.encode(body), bytes(64))
    with pytest.raises(IdentityError, match="not appointed by this mesh's authority"):
        TRUST.check(passport(keys, issued(keys), forged), WALL)


def test_an_issuers_certificate_without_its_paper_is_not_the_authoritys() -> None:
    keys = new_keys(rng.randbytes)
    with pytest.raises(IdentityError, match="not signed by this mesh's authority"):
        TRUST.check(passport(keys, issued(keys), None), WALL)


@pytest.mark.parametrize(
    ("outer", "inner", "fits"),
    [
        ("data.gpt/**", "data.gpt/vitals/raw", True),
        ("data.gpt/**", "data.gpt/**", True),
        ("data.gpt/*", "data.gpt/**", False),
        ("data.gpt/*", "data.gpt/vitals", True),
        ("data.gpt/vitals", "data.gpt/*", False),
        ("data.gpt/vitals/**", "data.gpt/**", False),
        ("data.gpt/vitals/**", "data.gpt/vitals", False),
        ("*.gpt/**", "knowledge.gpt/*", True),
        ("knowledge.gpt/**", "*.gpt/**", False),
        ("data.gpt/*/raw", "data.gpt/vitals/raw", True),
        ("data.gpt/*/raw", "data.gpt/*/*", False),
    ],
)
def test_a_pattern_covers_another_when_it_has_all_its_names(
    outer: str, inner: str, fits: bool
) -> None:
    assert covers(outer, inner) is fits
    if "*" not in inner:
        assert matches(outer, inner) is fits


def test_an_invitation_is_redeemed_once_and_gives_what_it_says() -> None:
    here, keys = desk(), new_keys(rng.randbytes)
    secret, _ = here.invite(WALL, groups=("sensors",), publish=("data.gpt/kitchen/**",))
    answer = decode_admission(encode(here.redeem(redeem(secret, keys), keys.curve, WALL)))
    assert isinstance(answer, Certified)
    member = TRUST.check(passport(keys, answer.certificate, answer.issuer), WALL)
    assert member.groups == ("sensors",)
    assert member.may_publish("data.gpt/kitchen/raw")
    assert not member.may_publish("data.gpt/bedroom/raw")
    thief = new_keys(rng.randbytes)
    with pytest.raises(IdentityError, match="used up"):
        here.redeem(redeem(secret, thief, "thief"), thief.curve, WALL)


def test_a_lost_answer_can_be_asked_for_again_by_the_same_keys_only() -> None:
    here, keys = desk(), new_keys(rng.randbytes)
    secret, invitation = here.invite(WALL)
    for _ in range(3):
        again = here.redeem(redeem(secret, keys), keys.curve, WALL)
    assert read_certificate(again.certificate).name == "pi"
    assert here.book.find(secret, keys.node, WALL).uses_left == 0
    assert invitation.uses_left == 1  # what was handed out is a value


def test_the_book_keeps_no_secret_and_survives_as_it_is() -> None:
    here = desk()
    secret, _ = here.invite(WALL, uses=2)
    data = msgspec.json.encode(here.book)
    assert secret not in data
    assert secret.hex().encode() not in data
    keys = new_keys(rng.randbytes)
    here.redeem(redeem(secret, keys), keys.curve, WALL)
    again = desk(book=msgspec.json.decode(msgspec.json.encode(here.book), type=Book))
    for number in range(2):
        other = new_keys(rng.randbytes)
        asked = redeem(secret, other, f"pi{number}")
        if number == 0:
            again.redeem(asked, other.curve, WALL)
        else:
            with pytest.raises(IdentityError, match="used up"):
                again.redeem(asked, other.curve, WALL)


def test_an_expired_or_unknown_invitation_is_refused() -> None:
    here, keys = desk(), new_keys(rng.randbytes)
    secret, _ = here.invite(WALL, life_s=60.0)
    with pytest.raises(IdentityError, match="expired"):
        here.redeem(redeem(secret, keys), keys.curve, WALL + 61)
    with pytest.raises(IdentityError, match="nobody here knows"):
        here.redeem(redeem(rng.randbytes(16), keys), keys.curve, WALL)


def test_nobody_gets_a_certificate_for_a_key_that_is_another_s() -> None:
    here, keys, victim = desk(), new_keys(rng.randbytes), new_keys(rng.randbytes)
    secret, _ = here.invite(WALL)
    for asked in (
        redeem(secret, keys, key=victim.key),
        redeem(secret, keys, proof=None),
        redeem(secret, keys, proof=sign_curve(victim, TRUST.mesh)),
        redeem(secret, keys, curve=victim.curve),
        redeem(secret, keys, proof=Signed(b"\xc1", bytes(64))),
        redeem(secret, keys, key=b"short"),
    ):
        with pytest.raises(IdentityError):
            here.redeem(asked, keys.curve, WALL)
    with pytest.raises(IdentityError, match="not those of the link"):
        here.redeem(redeem(secret, keys), victim.curve, WALL)
    assert here.book.find(secret, keys.node, WALL).uses_left == 1  # a refusal spends nothing


def test_a_name_that_another_node_bears_is_refused_also_before_it_was_ever_seen() -> None:
    known = new_keys(rng.randbytes).node
    here = desk(taken=lambda name: {known} if name == "kitchen" else set())
    keys, other = new_keys(rng.randbytes), new_keys(rng.randbytes)
    secret, _ = here.invite(WALL, uses=3)
    with pytest.raises(IdentityError, match="another node is named 'kitchen'"):
        here.redeem(redeem(secret, keys, "kitchen"), keys.curve, WALL)
    here.redeem(redeem(secret, keys, "pi"), keys.curve, WALL)
    with pytest.raises(IdentityError, match="another node is named 'pi'"):
        here.redeem(redeem(secret, other, "pi"), other.curve, WALL)
    with pytest.raises(IdentityError, match="another node is named 'kitchen'"):
        here.invite(WALL, name="kitchen")


def test_the_name_is_the_one_asked_for_else_the_invited_else_the_suggested() -> None:
    here, keys = desk(), new_keys(rng.randbytes)
    secret, _ = here.invite(WALL, name="pi-kitchen")
    with pytest.raises(IdentityError, match="for a node named 'pi-kitchen'"):
        here.redeem(redeem(secret, keys, "other"), keys.curve, WALL)
    named = here.redeem(redeem(secret, keys, "", suggestion="raspberrypi"), keys.curve, WALL)
    assert read_certificate(named.certificate).name == "pi-kitchen"
    secret, _ = here.invite(WALL)
    other = new_keys(rng.randbytes)
    asked = redeem(secret, other, "", suggestion="raspberrypi")
    assert read_certificate(here.redeem(asked, other.curve, WALL).certificate).name == "raspberrypi"
    secret, _ = here.invite(WALL)
    third = new_keys(rng.randbytes)
    with pytest.raises(IdentityError, match="needs a name"):
        here.redeem(redeem(secret, third, ""), third.curve, WALL)


@pytest.mark.parametrize(
    "wishes",
    [
        {"groups": ("admins",)},
        {"publish": ("computation.gpt/cloud",)},
        {"valid_s": 365 * DAY_S},
        {"uses": 0},
        {"uses": 5000},
        {"uses": 2, "name": "one"},
        {"life_s": -1.0},
        {"publish": tuple(f"data.gpt/{'x' * 60}/{i}" for i in range(60))},
    ],
)
def test_an_invitation_that_cannot_be_kept_is_not_given(wishes: dict[str, object]) -> None:
    here = desk()
    with pytest.raises(IdentityError):
        here.invite(WALL, **wishes)  # type: ignore[arg-type]
    assert not here.book.invitations


def test_open_invitations_are_bounded_and_those_that_ended_make_room() -> None:
    here = desk()
    for _ in range(MAX_OPEN):
        here.invite(WALL, life_s=10.0)
    with pytest.raises(IdentityError, match="invitations are open"):
        here.invite(WALL)
    here.invite(WALL + 11)


def test_a_desk_needs_the_key_of_its_paper() -> None:
    with pytest.raises(IdentityError, match="not the one that its paper"):
        Desk(bytes(32), appointed(), TRUST, "home", Book(), rng.randbytes, WALL)


def renewable(here: Desk, **wishes: object) -> tuple[NodeKeys, Passport]:
    keys = new_keys(rng.randbytes)
    secret, _ = here.invite(WALL, **wishes)  # type: ignore[arg-type]
    answer = here.redeem(redeem(secret, keys, "pi"), keys.curve, WALL)
    return keys, passport(keys, answer.certificate, answer.issuer)


def test_a_certificate_is_renewed_as_it_was_for_longer() -> None:
    here = desk()
    keys, old = renewable(here, groups=("sensors",), valid_s=DAY_S)
    later = WALL + DAY_S / 2
    answer = here.renew(old, keys.curve, later)
    new = passport(keys, answer.certificate, answer.issuer)
    before, after = TRUST.check(old, WALL), TRUST.check(new, later)
    assert after.not_after == later + DAY_S
    assert (after.node, after.name, after.groups, after.publish) == (
        before.node,
        before.name,
        before.groups,
        before.publish,
    )
    local = LocalIdentity(keys, old, TRUST)
    local.renew(new)
    assert local.member == after
    with pytest.raises(IdentityError, match="older"):
        local.renew(old)


def test_who_has_seen_the_newer_certificate_does_not_go_back_to_the_older() -> None:
    here = desk()
    keys, old = renewable(here, groups=("sensors",), valid_s=DAY_S)
    answer = here.renew(old, keys.curve, WALL + DAY_S / 2)
    new = passport(keys, answer.certificate, answer.issuer)
    before, after = TRUST.check(old, WALL), TRUST.check(new, WALL + DAY_S / 2)
    store = Store(TRUST)
    for member in (before, after, before):
        assert store.admit(member)
    assert store.member(after.node) == after
    assert store.counters["older_certificate"] == 1


def test_a_renewal_needs_the_nodes_own_link_and_a_certificate_that_still_runs() -> None:
    here = desk()
    keys, old = renewable(here, valid_s=DAY_S)
    with pytest.raises(IdentityError, match="its own key"):
        here.renew(old, new_keys(rng.randbytes).curve, WALL)
    with pytest.raises(IdentityError, match="expired"):
        here.renew(old, keys.curve, WALL + DAY_S + 1)


def test_a_guest_is_not_renewed_nor_one_beyond_the_issuers_limits() -> None:
    here = desk()
    keys, guest = renewable(here, renews=False)
    with pytest.raises(IdentityError, match="not to be renewed"):
        here.renew(guest, keys.curve, WALL)
    keys = new_keys(rng.randbytes)

    def own(groups: tuple[str, ...]) -> Passport:
        return passport(
            keys,
            AUTHORITY.certify(
                key=keys.key,
                name="old",
                groups=groups,
                publish=(),
                not_before=WALL,
                not_after=WALL + 365 * DAY_S,
                serial=b"x",
            ),
            None,
        )

    with pytest.raises(IdentityError, match="may not give group"):
        here.renew(own(("admins",)), keys.curve, WALL)
    longer = here.renew(own(("home",)), keys.curve, WALL + 364 * DAY_S - 300 * DAY_S)
    assert read_certificate(longer.certificate).name == "old"
    strict = desk(appointed(renews=False))
    with pytest.raises(IdentityError, match="not to be renewed"):
        strict.renew(own(("home",)), keys.curve, WALL)


def test_renewal_comes_before_the_end_and_not_for_all_at_once() -> None:
    times = [renewal_due(0.0, 900.0, rng) for _ in range(200)]
    assert all(540 < at < 660 for at in times)
    assert max(times) - min(times) > 40


def test_a_token_is_one_short_line_that_reads_back() -> None:
    token = Token(TRUST.mesh, bytes(32), bytes(16), ("tcp://192.168.1.20:7102",), "pi-kitchen")
    text = token.text()
    assert read_token(text) == token
    assert read_token(f"  {text[:40]}\n{text[40:]} ") == token
    assert len(text) < 180
    assert text.isascii()


@pytest.mark.parametrize(
    "damage",
    [
        lambda t: t[:-1],
        lambda t: t[:30] + t[31:],
        lambda t: t.replace("gossamer1.", ""),
        lambda t: "gossamer1.",
        lambda t: "gossamer1." + "A" * 5000,
        lambda t: t[:40] + ("B" if t[40] != "B" else "C") + t[41:],
        lambda t: "hello",
        lambda t: t + "!",
    ],
)
def test_a_damaged_token_is_told_from_a_whole_one(damage) -> None:  # type: ignore[no-untyped-def]
    text = Token(TRUST.mesh, bytes(32), bytes(16), ("tcp://h:1",), "").text()
    with pytest.raises(IdentityError):
        read_token(damage(text))


@given(st.text(max_size=300), st.binary(max_size=300))
def test_whatever_is_pasted_is_a_token_a_revocation_or_refused_as_neither(
    text: str, raw: bytes
) -> None:
    packed = base64.urlsafe_b64encode(raw).decode()
    for line in (text, "gossamer1." + text, "gossamer1." + packed, "revoke1." + packed):
        for read in (read_token, read_revocation):
            with contextlib.suppress(IdentityError):
                read(line)


@given(st.integers(0, 10_000), st.integers(0, 255), st.sampled_from(["c", "v", "i"]))
def test_a_passport_with_one_byte_changed_is_refused_and_breaks_nothing(
    place: int, byte: int, part: str
) -> None:
    keys = KEYS
    good = passport(keys, issued(keys), appointed())
    which = {"c": good.certificate, "v": good.curve, "i": good.issuer}[part]
    assert which is not None
    payload = bytearray(which.payload)
    if payload[place % len(payload)] == byte:
        return
    payload[place % len(payload)] = byte
    changed = Signed(bytes(payload), which.signature)
    field = {"c": "certificate", "v": "curve", "i": "issuer"}[part]
    with pytest.raises(GossamerError):
        TRUST.check(msgspec.structs.replace(good, **{field: changed}), WALL)
