"""The audit log on a disk: nothing waits, nothing is lost in silence, a power cut is survived."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path

import pytest

from mesh.core.audit_chain import AuditError, Report, What
from mesh.core.identity import ED25519
from mesh.net import audit
from mesh.net.audit import AuditLimits, AuditLog

MESH, KEY = b"m" * 16, b"k" * 32


def opened(folder: Path, **limits: float) -> AuditLog:
    log = AuditLog(folder, mesh=MESH, signing=KEY, limits=AuditLimits(**limits))  # type: ignore[arg-type]
    log.open()
    return log


def checked(folder: Path) -> Report:
    return audit.verify_folder(folder, mesh=MESH, key=ED25519.public(KEY))


def kinds(folder: Path) -> list[str]:
    return [entry.what for entry in audit.last_entries(folder, 10_000)]


def test_what_is_recorded_is_on_the_disk_signed_after_closing(tmp_path: Path) -> None:
    log = opened(tmp_path)
    assert log.record(What.ADMISSION, "cam-1", group="cameras")
    assert log.record(What.REFUSAL, "cam-2", code="denied")
    log.close()
    log.close()
    report = checked(tmp_path)
    assert report.ok
    assert report.signed == report.lines
    assert [k for k in kinds(tmp_path) if k != "checkpoint"] == ["start", "admission", "refusal"]
    [refusal] = audit.last_entries(tmp_path, 5, "refusal")
    assert (refusal.who, refusal.detail) == ("cam-2", {"code": "denied"})
    assert (tmp_path / audit.CURRENT).stat().st_mode & 0o077 == 0


def test_a_restart_goes_on_where_the_log_ended(tmp_path: Path) -> None:
    for _ in range(3):
        log = opened(tmp_path)
        log.record(What.REVOCATION, "cam-1")
        log.close()
    report = checked(tmp_path)
    assert report.ok
    assert kinds(tmp_path).count("revocation") == 3


def test_a_torn_tail_is_cut_away_and_told_at_the_next_start(tmp_path: Path) -> None:
    log = opened(tmp_path)
    log.record(What.ADMISSION, "cam-1")
    log.close()
    with (tmp_path / audit.CURRENT).open("ab") as file:
        file.write(b'{"at":1,"detail":{')
    assert checked(tmp_path).torn
    opened(tmp_path).close()
    report = checked(tmp_path)
    assert report.ok
    assert not report.torn
    assert audit.last_entries(tmp_path, 9, "start")[-1].detail == {"torn_bytes": "18"}


def test_a_log_whose_end_was_changed_is_kept_aside_and_a_new_one_begun(tmp_path: Path) -> None:
    log = opened(tmp_path)
    log.record(What.ADMISSION, "cam-1")
    log.close()
    file = tmp_path / audit.CURRENT
    lines = file.read_bytes().splitlines(keepends=True)
    lines[-1] = lines[-1].replace(b"checkpoint", b"Checkpoint")
    file.write_bytes(b"".join(lines))
    assert not checked(tmp_path).ok
    opened(tmp_path).close()
    assert checked(tmp_path).ok
    assert len(audit.set_aside(tmp_path)) == 1
    assert audit.last_entries(tmp_path, 9, "start")[0].detail == {"set_aside": "1"}


def test_a_flood_is_counted_not_kept_and_the_log_tells_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = threading.Event()
    fsync = os.fsync

    def slow(descriptor: int) -> None:
        gate.wait(30)
        fsync(descriptor)

    log = opened(tmp_path, queue=10)
    monkeypatch.setattr(os, "fsync", slow)
    taken = sum(log.record(What.REFUSAL, f"flood-{n}") for n in range(1000))
    assert taken <= 21  # what waits, and what the writer holds
    assert log.counters["dropped"] == 1000 - taken
    gate.set()
    log.close(30)
    report = checked(tmp_path)
    assert report.ok
    assert report.dropped == 1000 - taken
    assert kinds(tmp_path).count("refusal") == taken


def test_a_full_disk_stops_nobody_and_the_gap_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit, "RETRY_S", 0.0)
    log = opened(tmp_path)
    full, fsync, refused = threading.Event(), os.fsync, threading.Event()
    full.set()

    def broken(descriptor: int) -> None:
        if full.is_set():
            refused.set()
            raise OSError(errno.ENOSPC, "No space left on device")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", broken)
    log.record(What.REFUSAL, "lost")
    assert refused.wait(30)
    while not log.counters["failed"]:
        pass
    full.clear()
    log.record(What.REFUSAL, "kept")
    log.close(30)
    report = checked(tmp_path)
    assert report.ok
    assert report.dropped == log.counters["failed"]
    assert [e.who for e in audit.last_entries(tmp_path, 9, "refusal")] == ["kept"]


def test_the_log_rotates_and_its_oldest_part_goes_with_a_word(tmp_path: Path) -> None:
    log = opened(tmp_path, segment_bytes=2000, segments=2)
    for number in range(60):
        while not log.record(What.REFUSAL, f"n{number}"):
            pass
        if number % 5 == 4:  # so that the thread takes several turns
            log.close(30)
            log = opened(tmp_path, segment_bytes=2000, segments=2)
    log.close(30)
    report = checked(tmp_path)
    assert report.ok
    assert report.first > 1
    assert len(audit.files(tmp_path)) <= 3
    audit.files(tmp_path)[0].unlink()  # what the agent did not remove is missed
    broken = checked(tmp_path).broken
    assert broken is not None
    assert "no line says" in broken.why


def test_a_folder_without_a_log_or_rights_is_told(tmp_path: Path) -> None:
    with pytest.raises(AuditError, match="no audit log"):
        checked(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(AuditError, match="cannot be written"):
        opened(tmp_path / "file" / "audit")
    with pytest.raises(AuditError, match="cannot be read"):
        audit.owner(tmp_path)
