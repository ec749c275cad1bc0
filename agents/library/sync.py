"""The library for programs without an event loop: the same verbs, waiting for their answers."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Coroutine, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from agents.library.events import (
    AskedEvent,
    DataEvent,
    Embeddings,
    Generation,
    GenerationEvent,
    ModelView,
    Receipt,
    Resolution,
)
from agents.library.knowing import DocumentAnswer, KnowledgeAdded, KnownEntry
from agents.library.remote import Agent, connect
from agents.library.writing import WrittenAnswer
from agents.views import AnswerView, NameView, PeerView
from capabilities.messages import Generate, Sample

T = TypeVar("T")


def connect_sync(state: Path | str | None = None) -> SyncAgent:
    """As :func:`agents.connect`; leave with ``close()``, or use it in a ``with`` block."""
    agent = SyncAgent(state)
    try:
        agent.open()
    except BaseException:
        agent.close()
        raise
    return agent


class SyncAgent:
    """A running agent, verb by verb; an event loop of its own turns in a thread behind it.

    Threads may share it. An iterator that is closed early cancels what it stands for.
    """

    def __init__(self, state: Path | str | None = None) -> None:
        self._state = state
        self._agent: Agent | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="gossamer", daemon=True)
        self._thread.start()

    def open(self) -> None:
        """Make sure that the agent is there."""
        self._agent = self._run(connect(self._state))

    def close(self) -> None:
        """Leave; harmless when repeated."""
        if self._loop.is_closed():
            return
        if self._agent is not None:
            self._run(self._agent.close())
        self._run(self._loop.shutdown_asyncgens())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def __enter__(self) -> SyncAgent:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def ask(self, question: str, **options: Any) -> AnswerView:
        """See :meth:`Agent.ask`."""
        return self._run(self.agent.ask(question, **options))

    def stream(self, question: str, **options: Any) -> Iterator[AskedEvent]:
        """See :meth:`Agent.stream`."""
        return self._each(self.agent.stream(question, **options))

    def generate(self, target: str, request: Generate | str, **options: Any) -> Generation:
        """See :meth:`Agent.generate`."""
        return self._run(self.agent.generate(target, request, **options))

    def generate_stream(
        self, target: str, request: Generate | str, **options: Any
    ) -> Iterator[GenerationEvent]:
        """See :meth:`Agent.generate_stream`."""
        return self._each(self.agent.generate_stream(target, request, **options))

    def call(self, name: str, text: str, **options: Any) -> str:
        """See :meth:`Agent.call`."""
        return self._run(self.agent.call(name, text, **options))

    def embed(self, texts: Sequence[str], *, model: str = "") -> Embeddings:
        """See :meth:`Agent.embed`."""
        return self._run(self.agent.embed(texts, model=model))

    def subscribe(self, name: str, **options: Any) -> Iterator[Sample]:
        """See :meth:`Agent.subscribe`."""
        return self._each(self.agent.subscribe(name, **options))

    def follow(self, name: str, **options: Any) -> Iterator[DataEvent]:
        """See :meth:`Agent.follow`."""
        return self._each(self.agent.follow(name, **options))

    def publish(self, name: str, value: Mapping[str, Any], **options: Any) -> Receipt:
        """See :meth:`Agent.publish`."""
        return self._run(self.agent.publish(name, value, **options))

    def take_away(self, name: str, key: str = "") -> Receipt:
        """See :meth:`Agent.take_away`."""
        return self._run(self.agent.take_away(name, key))

    def resolve(self, name: str) -> Resolution:
        """See :meth:`Agent.resolve`."""
        return self._run(self.agent.resolve(name))

    def ask_document(self, document: str, question: str, **options: Any) -> DocumentAnswer:
        """See :meth:`Agent.ask_document`."""
        return self._run(self.agent.ask_document(document, question, **options))

    def write(self, instruction: str, **options: Any) -> WrittenAnswer:
        """See :meth:`Agent.write`."""
        return self._run(self.agent.write(instruction, **options))

    def knowledge_add(self, path: Path | str, **options: Any) -> KnowledgeAdded:
        """See :meth:`Agent.knowledge_add`."""
        return self._run(self.agent.knowledge_add(path, **options))

    def knowledge_search(self, text: str, **options: Any) -> list[KnownEntry]:
        """See :meth:`Agent.knowledge_search`."""
        return self._run(self.agent.knowledge_search(text, **options))

    def names(self, pattern: str = "") -> list[NameView]:
        """See :meth:`Agent.names`."""
        return self._run(self.agent.names(pattern))

    def models(self) -> list[ModelView]:
        """See :meth:`Agent.models`."""
        return self._run(self.agent.models())

    def peers(self) -> list[PeerView]:
        """See :meth:`Agent.peers`."""
        return self._run(self.agent.peers())

    def status(self) -> dict[str, Any]:
        """See :meth:`Agent.status`."""
        return self._run(self.agent.status())

    def traces(self, count: int = 20) -> list[dict[str, Any]]:
        """See :meth:`Agent.traces`."""
        return self._run(self.agent.traces(count))

    def trace(self, trace: str) -> dict[str, Any]:
        """See :meth:`Agent.trace`."""
        return self._run(self.agent.trace(trace))

    def watch(self, every_s: float = 0.5) -> Iterator[dict[str, Any]]:
        """See :meth:`Agent.watch`."""
        return self._each(self.agent.watch(every_s))

    @property
    def agent(self) -> Agent:
        """The asynchronous agent behind it; its loop is not the caller's."""
        if self._agent is None:
            raise RuntimeError("open() first")
        return self._agent

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        task = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return task.result()
        except BaseException:
            task.cancel()  # Ctrl-C while waiting: the agent must not go on for nobody
            raise

    def _each(self, items: AsyncIterator[T]) -> Iterator[T]:
        async def following() -> tuple[bool, T | None]:
            try:
                return True, await anext(items)
            except StopAsyncIteration:
                return False, None

        async def close() -> None:
            await items.aclose()  # type: ignore[attr-defined]

        try:
            while (found := self._run(following()))[0]:
                yield found[1]  # type: ignore[misc]
        finally:
            self._run(close())
