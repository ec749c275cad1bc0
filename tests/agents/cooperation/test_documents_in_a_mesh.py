"""Documents over real agents: sent in at the local door, read by peers, cited; models held to a
schema answer JSON whatever they know."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from typer.testing import CliRunner

from agents.classifier.catalogue import GENERATE
from agents.config import AgentConfig
from agents.cooperation import documents_protocol as protocol
from agents.faces.cli.app import app
from agents.faces.cli.documents import PIECE_CHARS, DocumentQuestion, ask_document
from agents.faces.client import ControlClient, Result
from agents.orchestrator.modelplan import ModelPlanner
from agents.orchestrator.options import AskOptions
from agents.orchestrator.plan import PlanRefused
from agents.port import Task
from agents.trace import TRACE_BYTES
from capabilities.base import Capability
from capabilities.slm.capability import SlmCapability
from capabilities.slm.host import ModelHost
from capabilities.slm.protocol import Paced, Settings
from capabilities.slm.tasks import PLAN_SCHEMA
from mesh.core.errors import ConfigError
from mesh.core.records import ServedName
from tests.agents.cloud.house import House, house

TEXT = (
    "\n".join(f"sensor-{n} temperature {n % 50}.5 C" for n in range(2000))
    + "\nAt 13:10 pump-9 in hall 4 was repaired by Anna because of a leak.\n"
)


def asked(path: Path, question: str, **more: Any) -> DocumentQuestion:
    values: dict[str, Any] = {
        "reach": "mesh", "timeout_s": 60.0, "supervisor": "rules", "objective": "latency", **more
    }  # fmt: skip
    return DocumentQuestion(path=path, question=question, **values)


async def appears(what: Callable[[], Any]) -> Any:
    """What gossip brings, sooner or later."""
    for _ in range(1200):
        if found := what():
            return found
        await asyncio.sleep(0.05)
    raise AssertionError("it never came")


def in_a_house(tmp_path: Path, body: Callable[[House], Any]) -> Any:
    async def run() -> Any:
        async with house(tmp_path) as made:
            return await body(made)

    return asyncio.run(run())


def test_a_file_is_read_by_a_peer_and_the_answer_printed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "report.txt"
    file.write_text(TEXT)
    assert len(TEXT) > PIECE_CHARS

    async def body(made: House) -> int:
        reader = await made.agent("reader", reader=True)
        desk = await made.agent("desk", reader)
        await appears(lambda: [o for o in desk.port.offers() if o.served.kind == "extract"])
        async with await ControlClient.connect(tmp_path / "desk") as client:
            return await ask_document(client, asked(file, "Who saw to pump-9?"), as_json=False)

    assert in_a_house(tmp_path, body) == 0
    out, aside = capsys.readouterr()
    assert "Anna" in out
    assert "repaired by Anna" in out
    assert "pieces read" in aside
    assert "reader" in aside


def test_the_door_forgets_a_document_once_it_is_asked_about(tmp_path: Path) -> None:
    async def body(made: House) -> None:
        await made.agent("desk")
        async with await ControlClient.connect(tmp_path / "desk") as client:
            sent = await client.fetch("document_put", {"text": "pump-9 load 40%"})
            args = {"document": sent["document"], "question": "What is the load of pump-9?"}
            results = [i async for i in client.request("ask_document", args)]
            last = results[-1]
            assert isinstance(last, Result)
            assert last.value["answer"]["statements"][0]["text"] == "40%"
            with pytest.raises(ConfigError, match="does not hold"):
                await client.fetch("ask_document", args)
            with pytest.raises(ConfigError, match="does not hold"):
                await client.fetch("document_put", {"document": "none", "text": "x"})

    in_a_house(tmp_path, body)


@pytest.mark.parametrize(("content", "why"), [(b"\xff\xfe\x00", "UTF-8"), (b"  \n", "empty")])
def test_a_file_that_is_no_text_is_refused(tmp_path: Path, content: bytes, why: str) -> None:
    file = tmp_path / "file"
    file.write_bytes(content)

    async def body(made: House) -> None:
        await made.agent("desk")
        async with await ControlClient.connect(tmp_path / "desk") as client:
            with pytest.raises(ConfigError, match=why):
                await ask_document(client, asked(file, "who?"), as_json=True)

    in_a_house(tmp_path, body)


def test_a_document_without_a_question_is_wrong_usage(tmp_path: Path) -> None:
    file = tmp_path / "report.txt"
    file.write_text(TEXT)
    found = CliRunner().invoke(app, ["ask", "--document", str(file), "--state", str(tmp_path)],
                               input=" ")  # fmt: skip
    assert found.exit_code == 2


def test_a_peer_sees_in_the_status_how_far_a_node_is_with_a_task(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "knowledge.gpt/paced"

    def paced(config: AgentConfig, node: str) -> list[Capability]:
        pace = Paced(token_s=0.05, prompt_token_s=0.0, answer_tokens=120)
        host = ModelHost("paced", Settings(slots=1, context_tokens=2048), paced=pace)
        return [SlmCapability(host, [ServedName(name, model="paced")])] if node == "board" else []

    monkeypatch.setattr("agents.agent.make_capabilities", paced)

    async def body(made: House) -> None:
        board = await made.agent("board")
        desk = await made.agent("desk", board)
        await appears(lambda: [o for o in desk.port.offers() if o.served.name == name])
        options = AskOptions(name=name, max_tokens=120, trace=b"\x12" * TRACE_BYTES)
        asking = asyncio.create_task(desk.orchestrator.answer("word", options))

        def told() -> Any:
            status = desk.node.core.status(board.node.me.node)
            return status and status.tasks

        ((task, progress),) = await appears(told)
        assert task == "12121212"
        assert 0.0 <= progress < 1.0
        assert (await asking).text
        await appears(lambda: not told())

    in_a_house(tmp_path, body)


def test_a_real_model_held_to_the_schemas_answers_json_of_their_form(tmp_path: Path) -> None:
    """What it says may be nonsense; what is made of nonsense is the rules' plan."""

    async def body(made: House) -> None:
        agent = await made.agent(
            "desk",
            model=[{"path": "builtin:general", "context": 1024, "slots": 1}],
            parts={"planner": "model"},
        )
        task = Task(trace=b"t" * TRACE_BYTES, deadline=agent.port.now() + 60.0)
        question = "What is 12 + 30, then multiply the result by 3"
        planner, names = ModelPlanner(), ["knowledge.gpt/arithmetic", GENERATE]
        request = planner.request(question, names)
        assert request is not None
        said = await agent.orchestrator.asker.ask(GENERATE, request, task)
        if said.finish == "stop":
            plan = json.loads(said.text)
            assert set(plan) == set(PLAN_SCHEMA["properties"])
        with contextlib.suppress(PlanRefused):  # the one way in which nonsense is refused
            planner.decoded(said.text, question, names)
        reading = protocol.reader_request("pump-9 load 40%", "What is the load of pump-9?")
        said = await agent.orchestrator.asker.ask(GENERATE, reading, task)
        if said.finish == "stop":
            msgspec.json.decode(said.text)
        answer = await agent.orchestrator.answer(question)
        rules = [line["rule"] for line in answer.decisions]
        assert "plan.model" in rules
        assert "plan" in rules

    in_a_house(tmp_path, body)
