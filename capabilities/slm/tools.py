"""Tool calls in a model's text, kept apart from what a person reads; pure.

Two ways of writing them are known: ``<tool_call>{"name": …, "arguments": {…}}</tool_call>``
(Hermes, Qwen and their kin) and an answer that is one JSON object with ``name`` and
``arguments`` or ``parameters`` (Llama 3). A call is what the model wishes; whoever asked
decides whether anything is done (law 3).
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from capabilities.messages import Delta, Event, Tool, ToolCall
from capabilities.slm.errors import BadRequest
from capabilities.slm.output import held_back

MAX_TOOLS = 64  # each is text of the prompt
MAX_PARAMETERS_CHARS = 16 * 1024
MAX_CALLS = 32  # of one answer; a model that repeats itself stops counting here
OPEN, CLOSE = "<tool_call>", "</tool_call>"
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_CALL = re.compile(re.escape(OPEN) + r"(.*?)(?:" + re.escape(CLOSE) + r"|\Z)", re.DOTALL)


def for_template(tools: Sequence[Tool]) -> list[dict[str, object]]:
    """Tools as chat templates expect them; raises BadRequest."""
    if len(tools) > MAX_TOOLS:
        raise BadRequest(f"{len(tools)} tools; a request may bring {MAX_TOOLS}")
    made: list[dict[str, object]] = []
    for tool in tools:
        if not _NAME.fullmatch(tool.name):
            raise BadRequest(
                f"a tool is called {tool.name[:80]!r}",
                hint="use 1 to 64 letters, digits, '_', '.' and '-'",
            )
        if len(tool.parameters) > MAX_PARAMETERS_CHARS:
            raise BadRequest(f"the parameters of tool {tool.name} are too long", hint="shorten")
        try:
            parameters = json.loads(tool.parameters)
        except (ValueError, RecursionError) as error:
            raise BadRequest(f"the parameters of tool {tool.name} are no JSON: {error}") from None
        if not isinstance(parameters, dict):
            raise BadRequest(f"the parameters of tool {tool.name} are no JSON schema object")
        function = {"name": tool.name, "description": tool.description, "parameters": parameters}
        made.append({"type": "function", "function": function})
    return made


def arguments_of(call: ToolCall) -> dict[str, Any]:
    """The arguments of a call that stands in a conversation; raises BadRequest."""
    try:
        arguments = json.loads(call.arguments)
    except (ValueError, RecursionError):
        arguments = None
    if not isinstance(arguments, dict) or not _NAME.fullmatch(call.name):
        raise BadRequest(f"a call of tool {call.name[:80]!r} has arguments that are no JSON object")
    return arguments


@dataclass(slots=True)
class ToolStream:
    """Takes the calls out of a stream of visible text. ``names``: the tools that were offered."""

    names: frozenset[str]
    _seen: list[str] = field(default_factory=list)  # visible text that was passed on
    _pending: str = ""
    _withheld: str = ""  # from the first sign of a call on
    _start: bool = True

    @property
    def text(self) -> str:
        """What was passed on."""
        return "".join(self._seen)

    def filter(self, events: list[Event]) -> list[Event]:
        """The events with the text of calls taken out."""
        passed: list[Event] = []
        for event in events:
            if isinstance(event, Delta) and not event.thinking:
                text = self._push(event.text)
                if text:
                    delta = Delta(text=text, tokens=event.tokens, logprobs=event.logprobs)
                    passed.append(delta)
            else:
                passed.append(event)
        return passed

    def flush(self) -> list[Event]:
        """The answer is over: what turned out to be no call is text after all."""
        rest, self._pending = self._pending, ""
        if self._withheld and not self.calls():
            rest, self._withheld = self._withheld + rest, ""
        if not rest:
            return []
        self._seen.append(rest)
        return [Delta(text=rest)]

    def calls(self) -> list[ToolCall]:
        """The calls of offered tools, in order."""
        bodies = _CALL.findall(self._withheld) or [self._withheld]
        found = [call for body in bodies[:MAX_CALLS] if (call := _parse(body))]
        return [call for call in found if call.name in self.names]

    def _push(self, text: str) -> str:
        if self._withheld:
            self._withheld += text
            return ""
        self._pending += text
        if self._start:
            begun = self._pending.lstrip()
            if not begun:
                return ""
            self._start = False
            if begun.startswith("{"):  # perhaps the whole answer is one call
                self._withheld, self._pending = self._pending, ""
                return ""
        at = self._pending.find(OPEN)
        if at >= 0:
            self._withheld, size = self._pending[at:], at
            passed, self._pending = self._pending[:size], ""
        else:
            size = len(self._pending) - held_back(self._pending, [OPEN])
            passed, self._pending = self._pending[:size], self._pending[size:]
        self._seen.append(passed)
        return passed


def _parse(body: str) -> ToolCall | None:
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return None
    if not isinstance(value, dict) or not isinstance(value.get("name"), str):
        return None
    arguments = value.get("arguments", value.get("parameters"))
    if not isinstance(arguments, dict):
        return None
    return ToolCall(name=value["name"], arguments=json.dumps(arguments, ensure_ascii=False))
