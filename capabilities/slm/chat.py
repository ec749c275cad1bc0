"""A conversation as one prompt, by the Jinja template that the model's file carries.

The template is data from a file, so it runs in Jinja's immutable sandbox. The turns are data
from anybody, so control tokens written in them are broken up first: no text can end its own
turn or begin another's (law 3).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from capabilities.messages import Message
from capabilities.slm.errors import BadRequest, Unsupported
from capabilities.slm.tools import arguments_of

if TYPE_CHECKING:
    from jinja2 import Template

MAX_PROMPT_CHARS = 1024 * 1024  # a template that multiplies its input stops here
# Many templates write the role into the prompt as it is: only these words may get there.
_TOOLS = re.compile(r"\{[%{][^%}]*\btools\b")
ROLES = ("system", "user", "assistant", "tool")


class Defuser:
    """Breaks up control tokens in text by a space after their first character."""

    def __init__(self, control: Iterable[str]) -> None:
        # The longest first, so that <|end|> is not cut short by a token <|en.
        names = sorted({text for text in control if len(text) > 1}, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, names))) if names else None

    def __call__(self, text: str) -> str:
        """The text with no control token left in it."""
        pattern = self._pattern
        while pattern is not None and pattern.search(text):
            text = pattern.sub(lambda found: found[0][0] + " " + found[0][1:], text)
        return text


class ChatPrompt:
    """Renders conversations for one model."""

    def __init__(self, template: str, *, bos: str, eos: str, control: Iterable[str]) -> None:
        self._source = template
        self._compiled: Template | None = None
        self._bos = bos
        self._eos = eos
        self._defuse = Defuser(control)

    def render(
        self, messages: Sequence[Message], tools: Sequence[Mapping[str, object]] = ()
    ) -> str:
        """The prompt, ready for the assistant's turn; raises BadRequest or Unsupported.

        ``tools`` as :func:`capabilities.slm.tools.for_template` makes them.
        """
        if not messages:
            raise BadRequest("a request without messages", hint="send at least one user message")
        strange = [m.role for m in messages if m.role not in ROLES]
        if strange:
            raise BadRequest(f"an unknown role {strange[0][:40]!r}", hint=f"use {', '.join(ROLES)}")
        if tools and not _TOOLS.search(self._source):
            raise Unsupported("this model's chat template knows no tools")
        turns = [self._turn(message) for message in messages]
        if not self._source:
            return _plain(turns)
        from jinja2 import TemplateError

        try:
            if self._compiled is None:
                self._compiled = _environment().from_string(self._source)
            text = self._compiled.render(
                messages=turns,
                **({"tools": self._clean(list(tools))} if tools else {}),
                add_generation_prompt=True,
                bos_token=self._bos,
                eos_token=self._eos,
                raise_exception=_refuse,
                strftime_now=lambda form: datetime.now().astimezone().strftime(form),
            )
        except (TemplateError, ArithmeticError, LookupError, TypeError, ValueError) as error:
            raise BadRequest(f"the model's chat template refuses this: {error}") from error
        if len(text) > MAX_PROMPT_CHARS:
            raise BadRequest(f"the prompt has {len(text)} characters", hint="shorten it")
        return text

    def _turn(self, message: Message) -> dict[str, Any]:
        turn: dict[str, Any] = {"role": message.role, "content": self._defuse(message.content)}
        if message.tool_calls:
            turn["tool_calls"] = [
                {
                    "type": "function",
                    "function": {
                        "name": self._defuse(call.name),
                        "arguments": self._clean(arguments_of(call)),
                    },
                }
                for call in message.tool_calls
            ]
        return turn

    def _clean(self, value: Any) -> Any:
        """Text within tools forges no control token either."""
        if isinstance(value, str):
            return self._defuse(value)
        if isinstance(value, Mapping):
            return {self._defuse(str(key)): self._clean(one) for key, one in value.items()}
        return [self._clean(one) for one in value] if isinstance(value, list) else value


def _plain(turns: list[dict[str, Any]]) -> str:
    """For a model without a template: it continues a text."""
    if len(turns) == 1:
        return str(turns[0]["content"])
    return "".join(f"{turn['role']}: {turn['content']}\n" for turn in turns) + "assistant:"


def _environment() -> Any:
    from jinja2.ext import Extension, loopcontrols
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Generation(Extension):
        """``{% generation %}`` marks what a trainer learns from; a prompt passes it through."""

        tags = {"generation"}  # noqa: RUF012 - as Jinja declares it

        def parse(self, parser: Any) -> Any:
            next(parser.stream)
            return parser.parse_statements(("name:endgeneration",), drop_needle=True)

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols, Generation]
    )
    environment.filters["tojson"] = _to_json
    return environment


def _to_json(value: object, indent: int | None = None) -> str:
    return json.dumps(value, ensure_ascii=False, indent=indent)


def _refuse(reason: object) -> None:
    from jinja2 import TemplateError

    raise TemplateError(str(reason))
