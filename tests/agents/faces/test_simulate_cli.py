"""``gossamer simulate gossip``: the curve as text, as JSON, and as a picture where one can."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from agents.faces.cli import simulate


def run(*words: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(simulate.simulate_app, ["gossip", *map(str, words)])
    return result.exit_code, result.stdout, result.stderr


def test_it_draws_the_curve_and_says_when_all_knew() -> None:
    code, out, err = run("--nodes", 16, "--loss", 0.25, "--seeds", 2)
    assert code == 0
    assert "16 nodes, 25% of packets lost, TCP" in out
    assert "100.0%" in out
    assert out.count("half of the nodes know after") == 2
    assert "seed 1: building" in err


def test_json_has_every_point() -> None:
    code, out, _ = run("--nodes", 12, "--json", "--datagram")
    assert code == 0
    found = json.loads(out)
    assert found["links"] == "datagrams"
    assert found["curves"][0]["known"][-1] == 12
    assert found["all_s"][0] == found["curves"][0]["times_s"][-1]


def test_without_the_library_that_draws_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    code, out, err = run("--nodes", 8, "--out", tmp_path / "curves")
    assert code == 1
    assert "gossamer-mesh[plots]" in err
    assert out == ""
    assert not (tmp_path / "curves").exists()


def test_with_it_a_picture_is_written(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    code, out, _ = run("--nodes", 8, "--out", tmp_path)
    assert code == 0
    assert (tmp_path / "gossip.png").read_bytes().startswith(b"\x89PNG")
    assert json.loads((tmp_path / "gossip.json").read_bytes())["nodes"] == 8
    assert "gossip.png" in out
