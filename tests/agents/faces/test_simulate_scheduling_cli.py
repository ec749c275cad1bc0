"""``gossamer simulate scheduling``: a table, JSON, a picture, and clear words for what is wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from agents.faces.cli import simulate
from agents.faces.cli.app import app

FAST = ("--base", 0.05, "--burst", 0.2, "--seeds", 1)


def run(*words: object) -> tuple[int, str, str]:
    assert simulate.simulate_app  # registered by app
    result = CliRunner().invoke(app, ["simulate", "scheduling", *map(str, words)])
    return result.exit_code, result.stdout, result.stderr


def test_every_policy_has_its_line_and_the_runs_are_told() -> None:
    code, out, err = run(*FAST)
    assert code == 0
    for policy in ("random", "weighted", "load_aware", "predictive", "central_queue"):
        assert policy in out
    assert "1/8 seed 1: random" in err


def test_json_names_the_load_and_the_seeds() -> None:
    code, out, _ = run(*FAST, "--seed", 7, "--policy", "predictive", "--limit", 5, "--json")
    assert code == 0
    found = json.loads(out)
    assert (found["seeds"], found["limit_s"]) == ([7], 5.0)
    assert [row["policy"] for row in found["policies"]] == ["predictive"]


def test_a_policy_that_does_not_exist_is_named_with_those_that_do() -> None:
    code, _, err = run(*FAST, "--policy", "wishful")
    assert code == 1
    assert "wishful" in err
    assert "load_aware" in err


def test_a_trace_is_replayed(tmp_path: Path) -> None:
    trace = tmp_path / "arrivals.jsonl"
    lines = [{"timestamp": 100 * n, "input_length": 20, "output_length": 9} for n in range(200)]
    trace.write_text("\n".join(map(json.dumps, lines)))
    code, out, _ = run("--trace", trace, "--seeds", 1, "--policy", "load_aware")
    assert code == 0
    assert "arrivals.jsonl" in out


def test_a_file_that_is_no_trace_is_said_to_be_none(tmp_path: Path) -> None:
    trace = tmp_path / "letter.txt"
    trace.write_text("Dear trace")
    code, _, err = run("--trace", trace)
    assert code == 1
    assert "TIMESTAMP" in err  # what it could have been


def test_a_picture_is_written_as_png_and_svg(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    code, out, _ = run(*FAST, "--policy", "random", "--policy", "load_aware", "--out", tmp_path)
    assert code == 0
    assert (tmp_path / "scheduling.png").read_bytes().startswith(b"\x89PNG")
    assert b"<svg" in (tmp_path / "scheduling.svg").read_bytes()
    assert "scheduling.png" in out
