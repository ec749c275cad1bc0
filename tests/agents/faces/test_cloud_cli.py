"""gossamer budget, gossamer escalation fit, and what is said of an answer that was paid for."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from agents.budget.limits import Limits
from agents.budget.store import FILE, BudgetStore
from agents.escalation import Ladder
from agents.faces.cli.app import app
from agents.faces.sheets import route_line
from agents.views import CloudView, StepView
from capabilities.cloud.purse import Bill, Claim
from tests.agents.escalation.test_cascade import log


def run(*words: str) -> Result:
    return CliRunner().invoke(app, list(words))


@pytest.fixture
def graded(tmp_path: Path) -> Path:
    path = tmp_path / "graded.jsonl"
    rows = [
        {"stages": [{"score": s.score, "correct": s.correct, "cost": s.cost} for s in q.stages]}
        for q in log(200, 1)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_a_fitted_cascade_is_what_the_ladder_takes(graded: Path, tmp_path: Path) -> None:
    out = tmp_path / "cascade.json"
    done = run("escalation", "fit", str(graded), "--budget", "0.004", "--out", str(out), "--json")
    assert done.exit_code == 0, done.output
    told = json.loads(done.output)
    assert told["held_out"]["accuracy"] > told["held_out"]["alone"]
    ladder = Ladder(cascade=json.loads(out.read_text()))
    assert ladder.cascade is not None
    assert ladder.cascade.thresholds == told["cascade"]["thresholds"]


def test_for_people_the_fit_names_what_it_gains(graded: Path) -> None:
    done = run("escalation", "fit", str(graded), "--budget", "0.004")
    assert "believed from" in done.output
    assert "always the cloud" in done.output


@pytest.mark.parametrize("bad", ["{", '{"stages": 3}', '{"stages": [{"correct": 7}]}', ""])
def test_a_bad_log_is_told_with_its_line(tmp_path: Path, bad: str) -> None:
    path = tmp_path / "log"
    path.write_text(f"{bad}\n" * 30)
    done = run("escalation", "fit", str(path), "--budget", "1", "--json")
    assert done.exit_code == 1
    assert json.loads(done.stdout)["error"]["code"] == "log"


def test_the_book_of_an_agent_that_does_not_run_is_read(tmp_path: Path) -> None:
    store = BudgetStore(tmp_path / FILE, Limits())
    ticket = store.reserve(Claim(nano=10**9, provider="acme", model="large", seconds=60))
    store.sent(ticket)
    store.settle(ticket, Bill(nano=250_000_000, prompt_tokens=10, completion_tokens=5))
    store.close()
    done = run("budget", "--state", str(tmp_path), "--json")
    assert done.exit_code == 0, done.output
    found = json.loads(done.output)
    assert found["days"][0]["spent"] == 0.25
    assert found["providers"][0]["provider"] == "acme"
    shown = run("budget", "--state", str(tmp_path))
    assert "acme" in shown.output
    assert "0.250000" in shown.output


def test_without_a_cloud_the_command_says_what_to_do(tmp_path: Path) -> None:
    done = run("budget", "--state", str(tmp_path), "--json")
    assert done.exit_code == 1
    assert "[[cloud.provider]]" in json.loads(done.stdout)["error"]["hint"]


def test_allow_cloud_does_not_go_with_a_narrower_reach() -> None:
    done = run("ask", "Hello?", "--allow-cloud", "--reach", "node")
    assert done.exit_code == 2


def test_a_paid_answer_says_to_whom_how_much_and_why() -> None:
    paid = CloudView(
        provider="acme",
        model="large-1",
        prompt_tokens=20,
        completion_tokens=9,
        cost=0.000112,
        currency="USD",
        estimated=True,
        why="the mesh could not: all were full",
    )
    step = StepView(
        id=1, name="computation.gpt/cloud", node="desk", question="?", status="ok", cloud=paid
    )
    line = route_line(step)
    assert "acme large-1, 20 + 9 tokens, at most 0.000112 USD: the mesh could not" in line
