"""Findings worked into this node's own inference, where its model can read a quotation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import aclosing

from agents.cooperation.knowledge import extract, faithful, reading_prompt
from agents.memory import Integrated
from agents.port import MeshPort, Offer, Task
from capabilities.messages import Done, Generate, decode_event, encode
from mesh.core.errors import GossamerError

READ_TOKENS = 256


class Reader:
    """``own_readers`` gives this node's offers of models large enough to read, best first."""

    def __init__(self, port: MeshPort, own_readers: Callable[[], Sequence[Offer]]) -> None:
        self._port = port
        self._own = own_readers

    @property
    def reads(self) -> bool:
        """Whether this node has a model that makes something of a quotation."""
        return bool(self._own())

    async def read(
        self,
        question: str,
        findings: Sequence[tuple[str, str]],
        task: Task,
        *,
        whole: bool = False,
    ) -> Integrated:
        """An answer from findings (source, text); never raises.

        Without a model that reads, or when it brings figures that stand in no finding, the
        first finding speaks for itself: ``whole``, or in the sentences that bear most on the
        question.
        """
        texts = [text for _, text in findings]
        plain = texts[0] if whole else extract(question, texts[0])
        readers = self._own()
        if not readers:
            return Integrated(
                text=plain, how="taken as it is: no model of this node can read a quotation"
            )
        request = Generate(messages=reading_prompt(question, findings), max_tokens=READ_TOKENS)
        try:
            done = await self._asked(readers[0], request, task)
        except GossamerError as error:
            return Integrated(text=plain, how=f"taken as it is: the own model failed ({error})")
        if done is None or done.finish != "stop" or not faithful(done.text, texts):
            return Integrated(
                text=plain, how="taken as it is: the own model did not keep to the quotation"
            )
        return Integrated(
            text=done.text.strip(),
            how=f"read, quoted, by {done.model or readers[0].served.model} of this node",
            by_model=done.model or readers[0].served.model,
        )

    async def _asked(self, offer: Offer, request: Generate, task: Task) -> Done | None:
        stream = self._port.call(offer, encode(request), task)
        async with aclosing(stream):  # type: ignore[type-var]
            async for body in stream:
                event = decode_event(body)
                if isinstance(event, Done):
                    return event
        return None
