"""One request on its way: from a sampled token to the events that its asker sees."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from capabilities.messages import Done, Event, TokenLogprob, Usage
from capabilities.slm import protocol
from capabilities.slm.batching import Job, Share
from capabilities.slm.errors import BadRequest
from capabilities.slm.evidence import Rows, Tally
from capabilities.slm.llama import Vocab
from capabilities.slm.output import TextStream
from capabilities.slm.prefixes import Hold
from capabilities.slm.sampling import Sampler
from capabilities.slm.tools import ToolStream

THINKING = (("<|think|>", "<|/think|>"), ("<think>", "</think>"))


@dataclass(frozen=True, slots=True)
class Markers:
    """The tokens that open and close a span of thinking."""

    opens: frozenset[int]
    closes: frozenset[int]

    @classmethod
    def of(cls, vocab: Vocab) -> Markers:
        """Those that this vocabulary has as one token each."""
        pairs = [(vocab.find(begin), vocab.find(end)) for begin, end in THINKING]
        known = [pair for pair in pairs if -1 not in pair]
        return cls(frozenset(p[0] for p in known), frozenset(p[1] for p in known))

    @property
    def all(self) -> frozenset[int]:
        """Both kinds."""
        return self.opens | self.closes

    def thinking_after(self, prompt: Sequence[int]) -> bool:
        """Whether a prompt ends within a span."""
        marks = [token for token in prompt if token in self.all]
        return bool(marks) and marks[-1] in self.opens


@dataclass(slots=True)
class Run:
    """A request that the engine has taken. ``label`` names whose prefixes it may use."""

    submit: protocol.Submit
    job: Job
    prompt: list[int]
    sampler: Sampler
    text: TextStream
    arrived: float
    label: str
    adapters: tuple[tuple[str, float], ...] = ()
    tools: ToolStream | None = None
    hold: Hold | None = None
    first: float = 0.0
    cached: int = 0
    sampled: list[int] = field(default_factory=list)
    tally: Tally = field(default_factory=Tally)
    working: Tally = field(default_factory=Tally)  # of the scratchpad

    def tokens(self, share: Share) -> Sequence[int]:
        """The tokens of a share: a piece of the prompt, or what was sampled last."""
        if self.job.generating:
            return self.sampled[-1:]
        return self.prompt[share.position : share.position + share.count]

    def computed(self) -> list[int]:
        """The tokens whose state is in the context."""
        return [*self.prompt, *self.sampled][: self.job.position]

    def take(
        self, token: int, rows: Rows, row: int, vocab: Vocab, markers: Markers
    ) -> tuple[list[Event], str]:
        """The events of a sampled token, and why the answer ends with it, or nothing."""
        self.sampled.append(token)
        events: list[Event] = []
        finish = ""
        if vocab.ends(token):
            finish = "stop"
        elif token in markers.all:
            events += self.text.mark(thinking=token in markers.opens)
        else:
            tally = self.working if self.text.thinking else self.tally
            tally.add(rows, row, token)
            wanted = self.submit.request.logprobs
            logprob = _logprob(rows, row, token, wanted, vocab) if wanted else None
            events += self.text.push(vocab.piece(token), logprob)
            if self.text.stopped:
                finish = "stop"
        if not finish and len(self.sampled) >= self.job.answer:
            finish = "length"
        return self._visible(events), finish

    def finish(self, why: str, model: str, clock: Callable[[], float]) -> list[Event]:
        """The last events of the answer."""
        events = self._visible([*self.text.flush()])
        text, calls = self.text.text, []
        if self.tools is not None:
            events += self.tools.flush()
            text, calls = self.tools.text, self.tools.calls()
        usage = Usage(
            prompt_tokens=len(self.prompt),
            cached_tokens=self.cached,
            completion_tokens=len(self.sampled),
            first_token_s=self.first - self.arrived,
            total_s=clock() - self.arrived,
        )
        done = Done(
            text=text,
            finish="tool_calls" if calls and why == "stop" else why,
            model=model,
            usage=usage,
            evidence=self.tally.evidence(self.working),
            tool_calls=calls,
        )
        return [*events, done]

    def _visible(self, events: list[Event]) -> list[Event]:
        return self.tools.filter(events) if self.tools is not None else events


def _logprob(rows: Rows, row: int, token: int, wanted: int, vocab: Vocab) -> TokenLogprob:
    def text(one: int) -> str:
        return vocab.piece(one).decode("utf-8", "replace")

    best = [int(one) for one in rows.best[row, :wanted]]
    top = [(text(one), rows.logprob(row, one)) for one in best]
    return TokenLogprob(text(token), rows.logprob(row, token), top)


def spelled(command: protocol.Spell, vocab: Vocab, markers: Markers) -> protocol.Spelled:
    """How tokens are written, and what each does to an answer; raises BadRequest."""
    if not all(0 <= token < vocab.size for token in command.tokens):
        raise BadRequest("a token that is not of this model's vocabulary")
    marks = dict.fromkeys(markers.opens, "think") | dict.fromkeys(markers.closes, "answer")
    return protocol.Spelled(
        id=command.id,
        pieces=[vocab.piece(token) for token in command.tokens],
        kinds=[
            "end" if vocab.ends(token) else marks.get(token, "text") for token in command.tokens
        ],
    )
