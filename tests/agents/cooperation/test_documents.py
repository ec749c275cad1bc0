"""A long text read in pieces by peers: what is cited is believed, what is not there is said."""

from __future__ import annotations

import asyncio
import itertools
import json
import random
from collections.abc import Callable

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.configure import PartsConfig, build
from agents.cooperation import documents_protocol as protocol
from agents.cooperation.documents import DocumentOptions, DocumentReader, Read, Reading
from agents.cooperation.documents_chunks import CHUNK_CHARS, Selector, chunked, fitting
from agents.cooperation.documents_protocol import Decision, Found, NotBelieved
from agents.cooperation.documents_supervisor import RuleSupervisor, rule_tasks
from agents.orchestrator.options import AskOptions
from agents.orchestrator.orchestrator import Orchestrator
from agents.port import Offer, Task
from capabilities.messages import Delta, Done
from capabilities.reading.capability import EXTRACT_NAME, KIND, answer_json, parted
from mesh.core.errors import ConfigError, GossamerError, ModelError, Rejected
from mesh.core.records import ModelInfo
from tests.agents.fakes import GENERAL, FakeMesh, FakeNode, breaks

Script = Callable[[str], list[Delta | Done | GossamerError]]


def report(seed: int = 1, lines: int = 900) -> str:
    rng = random.Random(seed)
    return "\n".join(
        f"{rng.randrange(24):02}:{rng.randrange(60):02} sensor-{n} temperature {n % 40}.5 C"
        for n in range(lines)
    )


TEXT = (
    report() + "\nAt 13:10 pump-9 in hall 4 was repaired by Anna because of a leak.\n" + report(2)
)


def reads(content: str) -> list[Delta | Done | GossamerError]:
    """The extractive reader itself, as a node of the fake mesh."""
    return [Done(text=answer_json(*parted(content)), finish="stop", model="extractive")]


def reader(*scripts: Script, general: Script | None = None) -> tuple[DocumentReader, FakeMesh]:
    nodes = [FakeNode(f"r{n}", {EXTRACT_NAME: s}, kind=KIND) for n, s in enumerate(scripts)]
    if general is not None:
        nodes.append(FakeNode("boss", {GENERAL: general}))
    mesh = FakeMesh(*nodes)
    parts = build(PartsConfig())
    asker = Orchestrator(mesh, parts, rng=random.Random(1)).asker
    return DocumentReader(mesh, asker, GENERAL), mesh


def ask(
    made: DocumentReader, question: str, text: str = TEXT, **choices: object
) -> tuple[Read, list[Reading]]:
    async def collect() -> list[Reading | Read]:
        options = DocumentOptions(**choices)  # type: ignore[arg-type]
        return [event async for event in made.read(text, question, AskOptions(), options)]

    *readings, last = asyncio.run(collect())
    assert isinstance(last, Read)
    return last, [event for event in readings if isinstance(event, Reading)]


def test_peers_find_a_fact_and_the_answer_cites_it() -> None:
    made, mesh = reader(reads, reads, reads)
    found, readings = ask(made, "Who saw to pump-9?")
    (statement,) = found.answer.statements
    assert statement.text == "Anna"
    assert statement.citation in TEXT
    assert not found.answer.degraded
    assert found.jobs < found.chunks
    assert readings[-1].done == readings[-1].jobs
    assert {node.name for node in mesh.nodes if node.calls} <= {"r0", "r1", "r2"}


def test_chunks_may_be_smaller_for_a_model_with_a_small_context() -> None:
    made, mesh = reader(reads)
    found, _ = ask(made, "Who saw to pump-9?", chunk_chars=400)
    assert found.answer.statements[0].text == "Anna"
    assert max(len(call) for call in mesh.nodes[0].calls) < 500


@pytest.mark.parametrize(
    ("contexts", "longest"),
    [
        ([], CHUNK_CHARS),
        ([0], CHUNK_CHARS),
        ([100_000], CHUNK_CHARS),
        ([1024, 8192], 1420),  # (1024 - 256) tokens of 2.5 characters, less 500 around it
        ([300, 8192], CHUNK_CHARS),  # one that holds no chunk is none to ask
    ],
)
def test_a_chunk_fits_the_smallest_context_that_holds_one(
    contexts: list[int], longest: int
) -> None:
    assert fitting(contexts, around_chars=500, answer_tokens=256) == longest


def test_chunks_fit_the_contexts_that_the_readers_advertise() -> None:
    class Advertising(FakeMesh):
        context = 0

        def resolve(
            self, name: str, task: Task, exclude: frozenset[bytes] = frozenset()
        ) -> list[Offer]:
            model = ModelInfo(name="tiny", file="tiny.gguf", context=self.context)
            found = super().resolve(name, task, exclude)
            return [msgspec.structs.replace(offer, model=model) for offer in found]

    longest = {}
    for context in (512, 100_000):
        mesh = Advertising(FakeNode("r0", {EXTRACT_NAME: reads}, kind=KIND))
        mesh.context = context
        asker = Orchestrator(mesh, build(PartsConfig()), rng=random.Random(1)).asker
        found, _ = ask(DocumentReader(mesh, asker, GENERAL), "Who saw to pump-9?")
        assert found.answer.statements[0].text == "Anna"
        longest[context] = max(map(len, mesh.nodes[0].calls))
    assert longest[512] < 1000 < longest[100_000]


def test_the_work_goes_to_several_peers() -> None:
    made, mesh = reader(reads, reads, reads)
    ask(made, "Who saw to pump-9?", select=False)
    assert all(node.calls for node in mesh.nodes)


def test_a_question_in_two_parts_is_two_tasks() -> None:
    made, _ = reader(reads)
    found, _ = ask(made, "What is the temperature of sensor-7 and of sensor-31?")
    assert {(s.step, s.text) for s in found.answer.statements} == {(1, "7.5 C"), (2, "31.5 C")}
    assert [step.status for step in found.answer.steps] == ["ok", "ok"]


def test_what_is_not_in_the_text_is_said_to_be_absent() -> None:
    made, _ = reader(reads)
    found, _ = ask(made, "Who saw to pump-77?")
    assert found.answer.degraded
    assert "not in the text" in found.answer.text
    assert found.answer.statements == []
    assert found.rounds <= protocol.MAX_ROUNDS


def test_without_a_reader_in_the_mesh_this_node_reads() -> None:
    made, _ = reader()
    found, _ = ask(made, "Who saw to pump-9?")
    assert found.answer.statements[0].text == "Anna"
    assert "this node" in found.worker


def test_a_dead_reader_is_replaced_and_all_dead_is_told() -> None:
    made, _ = reader(breaks(ModelError("it crashed")), reads)
    assert ask(made, "Who saw to pump-9?")[0].answer.statements[0].text == "Anna"
    made, _ = reader(breaks(ModelError("it crashed")))
    found, _ = ask(made, "Who saw to pump-9?")
    assert found.failed_jobs > 0
    assert "were not read" in found.answer.missing[0]


def test_a_reader_that_is_full_is_asked_again() -> None:
    made, mesh = reader(reads)
    mesh.nodes[0].rejects, mesh.nodes[0].retry_after_s = 2, 0.01
    assert ask(made, "Who saw to pump-9?")[0].answer.statements[0].text == "Anna"


def lies(answer: object) -> Script:
    return lambda _: [Done(text=json.dumps(answer), finish="stop")]


@pytest.mark.parametrize(
    "answer",
    [
        {"explanation": "", "citation": "pump-9 was stolen by Eve", "answer": "Eve"},
        {"citation": "13:10 pump-9 in hall 4", "answer": "at 99:99"},
        {"answer": "Eve"},
        ["Eve"],
        "Eve",
    ],
)
def test_what_its_citation_does_not_carry_is_not_believed(answer: object) -> None:
    made, _ = reader(lies(answer))
    found, _ = ask(made, "Who saw to pump-9?")
    assert found.answer.statements == []
    assert found.not_believed > 0


def test_nothing_that_a_model_writes_is_run() -> None:
    code = "__import__('os').system('touch /tmp/ran')"
    made, _ = reader(lies(code), general=lies({"tasks": [code]}))
    found, _ = ask(made, "Who saw to pump-9?", supervisor="model")
    assert [step.question for step in found.answer.steps] == [code]
    assert found.answer.degraded


def supervising(tasks: list[str], decisions: list[dict[str, str]]) -> Script:
    left = list(decisions)

    def script(content: str) -> list[Delta | Done | GossamerError]:
        said: object = {"tasks": tasks} if content.startswith("Text:") else left.pop(0)
        return [Done(text=json.dumps(said), finish="stop")]

    return script


def test_a_model_supervises_and_sees_findings_and_never_the_text() -> None:
    final = {"decision": "final", "answer": "Anna did.", "feedback": ""}
    made, mesh = reader(reads, general=supervising(["Who saw to pump-9?"], [final]))
    found, _ = ask(made, "Was pump-9 mended, and by whom?", supervisor="model")
    assert found.answer.text.startswith("Anna did.")
    boss = next(node for node in mesh.nodes if node.name == "boss")
    assert "hall 4" in boss.calls[-1]
    assert sum(map(len, boss.calls)) < len(TEXT) / 100


def test_a_supervisor_that_makes_a_number_up_is_not_believed() -> None:
    final = {"decision": "final", "answer": "It cost 4000 euros.", "feedback": ""}
    made, _ = reader(reads, general=supervising(["Who saw to pump-9?"], [final]))
    found, _ = ask(made, "Who saw to pump-9?", supervisor="model")
    assert "4000" not in found.answer.text
    assert "Anna" in found.answer.text
    assert "nobody found" in found.answer.notes[0]


def test_a_supervisor_that_always_wants_more_ends_after_five_rounds() -> None:
    more = {"decision": "additional", "answer": "", "feedback": "more"}
    made, _ = reader(lies(None), general=supervising(["find the temperature"], [more] * 9))
    found, _ = ask(made, "What happened?", supervisor="model")
    assert found.rounds <= protocol.MAX_ROUNDS
    assert found.answer.degraded


@pytest.mark.parametrize("general", [None, breaks(ModelError("it crashed")), lies({"tasks": []})])
def test_without_a_supervisor_that_can_the_rules_stand_in(general: Script | None) -> None:
    made, _ = reader(reads, general=general)
    found, _ = ask(made, "Who saw to pump-9?", supervisor="model")
    assert found.answer.statements[0].text == "Anna"
    assert found.answer.notes


@pytest.mark.parametrize(
    ("text", "question", "choices", "why"),
    [
        ("", "who?", {}, "empty"),
        ("a text", " ", {}, "no question"),
        ("a text", "who?", {"supervisor": "king"}, "no supervisor"),
        ("a text", "who?", {"chunk_chars": 10}, "200 to 3000"),
        ("x\n" * (3 << 20), "who?", {}, "characters"),
    ],
)
def test_bad_input_is_refused(
    text: str, question: str, choices: dict[str, object], why: str
) -> None:
    made, _ = reader(reads)
    with pytest.raises(ConfigError, match=why):
        ask(made, question, text, **choices)


def test_the_same_question_has_the_same_answer() -> None:
    answers = {ask(reader(reads, reads)[0], "Who saw to pump-9?")[0].answer.text for _ in "abc"}
    assert len(answers) == 1


def test_closing_the_events_ends_the_reading() -> None:
    made, mesh = reader(reads)

    async def leave() -> None:
        mesh.gate = asyncio.Event()
        events = made.read(TEXT, "Who saw to pump-9?", AskOptions())
        async for _ in events:
            break
        task = asyncio.ensure_future(anext(events))
        await asyncio.sleep(0.05)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await events.aclose()
        assert mesh.running == 0

    asyncio.run(leave())


@given(st.text(alphabet=st.sampled_from("ab1 .\nA"), max_size=400), st.integers(10, 60))
def test_chunks_stand_in_the_text_and_leave_nothing_out(text: str, limit: int) -> None:
    chunks = chunked(text, limit)
    covered: set[int] = set()
    for chunk in chunks:
        assert len(chunk.text) <= limit
        assert text[chunk.start : chunk.start + len(chunk.text)] == chunk.text
        covered |= set(range(chunk.start, chunk.start + len(chunk.text)))
    assert all(place in covered for place, char in enumerate(text) if not char.isspace())


def test_neighbouring_chunks_share_two_sentences() -> None:
    chunks = chunked(TEXT)
    assert all(len(chunk.text) <= CHUNK_CHARS for chunk in chunks)
    for one, two in itertools.pairwise(chunks):
        shared = one.start + len(one.text) - two.start
        assert one.text[-shared:].count("\n") == 1


@pytest.mark.parametrize("task", ['" OR text:"', "NEAR(a b)", "*", "a AND NOT b", "", "sensor-7"])
def test_nothing_in_a_task_is_syntax_of_the_index(task: str) -> None:
    selector = Selector(chunked(TEXT))
    assert set(selector.ranked(task)) <= set(range(len(chunked(TEXT))))
    selector.close()


def test_the_chunk_that_holds_the_fact_is_ranked_first() -> None:
    chunks = chunked(TEXT)
    selector = Selector(chunks)
    assert "pump-9" in chunks[selector.ranked("Who saw to pump-9?")[0]].text
    selector.close()


@pytest.mark.parametrize(
    ("question", "tasks"),
    [
        ("Who saw to pump-9?", ["Who saw to pump-9?"]),
        (
            "Which has the higher load, node-1 or node-2?",
            ["What is the load of node-1?", "What is the load of node-2?"],
        ),
        (
            "Compare the load of node-1 and node-2.",
            ["What is the load of node-1?", "What is the load of node-2?"],
        ),
    ],
)
def test_rules_write_a_task_for_each_part(question: str, tasks: list[str]) -> None:
    assert rule_tasks(question) == tasks


def test_rules_are_content_when_each_task_has_a_finding() -> None:
    found = [Found(task="a", chunk=0, citation="x", answer="y")]
    decide = RuleSupervisor().decide
    assert asyncio.run(decide("q", ["a"], found, more=True)) == Decision(final=True)
    assert not asyncio.run(decide("q", ["a", "b"], found, more=True)).final
    assert asyncio.run(decide("q", ["a", "b"], found, more=False)).final


@pytest.mark.parametrize("text", ["", "nul", "{}", "[" * 9999, '{"citation": 3, "answer": "a"}'])
def test_a_readers_answer_of_another_form_is_not_believed(text: str) -> None:
    with pytest.raises(NotBelieved):
        protocol.read_answer(text, "t", "chunk", 0, "node", "worker")


@pytest.mark.parametrize("text", ["", "{}", '{"decision": "stop", "answer": "", "feedback": ""}'])
def test_a_decision_of_another_form_is_not_believed(text: str) -> None:
    with pytest.raises(NotBelieved):
        protocol.read_decision(text)


def test_a_rejection_that_lasts_ends_with_the_deadline() -> None:
    made, _ = reader(breaks(Rejected("full", retry_after_s=1000.0)))
    found, _ = ask(made, "Who saw to pump-9?")
    assert found.answer.degraded
    assert found.failed_jobs > 0
