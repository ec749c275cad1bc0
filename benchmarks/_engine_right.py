"""What is right or wrong of the engine, and what its parts cost, in one process."""

from __future__ import annotations

import json
import random
import statistics
import time
from pathlib import Path
from typing import Any

from benchmarks._engine_setup import CONTEXT, Setup, prompt_of
from benchmarks._report import progress
from capabilities.messages import Delta, Done, Generate, Message
from capabilities.slm import evidence, llama, protocol
from capabilities.slm.embedded import embedded_path
from capabilities.slm.llama_engine import LlamaEngine
from capabilities.slm.protocol import Settings

TIE = 0.001  # logits: nearer than this, which token is best is not the engine's doing


class Driven:
    """The engine in this process, step by step."""

    def __init__(self, setup: Setup, path: Path, **settings: Any) -> None:
        llama.start(lambda _level, _text: None)
        self.setup = setup
        self.engine = LlamaEngine(
            path, Settings(threads=1, use_extra_bufts=setup.repacked, **settings)
        )
        self.replies: dict[int, list[Any]] = {}
        self.keys = 0

    def ask(self, text: str, *, isolation: str = "", **request: Any) -> int:
        """Submit; the key of the request."""
        self.keys += 1
        generate = Generate(messages=[Message("user", text)], **request)
        command = protocol.Submit(id=self.keys, request=generate, isolation=isolation)
        self.engine.handle(command, self.take)
        return self.keys

    def take(self, reply: Any) -> None:
        """Keep a reply by its request."""
        self.replies.setdefault(reply.id, []).append(reply)

    def run(self) -> None:
        """Until all requests are answered; raises TimeoutError when the part took too long."""
        while self.engine.step(self.take):
            self.setup.check()

    def done(self, key: int) -> Done | None:
        """The end of an answer, nothing if it failed."""
        last = self.replies[key][-1]
        return last.events[-1] if isinstance(last, protocol.Output) else None

    def logprobs(self, key: int) -> list[Any]:
        """All tokens of an answer with their alternatives."""
        events = [e for r in self.replies[key] for e in getattr(r, "events", [])]
        return [one for e in events if isinstance(e, Delta) for one in e.logprobs]


def batch_equals_solo(setup: Setup) -> dict[str, Any]:
    """Greedy answers of eight streams together against each alone, on the arithmetic model."""
    rng = random.Random(setup.seed)
    asked = [f"What is {rng.randint(10, 99)} * {rng.randint(10, 99)}?" for _ in range(8)]
    together = Driven(setup, embedded_path("arithmetic"), slots=8, prefix_tokens=0)
    keys = [together.ask(text, max_tokens=96, logprobs=2) for text in asked]
    together.run()
    identical = ties = 0
    largest = 0.0
    for key, text in zip(keys, asked, strict=True):
        alone = Driven(setup, embedded_path("arithmetic"), slots=1, prefix_tokens=0)
        single = alone.ask(text, max_tokens=96, logprobs=2)
        alone.run()
        pairs = list(zip(alone.logprobs(single), together.logprobs(key), strict=False))
        apart = next((p for p in pairs if p[0].token != p[1].token), None)
        if apart is None:
            identical += 1
        else:
            gap = apart[0].top[0][1] - apart[0].top[1][1]
            largest = max(largest, gap)
            ties += gap < TIE
        alone.engine.close()
    together.engine.close()
    return {
        "streams": len(asked),
        "identical": identical,
        "ties": ties,
        "different": len(asked) - identical - ties,
        "largest_gap": round(largest, 4),
        "rule": (
            f"a tie is a gap below {TIE} between the two best logits. With Q8_0 weights the "
            "activations are rounded too, so logits of a batch differ from those alone by up to "
            "0.12; an answer that turns within that is counted as different, not as a tie"
        ),
    }


def leaks(setup: Setup) -> dict[str, int]:
    """Canaries in everybody else's prompts, the cache full; tokens that crossed a label."""
    it = Driven(
        setup, embedded_path("arithmetic"), slots=4, context_tokens=2048, prefix_tokens=1024
    )
    rng = random.Random(setup.seed)
    tries, found, shared = 50 if setup.quick else 1000, 0, 0
    for number in range(tries):
        secret = str(rng.randint(10**11, 10**12))
        it.ask(
            f"My secret number is {secret}. What is 2 + 2?", isolation=f"a{number}", max_tokens=4
        )
        other = it.ask("My secret number is", isolation=f"b{number}", max_tokens=24)
        it.run()
        done = it.done(other)
        assert done is not None
        found += secret in done.text
        shared += done.usage.cached_tokens
        it.replies.clear()
    it.engine.close()
    return {"tries": tries, "canaries": found, "shared_tokens": shared}


def overfull(setup: Setup) -> int:
    it = Driven(setup, embedded_path("arithmetic"), slots=4)
    keys = [it.ask("What is 12 + 30?", max_tokens=40) for _ in range(3)]
    it.engine.step(it.take)
    keys.append(it.ask("7 + " * 2000, max_tokens=40))
    it.run()
    killed = sum(it.done(key) is None for key in keys)
    it.engine.close()
    return killed


def cancel_steps(setup: Setup) -> dict[str, int]:
    """Steps until the slot is free, cancelled in its prompt and while it answers."""
    it = Driven(setup, embedded_path("arithmetic"), slots=1, batch_tokens=16, prefill_chunk=8)
    steps = {}
    for phase, before in (("prefill", 1), ("decode", 12)):
        key = it.ask("What is 12 + 30? " * 4, max_tokens=100, isolation=phase)
        for _ in range(before):
            it.engine.step(it.take)
        it.engine.handle(protocol.Cancel(id=key), it.take)
        count = 0
        while it.engine.load[1]:
            it.engine.step(it.take)
            count += 1
        steps[phase] = count
    it.engine.close()
    return steps


def prefix_hit(path: Path, setup: Setup) -> dict[str, float]:
    """A long assistant prompt whose clock line at the end changes."""
    size = 400 if setup.quick else 3000
    rng = random.Random(setup.seed)
    system = prompt_of(rng, size - 80)
    it = Driven(setup, path, slots=1, context_tokens=CONTEXT, prefix_tokens=CONTEXT // 2 + 1400)
    spent = []
    for minute in range(3):
        key = it.ask(f"{system} It is 10:3{minute}. Hello.", max_tokens=1, isolation="me")
        it.run()
        done = it.done(key)
        assert done is not None
        spent.append(done.usage.first_token_s)
    it.engine.close()
    return {
        "share": round(done.usage.cached_tokens / done.usage.prompt_tokens, 4),
        "prompt_tokens": done.usage.prompt_tokens,
        "ttft_without_s": round(spent[0], 3),
        "ttft_with_s": round(statistics.median(spent[1:]), 3),
    }


def _word(most: int) -> dict[str, Any]:
    return {"type": "string", "minLength": 1, "maxLength": most}


def _object(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties)[:1]}


SCHEMAS: list[Any] = [
    {"type": "boolean"},
    {"type": ["integer", "null"], "minimum": 0, "maximum": 100},
    {"type": "number", "minimum": -40, "exclusiveMaximum": 85.5},
    {"type": "integer", "exclusiveMinimum": 1899, "exclusiveMaximum": 2101},
    _word(12),
    {"enum": ["red", "green", 'blue "sky"', "naïve", 7, None]},
    {"const": {"answer": [42, None, True]}},
    {"type": "string", "format": "date"},
    {"type": "string", "format": "date-time"},
    {"type": "string", "format": "uuid"},
    {"type": "array", "items": {"type": "boolean"}, "minItems": 2, "maxItems": 4},
    {"type": "array", "prefixItems": [_word(3), {"type": "integer"}], "minItems": 2},
    _object(x={"type": "number"}, y={"type": "number"}),
    _object(level={"enum": ["low", "high"]}, note=_word(8)),
    _object(name=_word(6), tags={"type": "array", "items": _word(4), "maxItems": 3}),
    _object(a=_object(b=_object(c={"type": "null"}))),
    {"anyOf": [{"type": "integer", "minimum": 3}, _word(5)]},
    {
        "oneOf": [
            {"type": "object", "properties": {"k": {"const": k}}, "required": ["k"]}
            for k in ("dot", "ring")
        ]
    },
    {"$ref": "#/$defs/p", "$defs": {"p": _object(city=_word(9), zip={"type": "integer"})}},
    {"type": "object", "properties": {}, "additionalProperties": False},
    {"type": "string", "pattern": r"^[A-Z]{2}-\d{3,5}(/[a-f]+)?$"},
    {"type": "string", "format": "email"},
    {"type": "integer", "multipleOf": 7, "minimum": -50, "maximum": 5000},
    {
        "type": "array",
        "items": {"enum": ["mon", "tue", "wed", "thu", "fri"]},
        "uniqueItems": True,
        "minItems": 2,
    },
    {
        "allOf": [
            {"$ref": "#/$defs/named"},
            {"properties": {"size": {"type": "integer", "minimum": 3}}, "required": ["size"]},
        ],
        "$defs": {"named": _object(name=_word(5), size={"maximum": 9})},
    },
]


def schema_valid(setup: Setup) -> dict[str, int]:
    """Answers of the arithmetic model, which knows no JSON, held to all schemas."""
    import jsonschema

    it = Driven(setup, embedded_path("arithmetic"), slots=8, context_tokens=4096)
    each = 3 if setup.quick else 500 // len(SCHEMAS)
    asked = []
    for number in range(each):
        for schema in SCHEMAS:
            key = it.ask(
                "What is 12 + 30?",
                max_tokens=400,
                json_schema=json.dumps(schema),
                temperature=1.2 if number else 0.0,
                seed=number,
            )
            asked.append((key, schema))
        it.run()
    valid = 0
    for key, schema in asked:
        done = it.done(key)
        try:
            assert done is not None
            jsonschema.validate(json.loads(done.text), schema)
            valid += 1
        except (ValueError, AssertionError, jsonschema.ValidationError) as error:
            progress(f"not valid: {schema} {done and done.text!r} {error}")
    it.engine.close()
    return {"asked": len(asked), "valid": valid}


def evidence_overhead(path: Path, setup: Setup) -> float:
    """The time that measuring a step's rows takes, to the rest of the step, four streams."""
    it = Driven(setup, path, slots=4, context_tokens=1024, prefix_tokens=0)
    for number in range(4):
        it.ask(f"question {number}", max_tokens=12)
    for _ in range(4):
        it.engine.step(it.take)
    rows = it.engine._context.logits(4).copy()
    whole, mine = [], []
    for _ in range(6):
        begin = time.thread_time()
        it.engine.step(it.take)
        whole.append(time.thread_time() - begin)
        begin = time.thread_time()
        evidence.measure(rows, shift=0.0)
        mine.append(time.thread_time() - begin)
    it.engine.close()
    step, part = min(whole), min(mine)
    return round(part / (step - part), 4)
