"""A conversation as token ids: what the model is trained on, and the same rule as a Jinja template.

`<|system|>...<|end|><|user|>...<|end|><|assistant|><|think|>scratchpad<|/think|>answer<|end|>`.
The system turn and the scratchpad are optional.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from capabilities.slm.training.tokenizer import (
    ASSISTANT,
    END,
    SYSTEM,
    THINK,
    THINK_END,
    USER,
    special_id,
)

if TYPE_CHECKING:
    from tokenizers import Tokenizer

# An earlier answer's scratchpad is cut from the history: it is long, and it is nobody's business.
CHAT_TEMPLATE = (
    "{%- for message in messages -%}"
    "{%- if message['role'] == 'assistant' -%}"
    "{{- '<|assistant|>' + (message['content'].split('<|/think|>')[-1] | trim) + '<|end|>' -}}"
    "{%- elif message['role'] == 'system' -%}"
    "{{- '<|system|>' + (message['content'] | trim) + '<|end|>' -}}"
    "{%- else -%}"
    "{{- '<|user|>' + (message['content'] | trim) + '<|end|>' -}}"
    "{%- endif -%}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|assistant|>' -}}{%- endif -%}"
)


@dataclass(frozen=True)
class Example:
    """One question with its answer; `category` is what the evaluation counts by."""

    question: str
    answer: str
    scratchpad: str = ""
    system: str = ""
    category: str = ""
    # Asked in a wording that is never trained on.
    new_wording: bool = False
    # All wordings that are right, `answer` among them; empty when there is only `answer`.
    alternatives: tuple[str, ...] = ()
    # Train on only so many tokens of the reply; 0 is all. Practises a beginning at less cost.
    reply_limit: int = 0
    # Earlier turns as (question, answer).
    history: tuple[tuple[str, str], ...] = ()
    # Further questions whose prompts begin as this one's does, say of the same text: trained in one
    # row with it, which reads the beginning once.
    siblings: tuple[Example, ...] = ()


def prompt_ids(tokenizer: Tokenizer, example: Example) -> list[int]:
    """Token ids up to and including `<|assistant|>`."""

    def turn(role: str, text: str) -> list[int]:
        return [special_id(role), *_text_ids(tokenizer, text), special_id(END)]

    ids = turn(SYSTEM, example.system) if example.system else []
    for question, answer in example.history:
        ids += turn(USER, question) + turn(ASSISTANT, answer)
    return [*ids, *turn(USER, example.question), special_id(ASSISTANT)]


def reply_ids(tokenizer: Tokenizer, example: Example) -> list[int]:
    """Token ids of what the model should write, ending with `<|end|>` unless it is cut short."""
    ids: list[int] = []
    if example.scratchpad:
        scratchpad = _text_ids(tokenizer, example.scratchpad)
        ids = [special_id(THINK), *scratchpad, special_id(THINK_END)]
    ids = [*ids, *_text_ids(tokenizer, example.answer), special_id(END)]
    return ids[: example.reply_limit or len(ids)]


def _text_ids(tokenizer: Tokenizer, text: str) -> list[int]:
    ids: list[int] = tokenizer.encode(text, add_special_tokens=False).ids
    return ids
