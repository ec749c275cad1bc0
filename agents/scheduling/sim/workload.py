"""What is asked and who could serve it: the article's hour, and real arrival traces."""

from __future__ import annotations

import csv
import json
import random
from collections.abc import Iterable, Sequence
from datetime import datetime

import msgspec

from mesh.core.errors import ConfigError

SIZES = (50, 100, 200, 300, 500)  # tokens, as the article lists them
# The article says "weighted toward small" and no more; these are ours.
SIZE_WEIGHTS = (0.35, 0.30, 0.20, 0.10, 0.05)
HOUR_S = 3600.0
PERIOD_S = 300.0  # a surge ends every five minutes
SURGE_S = 60.0
# The reference point: the middle of the sweep in which load-aware halves random's cost.
BASE_PER_S = 1.5
BURST_PER_S = 5.0
SWEEP = ((1.0, 3.0), (1.0, 5.0), (1.5, 5.0), (2.0, 6.0), (1.0, 8.0))
GPT4_INPUT = 30.0  # dollars for a million tokens, list price of gpt-4 with 8k context
GPT4_OUTPUT = 60.0
TRACE_FORMATS = (
    "CSV with TIMESTAMP, ContextTokens, GeneratedTokens, or JSON lines with timestamp, "
    "input_length, output_length"
)
CALLERS = 8  # every node of the mesh asks for its own users


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """A simulated board: a steady rate per slot. ``claims`` is the rate that it advertises, 0
    for the true one. ``prompt_tokens_per_s`` 0: reading a prompt takes no time."""

    name: str
    tokens_per_s: float
    slots: int
    prompt_tokens_per_s: float = 0.0
    claims: float = 0.0
    cache_blocks: int = 0  # blocks of prompts that it keeps

    def service_s(self, prompt: int, answer: int) -> float:
        """Seconds that a request holds a slot."""
        read = prompt / self.prompt_tokens_per_s if self.prompt_tokens_per_s else 0.0
        return read + answer / self.tokens_per_s


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """One request of the load; ``prefix`` are hashes of the blocks of its prompt."""

    at: float
    prompt: int
    answer: int
    caller: int = 0
    prefix: tuple[int, ...] = ()


class Prices(msgspec.Struct, frozen=True, kw_only=True):
    """Of the cloud, in dollars per million tokens."""

    input: float = GPT4_INPUT
    output: float = GPT4_OUTPUT

    def cost(self, prompt: int, answer: int) -> float:
        """Dollars."""
        return (prompt * self.input + answer * self.output) / 1e6


def jetsons(*, prompts: bool = False) -> list[Machine]:
    """The article's eight devices; it does not state their split, rates or limits, these are
    requirement 1.8's. ``prompts``: reading a prompt takes time as well, which the article's
    rates leave out; ten times as fast as writing, the low end of what boards do."""
    kinds = (("agx", 3, 30.0, 4), ("nano", 5, 12.0, 2))
    return [
        Machine(
            name=f"{kind}{number}",
            tokens_per_s=rate,
            slots=slots,
            # With four at once a board still reads one prompt after another at its full rate.
            prompt_tokens_per_s=rate * slots * 10 if prompts else 0.0,
            cache_blocks=64 if prompts else 0,
        )
        for kind, count, rate, slots in kinds
        for number in range(count)
    ]


def capacity(machines: Iterable[Machine]) -> float:
    """Tokens per second with every slot busy."""
    return sum(machine.tokens_per_s * machine.slots for machine in machines)


def article_hour(
    rng: random.Random,
    base: float = BASE_PER_S,
    burst: float = BURST_PER_S,
    seconds: float = HOUR_S,
) -> list[Request]:
    """Bursty Poisson arrivals: ``burst`` per second in the last minute of every five.

    The article gives a request one size; it stands for the prompt's length as well as the
    answer's, so that a figure relative to another does not depend on the prices.
    """
    requests: list[Request] = []
    now = 0.0
    while True:
        # Thinning (Lewis and Shedler 1979): draw at the highest rate, keep in proportion.
        now += rng.expovariate(max(base, burst))
        if now >= seconds:
            return requests
        rate = burst if now % PERIOD_S >= PERIOD_S - SURGE_S else base
        if rng.random() * max(base, burst) < rate:
            size = rng.choices(SIZES, SIZE_WEIGHTS)[0]
            caller = rng.randrange(CALLERS)
            requests.append(Request(at=now, prompt=size, answer=size, caller=caller))


def parse_trace(text: str) -> list[Request]:
    """The requests of a trace: Azure's CSV or Mooncake's JSON lines; raises ConfigError."""
    head = text.lstrip()[:1]
    try:
        requests = _mooncake(text) if head == "{" else _azure(text)
    except (ValueError, KeyError, TypeError, msgspec.MsgspecError) as error:
        raise ConfigError(
            f"the trace cannot be read: {error}",
            hint=TRACE_FORMATS,
        ) from error
    if not requests:
        raise ConfigError("the trace holds no request", hint=TRACE_FORMATS)
    return sorted(requests, key=lambda request: request.at)


def _azure(text: str) -> list[Request]:
    rows = list(csv.DictReader(text.splitlines()))
    requests = []
    first: datetime | None = None
    for number, row in enumerate(rows):
        stamp = datetime.fromisoformat(row["TIMESTAMP"][:26])
        first = first or stamp
        requests.append(
            Request(
                at=(stamp - first).total_seconds(),
                prompt=_length(row["ContextTokens"]),
                answer=max(1, _length(row["GeneratedTokens"])),
                caller=number % CALLERS,
            )
        )
    return requests


def _mooncake(text: str) -> list[Request]:
    requests = []
    for number, line in enumerate(text.splitlines()):
        if not line.strip():
            continue
        row = json.loads(line)
        requests.append(
            Request(
                at=float(row["timestamp"]) / 1000,
                prompt=_length(row["input_length"]),
                answer=max(1, _length(row["output_length"])),
                caller=number % CALLERS,
                prefix=tuple(int(block) for block in row.get("hash_ids", ())),
            )
        )
    return requests


def _length(value: object) -> int:
    length = int(str(value))
    if length < 0:
        raise ValueError(f"a length of {length} tokens")
    return length


def fit_trace(
    requests: Sequence[Request],
    machines: Sequence[Machine],
    rng: random.Random,
    *,
    load: float,
    context: int,
) -> list[Request]:
    """Thin a trace to the mesh: without prompts above ``context`` tokens, and each of the others
    kept by chance, so that the work is ``load`` of what the machines can do in that time.

    Times stay as they were, so bursts stay bursts; a trace that asks for less is kept whole.
    """
    fit = [request for request in requests if request.prompt + request.answer <= context]
    if not fit:
        raise ConfigError(f"no request of the trace fits {context} tokens of context")
    span_s = max(fit[-1].at - fit[0].at, 1.0)
    slots = sum(machine.slots for machine in machines)
    # A slot's share of the work goes by its rate: seconds of an average slot per request.
    rate = capacity(machines) / slots
    reads = [m for m in machines if m.prompt_tokens_per_s]
    reading = sum(m.prompt_tokens_per_s * m.slots for m in reads) / slots if reads else 0.0
    work_s = sum(r.answer / rate + (r.prompt / reading if reading else 0.0) for r in fit)
    keep = min(1.0, load * slots * span_s / max(work_s, 1e-9))
    return [request for request in fit if rng.random() < keep]
