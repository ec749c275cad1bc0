"""What `gossamer status` says in words, at any width."""

from __future__ import annotations

from typing import Any

from agents.faces.statement import lines_of, statement

SEED = "tcp://192.168.1.7:36147#" + "k" * 43
STATUS: dict[str, Any] = {
    "name": "desk",
    "mesh": "home",
    "node": "dl26fbzs5bislbdtiyfj3yrdie",
    "ready": True,
    "uptime_s": 190.0,
    "certificate_ends_in_s": 31_535_833,
    "revoked": 0,
    "clock": "own",
    "clock_behind_s": 0,
    "dialable": "yes",
    "reach": "3 of 3 nodes that tried have reached it",
    "bytes_in": 44_400,
    "bytes_out": 0,
    "seed": SEED,
    "endpoints": {"control": "tcp://192.168.1.7:46593"},
    "drained": "",
    "troubles": [],
    "counters": {"refused": 2, "stale": 10},
}


def said(**more: Any) -> dict[str, str]:
    return dict(statement({**STATUS, **more}))


def test_an_agent_that_is_well_says_so_in_words_and_no_more() -> None:
    assert said()["agent"] == "desk in home, ready, up 3 min"
    assert said()["certificate"] == "ends in 365 days"
    assert said()["counted"] == "refused 2, stale 10"
    assert {"drained", "trouble", "revoked", "fingerprint", "endpoints"}.isdisjoint(said())


def test_what_is_wrong_is_said() -> None:
    assert "gossamer resume" in said(drained="desk is drained: a loose wire")["drained"]
    assert said(troubles=["no such file"])["trouble"] == "no such file"
    assert said(certificate_ends_in_s=7200.0)["certificate"] == "ends in 2.0 hours"
    assert said(certificate_ends_in_s=-1.0)["certificate"] == "has ended"
    assert "behind" in said(clock_behind_s=600)["clock"]
    assert "loading" in said(ready=False)["agent"]


def test_what_an_agent_of_another_version_says_is_shown_as_it_is() -> None:
    assert said(moods=["calm", "busy"])["moods"] == "calm, busy"
    assert dict(statement({}))["agent"]


def test_a_screen_of_80_columns_holds_it_and_a_seed_can_be_copied() -> None:
    lines = lines_of(statement({**STATUS, "counters": {f"thing_{n}": n for n in range(40)}}), 80)
    assert any(SEED in line for line in lines)
    assert [line for line in lines if len(line) > 80 and SEED not in line] == []
