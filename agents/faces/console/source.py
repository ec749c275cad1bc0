"""What the console needs of an agent: a part of the library, so that tests can stand in for it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, Protocol

from agents.library.events import AskedEvent, DataEvent, Plan, Step
from agents.library.writing import WrittenAnswer
from agents.views import NameView
from capabilities.messages import Message


class Source(Protocol):
    """The verbs of :class:`agents.library.Agent` that the console uses."""

    def watch(self, every_s: float = 0.5) -> AsyncIterator[dict[str, Any]]:
        """The feed."""

    def stream(
        self,
        question: str,
        *,
        timeout_s: float = 60.0,
        reach: str = "mesh",
        history: Sequence[Message] = (),
    ) -> AsyncIterator[AskedEvent]:
        """A question."""

    def write_stream(
        self,
        instruction: str,
        *,
        private: str = "",
        strong: str = "",
        timeout_s: float = 120.0,
        reach: str = "mesh",
    ) -> AsyncIterator[Plan | Step | WrittenAnswer]:
        """A long text by outline."""

    def follow(self, name: str, *, timeout_s: float = 3600.0) -> AsyncIterator[DataEvent]:
        """Everything of a data name."""

    async def names(self) -> list[NameView]:
        """The names of the mesh."""

    async def traces(self, count: int = 20) -> list[dict[str, Any]]:
        """The latest requests."""

    async def trace(self, trace: str) -> dict[str, Any]:
        """One request in full."""

    async def budget(self, days: int = 7) -> dict[str, Any]:
        """What the cloud cost."""

    async def revoke(self, node: str, reason: str = "") -> dict[str, Any]:
        """Shut a node out."""

    async def drain(self, node: str = "", reason: str = "") -> dict[str, Any]:
        """Let a node take nothing new."""

    async def resume(self, node: str = "") -> dict[str, Any]:
        """Let it take work again."""

    async def load(
        self, model: str, *, names: Sequence[str] = (), node: str = ""
    ) -> dict[str, Any]:
        """Load a model at a node."""

    async def unload(self, model: str, *, node: str = "") -> dict[str, Any]:
        """Unload one."""

    async def policy(self, name: str = "", *, node: str = "") -> dict[str, Any]:
        """The scheduling policy of a node, changed where one is named."""

    async def close(self) -> None:
        """Leave."""


Connect = Callable[[], Awaitable[Source]]
