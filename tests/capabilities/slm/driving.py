"""An engine in this process, driven step by step."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from capabilities.messages import Delta, Done, Generate, Message
from capabilities.slm import protocol
from capabilities.slm.llama_engine import LlamaEngine


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 0.001
        return self.now


class Driven:
    """An engine and what it has said."""

    def __init__(self, path: Path, **settings: int) -> None:
        self.clock = Clock()
        chosen = protocol.Settings(threads=1, **settings)  # type: ignore[arg-type]
        self.engine = LlamaEngine(path, chosen, clock=self.clock)
        self.replies: list[protocol.Reply] = []

    def submit(self, key: int, text: str, **request: object) -> None:
        extra = {
            name: request.pop(name)
            for name in ("timeout_s", "priority", "isolation", "state", "keep_state")
            if name in request
        }
        messages = request.pop("turns", [Message("user", text)])
        generate = Generate(messages=messages, **request)  # type: ignore[arg-type]
        command = protocol.Submit(id=key, request=generate, **extra)  # type: ignore[arg-type]
        self.engine.handle(command, self.replies.append)

    def cancel(self, key: int) -> None:
        self.engine.handle(protocol.Cancel(id=key), self.replies.append)

    def step(self) -> bool:
        return self.engine.step(self.replies.append)

    def run(self) -> None:
        for _ in range(5_000):
            if not self.step():
                return
        raise AssertionError("the engine does not come to rest")

    def events(self, key: int) -> list[Delta | Done]:
        outputs = [r for r in self.replies if isinstance(r, protocol.Output) and r.id == key]
        return [event for output in outputs for event in output.events]

    def done(self, key: int) -> Done:
        last = self.events(key)[-1]
        assert isinstance(last, Done)
        return last

    def failure(self, key: int) -> protocol.Failed:
        (only,) = [r for r in self.replies if isinstance(r, protocol.Failed) and r.id == key]
        return only


Drive = Callable[..., Driven]
