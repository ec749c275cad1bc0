"""The demonstration mesh, as real processes: it answers, and survives what happens to it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from agents.faces.client import ControlClient, Result
from agents.faces.demo import Demo, roster
from mesh.core.errors import Rejected
from tests.e2e.harness import (
    ARITHMETIC,
    Mesh,
    processes_of,
    running_mesh,
    signals_heeded,
    until,
)

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

GOSSAMER = [sys.executable, "-m", "agents.faces.cli"]


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    with running_mesh(tmp_path_factory.mktemp("mesh")) as running:
        yield running


def gossamer(mesh: Mesh, *words: str, node: str = "desk") -> subprocess.CompletedProcess[str]:
    command = [*GOSSAMER, *words, "--state", str(mesh.demo.state(node))]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def check_answer(answer: dict[str, Any]) -> None:
    assert {"text", "degraded", "elapsed_s", "steps", "nodes"} <= answer.keys()
    for step in answer["steps"]:
        assert {"name", "node", "status", "elapsed_s"} <= step.keys()


def test_a_calculation_is_done_by_an_expert_on_another_node(mesh: Mesh) -> None:
    answer = mesh.ask("What is 48 * 27?")
    check_answer(answer)
    assert "1296" in answer["text"]
    assert not answer["degraded"]
    [step] = answer["steps"]
    assert step["name"] == ARITHMETIC
    assert step["node"] in {"abacus", "tally"}
    assert step["remote"]
    assert answer["asked"] == "desk"


def test_two_calculations_run_at_once_on_two_nodes(mesh: Mesh) -> None:
    answer = mesh.ask("What is 48 * 27 and what is 312 + 45?")
    first, second = answer["steps"]
    assert {first["node"], second["node"]} == {"abacus", "tally"}
    assert first["started_s"] < second["started_s"] + second["elapsed_s"]
    assert second["started_s"] < first["started_s"] + first["elapsed_s"]
    assert "1296" in answer["text"]
    assert "357" in answer["text"]


def test_a_node_answers_for_itself_what_it_can(mesh: Mesh) -> None:
    answer = mesh.ask("What is 7 + 8?", node="tally")
    assert answer["steps"][0]["node"] == "tally"
    assert not answer["steps"][0]["remote"]
    assert "15" in answer["text"]


def test_a_question_about_the_mesh_is_answered_by_the_general_model(mesh: Mesh) -> None:
    answer = mesh.ask("What is Gossamer?", node="abacus")
    assert answer["steps"][0]["name"] == "knowledge.gpt/mesh"
    assert answer["steps"][0]["node"] == "desk"
    assert "mesh" in answer["text"].lower()


def test_a_reading_of_the_machine_is_data_of_another_node(mesh: Mesh) -> None:
    answer = mesh.ask("How busy is this machine?")
    assert answer["steps"][0]["name"] == "data.gpt/machine/summary"
    assert re.search(r"load \d|memory", answer["text"])


def test_the_commands_speak_json_and_words(mesh: Mesh) -> None:
    peers = json.loads(gossamer(mesh, "peers", "--json").stdout)
    assert {peer["name"] for peer in peers} == {"desk", "abacus", "tally", "gauge"}
    assert all(peer["state"] == "alive" for peer in peers)
    names = json.loads(gossamer(mesh, "names", "--json").stdout)
    assert {n["name"] for n in names} >= {ARITHMETIC, "computation.gpt/generate"}
    found = json.loads(gossamer(mesh, "resolve", ARITHMETIC, "--json").stdout)
    assert {e["name"] for e in found["endpoints"]} == {"abacus", "tally"}
    called = json.loads(gossamer(mesh, "call", f"{ARITHMETIC}@tally", "9 + 9", "--json").stdout)
    assert (called["node"], called["finish"]) == ("tally", "stop")
    assert "18" in called["text"]
    shown = gossamer(mesh, "ask", "What is 20 + 22?")
    assert shown.returncode == 0
    assert "42" in shown.stdout
    table = gossamer(mesh, "peers")
    assert "abacus" in table.stdout


def test_errors_are_one_line_with_what_to_do_next(mesh: Mesh) -> None:
    unknown = gossamer(mesh, "resolve", "knowledge.gpt/marine_biology")
    assert unknown.returncode == 1
    assert "nobody in the mesh offers knowledge.gpt/marine_biology" in unknown.stderr
    assert "Traceback" not in unknown.stderr
    bad = json.loads(gossamer(mesh, "resolve", "arithmetic", "--json").stdout)
    assert bad["error"]["code"] == "name_invalid"


def test_the_audit_log_names_who_came_in_and_its_chain_holds(mesh: Mesh) -> None:
    shown = gossamer(mesh, "audit", "show")
    assert "admission" in shown.stdout
    assert "abacus" in shown.stdout
    assert gossamer(mesh, "audit", "verify").returncode == 0


def test_a_subscription_brings_readings_until_it_is_closed(mesh: Mesh) -> None:
    async def scenario() -> list[Any]:
        async with await ControlClient.connect(mesh.demo.state("desk")) as client:
            seen = []
            async for item in client.request("call", {"name": "data.gpt/machine/raw"}):
                seen.append(item)
                if len(seen) == 2:
                    break
            return seen

    first, second = asyncio.run(scenario())
    assert first["type"] == "message"
    assert first["value"]["source"] == "gauge"
    assert second["value"]["at"] > first["value"]["at"]


def test_a_worker_killed_while_it_streams_costs_no_answer_and_comes_back(mesh: Mesh) -> None:
    async def scenario() -> list[dict[str, Any]]:
        victim = mesh.worker("abacus")

        async def one(client: ControlClient, question: str) -> dict[str, Any]:
            async for item in client.request("ask", {"question": question}):
                if isinstance(item, Result):
                    return dict(item.value)
                if item["type"] == "delta":  # in the middle of an answer
                    with contextlib.suppress(psutil.NoSuchProcess):
                        victim.kill()
            raise AssertionError("the stream ended without a result")

        async with await ControlClient.connect(mesh.demo.state("desk")) as client:
            questions = [f"What is {n} * 27?" for n in range(41, 49)]
            return list(await asyncio.gather(*(one(client, q) for q in questions)))

    for answer in asyncio.run(scenario()):
        check_answer(answer)
        whole = re.search(r"= -?\d+$", answer["text"])
        assert whole or (answer["degraded"] and answer["missing"])
        if whole:
            assert answer["steps"][0]["status"] == "ok"

    def answers_again() -> bool:
        try:
            called = mesh.fetch("desk", "call", name=f"{ARITHMETIC}@abacus", text="2 + 2")
        except Rejected:  # one clear word while it is away
            return False
        return "4" in called["text"]

    until(answers_again, "the worker is back")
    assert mesh.peer("abacus")["state"] == "alive"  # the agent never left


def test_a_frozen_agent_is_seen_dead_and_alive_again(mesh: Mesh) -> None:
    frozen = mesh.agent("gauge")
    frozen.suspend()
    try:
        until(lambda: mesh.peer("gauge")["state"] == "dead", "the frozen node is seen dead")
        assert mesh.peer("abacus")["state"] == "alive"
    finally:
        frozen.resume()
    until(lambda: mesh.peer("gauge")["state"] == "alive", "it is alive again")


def test_killed_specialists_are_replaced_by_others_then_by_a_plain_word(tmp_path: Path) -> None:
    with running_mesh(tmp_path) as mesh:
        mesh.agent("abacus").kill()
        until(lambda: mesh.peer("abacus")["state"] == "dead", "the dead node is seen dead")
        answer = mesh.ask("What is 48 * 27?")
        assert answer["steps"][0]["node"] == "tally"
        assert "1296" in answer["text"]
        mesh.agent("tally").kill()
        until(lambda: mesh.peer("tally")["state"] == "dead", "the other one too")
        answer = mesh.ask("What is 48 * 27?")
        assert answer["degraded"]
        assert ARITHMETIC in answer["text"]
        assert "1296" not in answer["text"]


def test_demo_once_prints_one_object_and_leaves_no_process(tmp_path: Path) -> None:
    folder = tmp_path / "demo"
    command = [*GOSSAMER, "demo", "--once", "What is 48 * 27?", "--json", "--state", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=150, check=False)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    check_answer(answer)
    assert "1296" in answer["text"]
    assert not processes_of(folder)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupted_demo_leaves_no_process(tmp_path: Path, number: signal.Signals) -> None:
    folder = tmp_path / "demo"
    with signals_heeded():
        process = subprocess.Popen(
            [*GOSSAMER, "demo", "--state", str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
    until(lambda: len(processes_of(folder)) >= 4, "agents are starting")
    process.send_signal(number)
    process.wait(60)
    _, alive = psutil.wait_procs(processes_of(folder), timeout=30)
    assert not alive


@pytest.fixture
def interruptible() -> Iterator[None]:
    with signals_heeded():
        yield


@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_an_agent_is_launched_leaves_no_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    begun: list[subprocess.Popen[bytes]] = []
    real = subprocess.Popen

    def interrupted(_: list[str], **options: Any) -> subprocess.Popen[bytes]:
        begun.append(real([sys.executable, "-c", "import time; time.sleep(600)"], **options))
        signal.raise_signal(number)  # after the fork, before anybody knows of the process
        return begun[0]

    monkeypatch.setattr(subprocess, "Popen", interrupted)
    demo = Demo(roster(1), tmp_path / "demo")
    with pytest.raises((KeyboardInterrupt, SystemExit)), demo:
        demo.launch(demo.nodes[0], ())
    assert begun[0].poll() is not None
    assert demo.processes["desk"] is begun[0]


@pytest.mark.usefixtures("interruptible")
def test_a_second_signal_does_not_disturb_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended: list[bool] = []

    def stop() -> None:
        signal.raise_signal(signal.SIGINT)
        ended.append(True)

    demo = Demo(roster(1), tmp_path / "demo")
    monkeypatch.setattr(demo, "stop", stop)
    demo.__enter__()
    with pytest.raises(KeyboardInterrupt):
        demo.__exit__()
    assert ended


def test_a_broken_model_is_refused_in_one_line_and_disturbs_nothing_else(tmp_path: Path) -> None:
    with running_mesh(tmp_path) as mesh:
        (tmp_path / "broken.gguf").write_bytes(b"this is no model" * 100)
        config = tmp_path / "abacus.toml"
        text = config.read_text().replace('"builtin:arithmetic"', '"broken.gguf"')
        extra = '[[model.name]]\nname = "knowledge.gpt/arithmetic"\n'
        mesh.agent("abacus").terminate()
        mesh.demo.processes["abacus"].wait(30)
        config.write_text(text + extra)
        mesh.demo.processes["abacus"] = subprocess.Popen(
            [sys.executable, "-m", "agents.faces.up", str(config)],
            stdout=subprocess.DEVNULL,
            stderr=mesh.demo.log("abacus").open("wb"),
        )
        until(lambda: "broken.gguf" in mesh.demo.log("abacus").read_text(), "the reason is told")
        log = mesh.demo.log("abacus").read_text()
        assert "Traceback" not in log
        until(
            lambda: mesh.peer("abacus")["state"] == "alive", "the agent is in the mesh all the same"
        )
        until(lambda: not mesh.peer("abacus")["healthy"], "and says that it is unwell")
        assert mesh.ask("What is 48 * 27?")["steps"][0]["node"] == "tally"


def test_a_second_agent_on_the_same_state_is_refused(mesh: Mesh) -> None:
    config = mesh.demo.root / "desk.toml"
    again = subprocess.run(
        [*GOSSAMER, "up", "--config", str(config)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert again.returncode == 1
    assert "another agent runs on" in again.stderr
    assert "Traceback" not in again.stderr
