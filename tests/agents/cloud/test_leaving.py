"""What leaves is masked in every field, what comes back is unmasked however it was cut."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.cloud.leaving import Leaving
from agents.port import Offer, Task
from agents.redaction import PersonalDataLeft, RedactionConfig, make_redactor
from capabilities.messages import (
    Delta,
    Done,
    Generate,
    Message,
    Tool,
    ToolCall,
    decode,
    decode_event,
    encode,
)
from mesh.core.access import CLOUD
from mesh.core.errors import AccessDenied, CapabilityFailed
from mesh.core.records import ServedName
from mesh.core.wire import Reach

ANNA = "Anna Berger"
OFFER = Offer(
    node=b"k", node_name="keyed", served=ServedName(name=CLOUD), me=False, healthy=True, load=0.0
)
LINES: list[dict[str, str]] = []


def record(what: str, who: str = "", **detail: str) -> bool:
    LINES.append({"what": what, "who": who, **detail})
    return True


def leave(
    body: Generate,
    answer: list[Delta | Done],
    *,
    reach: Reach = Reach.CLOUD,
    error: Exception | None = None,
) -> tuple[list[Generate], list[Delta | Done]]:
    LINES.clear()
    sent: list[Generate] = []

    async def send(data: bytes) -> AsyncIterator[bytes]:
        sent.append(decode(data, Generate))
        for event in answer:
            yield encode(event)
        if error is not None:
            raise error

    async def main() -> list[Delta | Done]:
        redactor = make_redactor(RedactionConfig(people=(ANNA,)))
        leaving = Leaving(redactor, record, "me")
        task = Task(trace=b"t" * 16, deadline=9e9, reach=reach, why="all nodes were full")
        return [decode_event(d) async for d in leaving.call(OFFER, encode(body), task, send)]

    return sent, asyncio.run(main())


def body(**changes: object) -> Generate:
    values: dict[str, object] = {"messages": [Message("user", f"Who is {ANNA}?")], **changes}
    return Generate(**values)  # type: ignore[arg-type]


DONE = Done(text="<PERSON_1> is you.", finish="stop")


def test_every_text_of_a_request_is_masked() -> None:
    call = ToolCall(name="find", arguments=f'{{"who": "{ANNA}"}}')
    asked = body(
        messages=[
            Message("system", f"You help {ANNA}."),
            Message("user", f"Who is {ANNA}?"),
            Message("assistant", "", [call]),
        ],
        stop=[ANNA],
        json_schema=f'{{"enum": ["{ANNA}"]}}',
        tools=[Tool(name="find", description=f"Finds {ANNA}", parameters=f'{{"d": "{ANNA}"}}')],
    )
    [sent], _ = leave(asked, [DONE])
    assert "Anna" not in repr(sent)
    assert repr(sent).count("<PERSON_1>") == 7


@settings(max_examples=30)
@given(st.lists(st.integers(1, 6), min_size=1, max_size=12))
def test_the_answer_is_unmasked_however_it_was_cut(cuts: list[int]) -> None:
    whole, pieces = "I know <PERSON_1>, and <person 1> knows me.", []
    rest = whole
    for cut in cuts:
        pieces.append(rest[:cut])
        rest = rest[cut:]
    pieces.append(rest)
    deltas: list[Delta | Done] = [Delta(text=piece) for piece in pieces if piece]
    done = Done(text=whole, finish="stop")
    _, events = leave(body(), [*deltas, done])
    shown = "".join(e.text for e in events if isinstance(e, Delta))
    assert shown == f"I know {ANNA}, and {ANNA} knows me."
    assert events[-1].text == shown


def test_the_arguments_of_a_tool_are_unmasked() -> None:
    call = ToolCall(name="find", arguments='{"who": "<PERSON_1>"}')
    _, events = leave(body(), [Done(text="", finish="tool_calls", tool_calls=[call])])
    assert isinstance(events[-1], Done)
    assert events[-1].tool_calls[0].arguments == f'{{"who": "{ANNA}"}}'


def test_a_task_that_may_not_leave_is_stopped_here_and_audited() -> None:
    with pytest.raises(AccessDenied):
        leave(body(), [DONE], reach=Reach.MESH)
    assert LINES[0]["outcome"].startswith("denied")


def test_what_is_left_after_masking_is_refused_and_the_audit_holds_none_of_it() -> None:
    with pytest.raises(PersonalDataLeft):
        leave(body(messages=[Message("user", "under 0415 555 2671")]), [DONE])
    [line] = LINES
    assert line["outcome"].startswith("personal_data")
    assert "555" not in repr(line)


def test_the_audit_says_why_and_what_was_masked_but_not_the_text() -> None:
    leave(body(), [DONE])
    [line] = LINES
    assert line["why"] == "all nodes were full"
    assert line["masked"] == "PERSON 1"
    assert line["outcome"] == "answered"
    assert "Anna" not in repr(line)


def test_an_answer_that_breaks_off_is_audited_as_such() -> None:
    with pytest.raises(CapabilityFailed):
        leave(body(), [Delta(text="half")], error=CapabilityFailed("it broke"))
    assert LINES[0]["outcome"] == "failed: it broke"
