"""The door that a text leaves the mesh by: masked here, told to the audit log, unmasked here.

Every call of the cloud goes through it, whichever node pays and whichever face asked, since it
stands in the one place that all calls of this node pass (:mod:`agents.meshport`).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from typing import Protocol

import msgspec

from agents.port import Offer, Task
from agents.redaction import Masking, Redactor
from capabilities.messages import (
    Delta,
    Done,
    Generate,
    Message,
    ToolCall,
    decode,
    decode_event,
    encode,
)
from mesh.core.audit_chain import What
from mesh.core.errors import AccessDenied, GossamerError
from mesh.core.wire import Reach


class Record(Protocol):
    """The audit log's own verb."""

    def __call__(self, what: str, who: str = "", **detail: str) -> bool: ...


class Leaving:
    """Masks what leaves this node for the cloud, and unmasks what comes back."""

    def __init__(self, redactor: Redactor, record: Record, me: str) -> None:
        self._redactor = redactor
        self._record = record
        self._me = me

    async def call(
        self,
        offer: Offer,
        body: bytes,
        task: Task,
        send: Callable[[bytes], AsyncIterator[bytes]],
    ) -> AsyncGenerator[bytes, None]:
        """``send`` the masked body and yield the unmasked answer.

        Raises :class:`AccessDenied` for a task that may not leave the mesh and
        :class:`~agents.redaction.PersonalDataLeft` where something personal would leave; both
        before anything is sent. Either way a line is left in the audit log.
        """
        told = {"role": "asked", "to": offer.node_name, "trace": task.trace.hex()}
        if task.why:
            told["why"] = task.why
        outcome = "cancelled"
        try:
            if task.reach < Reach.CLOUD:
                raise AccessDenied(
                    "this task may not leave the mesh", hint="allow it: --reach cloud"
                )
            masking = self._redactor.begin()
            # In a thread: the detectors take milliseconds a page, and probes must not wait.
            masked = await asyncio.to_thread(masked_request, masking, decode(body, Generate))
            told["masked"] = ", ".join(f"{k} {n}" for k, n in sorted(masking.counters.items()))
            async with aclosing(_unmasked(masking, send(encode(masked)))) as events:
                async for event in events:
                    if isinstance(event, Done):
                        outcome = "answered"
                        if event.paid is not None:
                            told["provider"] = event.paid.provider
                            told["model"] = event.paid.model
                            told["cost"] = f"{event.paid.cost:.9f} {event.paid.currency}"
                    yield encode(event)
        except GossamerError as error:
            outcome = f"{error.code}: {error.message}"
            raise
        finally:
            said = {key: value for key, value in told.items() if value}
            self._record(What.ESCALATION, self._me, outcome=outcome, **said)


def masked_request(masking: Masking, body: Generate) -> Generate:
    """The request with every text in it masked; raises where something personal would be left."""
    out = masking.outgoing
    return msgspec.structs.replace(
        body,
        messages=[
            Message(
                message.role,
                out(message.content),
                [ToolCall(name=c.name, arguments=out(c.arguments)) for c in message.tool_calls],
            )
            for message in body.messages
        ],
        stop=[out(text) for text in body.stop],
        json_schema=out(body.json_schema) if body.json_schema else "",
        tools=[
            msgspec.structs.replace(
                tool, description=out(tool.description), parameters=out(tool.parameters)
            )
            for tool in body.tools
        ],
    )


async def _unmasked(
    masking: Masking, answer: AsyncIterator[bytes]
) -> AsyncGenerator[Delta | Done, None]:
    streams = {False: masking.stream(), True: masking.stream()}  # by ``thinking``
    try:
        async for data in answer:
            event = decode_event(data)
            if isinstance(event, Delta):
                text = streams[event.thinking].feed(event.text)
                if text:
                    yield msgspec.structs.replace(event, text=text, logprobs=[])
                continue
            for thinking, stream in streams.items():
                if rest := stream.finish():
                    yield Delta(text=rest, thinking=thinking, tokens=0)
            yield msgspec.structs.replace(
                event,
                text=masking.unmask(event.text),
                tool_calls=[
                    ToolCall(name=call.name, arguments=masking.unmask(call.arguments))
                    for call in event.tool_calls
                ],
            )
    finally:
        close = getattr(answer, "aclose", None)
        if close is not None:
            await close()
