"""The audit chain: any change to a line, or of its place, is found, and found where it is."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mesh.core.audit_chain import (
    MAX_LINE_BYTES,
    AuditChain,
    AuditError,
    Report,
    What,
    read_line,
    verify,
)
from mesh.core.identity import ED25519

MESH, KEY = b"m" * 16, b"k" * 32
PUBLIC = ED25519.public(KEY)


def chain(count: int = 6, key: bytes = KEY) -> list[bytes]:
    """``count`` refusals, and a checkpoint after each third."""
    made = AuditChain(mesh=MESH, signing=key)
    lines = []
    for number in range(count):
        lines.append(made.append(What.REFUSAL, 1e9 + number, f"n{number}", {"code": "denied"}))
        if number % 3 == 2:
            lines.append(made.checkpoint(1e9 + number))
    return lines


def check(lines: list[bytes], **options: object) -> Report:
    return verify(lines, mesh=MESH, **({"key": PUBLIC} | options))  # type: ignore[arg-type]


def test_a_log_as_it_was_written_holds() -> None:
    lines = chain()
    report = check(lines)
    assert report.ok
    assert (report.lines, report.signed, report.checkpoints) == (8, 8, 2)
    assert (report.first, report.last) == (1, 8)
    assert check(chain(5)).signed == 4  # what comes after the last checkpoint is not signed


def test_an_empty_log_holds_nothing() -> None:
    assert check([]).lines == 0
    assert check([]).ok


@given(st.data())
@settings(max_examples=60)
def test_a_changed_byte_is_found_in_its_line(data: st.DataObject) -> None:
    lines = chain()
    number = data.draw(st.integers(0, len(lines) - 1))
    place = data.draw(st.integers(0, len(lines[number]) - 2))
    changed = bytearray(lines[number])
    changed[place] ^= data.draw(st.integers(1, 255))
    if b"\n" in changed[:-1]:
        return  # as a file it would be two lines; the next test has those
    lines[number] = bytes(changed)
    broken = check(lines).broken
    assert broken is not None
    assert broken.line == number + 1


@given(st.data())
@settings(max_examples=30)
def test_lines_removed_moved_or_repeated_are_found(data: st.DataObject) -> None:
    lines = chain()
    first = data.draw(st.integers(0, len(lines) - 2))
    second = data.draw(st.integers(first + 1, len(lines) - 1))
    without = lines[:first] + lines[first + 1 :]
    swapped = list(lines)
    swapped[first], swapped[second] = swapped[second], swapped[first]
    repeated = [*lines[: first + 1], *lines[first:]]
    for changed in (without, swapped, repeated):
        broken = check(changed).broken
        assert broken is not None
        assert broken.line <= second + 1 or first == 0


def test_a_line_hashed_anew_still_does_not_fit_its_neighbour() -> None:
    lines = chain()
    forger = AuditChain(mesh=MESH, seq=1, head=read_line(lines[0]).hash)
    lines[1] = forger.append(What.REFUSAL, 1e9, "somebody else", {})
    broken = check(lines).broken
    assert broken is not None
    assert broken.line == 3
    assert "does not follow" in broken.why


def test_a_log_rewritten_without_the_nodes_key_is_found() -> None:
    broken = check(chain(key=b"x" * 32)).broken
    assert broken is not None
    assert "another key" in broken.why
    broken = verify(chain(), mesh=b"o" * 16).broken
    assert broken is not None
    assert "does not hold" in broken.why
    # Without knowing the key, all checkpoints must at least be signed by one.
    other = AuditChain(mesh=MESH, signing=b"x" * 32, seq=8, head=check(chain()).head)
    broken = check([*chain(), other.checkpoint(2e9)], key=b"").broken
    assert broken is not None
    assert broken.line == 9


def test_a_noted_line_shows_what_the_keys_holder_did() -> None:
    lines = chain()
    noted = (8, check(lines).head)
    assert check([*lines, *_more(lines)], kept=noted).ok
    cut = check(lines[:4], kept=noted).broken
    assert cut is not None
    assert "cut off" in cut.why
    rewritten = AuditChain(mesh=MESH, signing=KEY)
    again = [rewritten.append(What.REFUSAL, 0.0) for _ in range(8)]
    broken = check(again, kept=noted).broken
    assert broken is not None
    assert broken.line == 8
    assert "rewritten" in broken.why


def _more(lines: list[bytes]) -> list[bytes]:
    last = read_line(lines[-1])
    return [AuditChain(mesh=MESH, seq=last.seq, head=last.hash).append(What.ADMISSION, 2e9)]


def test_a_torn_tail_is_told_and_is_no_break() -> None:
    lines = chain()
    report = check([*lines[:-1], lines[-1][:20]])
    assert report.ok
    assert report.torn
    assert report.lines == 7


def test_a_log_that_begins_late_must_say_so() -> None:
    lines = chain()
    broken = check(lines[4:]).broken
    assert broken is not None
    assert "begins with line 5" in broken.why
    last = read_line(lines[-1])
    follow = AuditChain(mesh=MESH, seq=last.seq, head=last.hash)
    rotated = follow.append(What.ROTATED, 2e9, detail={"first_kept": "5"})
    report = check([*lines[4:], rotated])
    assert report.ok
    assert report.first == 5
    assert not check([*lines[5:], rotated]).ok


def test_what_a_peer_says_cannot_break_a_line_or_fill_the_disk() -> None:
    made = AuditChain(mesh=MESH)
    hostile = 'x"}\n{"seq":9,' + "\u202e\0" + "\\" * 5000
    line = made.append(What.REFUSAL, 1.0, hostile, {f"{n}{hostile}": hostile for n in range(40)})
    assert line.count(b"\n") == 1
    assert len(line) <= MAX_LINE_BYTES
    assert verify([line], mesh=MESH).ok
    assert json.loads(line)["who"].startswith('x"}\n{')


def test_lost_events_are_counted_from_the_log() -> None:
    made = AuditChain(mesh=MESH)
    lines = [made.append(What.DROPPED, 1.0, detail={"count": n}) for n in ("3", "4", "none")]
    assert verify(lines, mesh=MESH).dropped == 7


@given(st.binary(max_size=200))
def test_any_bytes_are_a_line_or_an_error_of_ours(line: bytes) -> None:
    with pytest.raises(AuditError):
        read_line(line)
