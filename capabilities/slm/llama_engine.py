"""Runs one GGUF model for many requests at once.

Continuous batching over one llama context: each step computes one token of every generating
request and pieces of the prompts of those that have just joined (:mod:`.batching` decides).
Requests join and leave between any two steps. A request that fails, fails alone.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from capabilities.messages import Done, Event, Generate, TokenLogprob, Usage
from capabilities.slm import header, llama, protocol
from capabilities.slm.batching import NO_SLOT, Batcher, Job, Share
from capabilities.slm.chat import ChatPrompt
from capabilities.slm.embedder import Embedder
from capabilities.slm.engine import Emit, check, internal
from capabilities.slm.errors import BadRequest, ContextFull, Unsupported
from capabilities.slm.evidence import Rows, Tally, calibrate, measure
from capabilities.slm.output import TextStream
from mesh.core.errors import DeadlineExceeded, GossamerError, ModelError
from mesh.core.records import ModelInfo

THINKING = (("<|think|>", "<|/think|>"), ("<think>", "</think>"))
DEFAULT_CONTEXT = 4096
LONGEST_TOKEN_CHARS = 64  # words of text stay far below; only runs of spaces come near
TRIAL_STEPS = 8  # single-token steps that measure the decode rate
TRIAL_S = 1.0  # and the time after which a slow machine has shown enough
TRIAL_TEXT = "The quick brown fox jumps over the lazy dog. 12 + 30 = 42."


@dataclass(slots=True)
class Run:
    """One request on its way."""

    submit: protocol.Submit
    job: Job
    prompt: list[int]
    sampler: llama.Sampler
    text: TextStream
    arrived: float
    first: float = 0.0
    cached: int = 0
    sampled: list[int] = field(default_factory=list)
    tally: Tally = field(default_factory=Tally)

    def tokens(self, share: Share) -> Sequence[int]:
        """The tokens of a share: a piece of the prompt, or what was sampled last."""
        if self.job.generating:
            return self.sampled[-1:]
        return self.prompt[share.position : share.position + share.count]


class LlamaEngine:
    """Runs one GGUF model."""

    def __init__(
        self,
        path: Path,
        settings: protocol.Settings,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        started = clock()
        self._clock = clock
        self._settings = settings
        head = header.read(path)
        self._model = llama.Model(path, use_extra_bufts=settings.use_extra_bufts)
        if self._model.needs_encoder:
            raise Unsupported(f"{path.name} is an encoder-decoder model ({head.arch})")
        trained = self._model.trained_context or DEFAULT_CONTEXT
        self._threads = settings.threads or max(1, cores() - 1)
        batch = max(settings.batch_tokens, settings.slots)
        wanted = settings.context_tokens or min(settings.slots * trained, DEFAULT_CONTEXT)
        shape = llama.ContextShape(
            tokens=wanted,
            batch=min(batch, wanted),
            sequences=settings.slots,
            outputs=settings.slots,
            threads=self._threads,
            flash_attention=settings.flash_attention,
        )
        self._context = llama.Context(self._model, shape)
        self._batch = llama.Batch(shape.batch)
        cells = self._context.tokens
        self._batcher = Batcher(
            slots=settings.slots,
            cells=cells,
            sequence=min(trained, cells),
            batch=shape.batch,
            chunk=settings.prefill_chunk,
            max_waiting=settings.max_waiting,
        )
        self._generates = self._context.has_memory
        self._runs: dict[int, Run] = {}
        self._embedder = Embedder(
            self._model, threads=self._threads, max_waiting=settings.max_waiting
        )
        self._steps = 0
        vocab = self._model.vocab
        self._opens, self._closes = self._markers()
        self._chat = ChatPrompt(
            self._model.chat_template,
            bos=vocab.name(vocab.bos) if vocab.bos >= 0 else "",
            eos=vocab.name(vocab.eos) if vocab.eos >= 0 else "",
            control=[*vocab.controls, *map(vocab.name, self._opens | self._closes)],
        )
        self._info = ModelInfo(
            name=head.text("general.name") or path.stem,
            arch=head.arch,
            parameters=self._model.parameters,
            quantization=self._model.quantization,
            context=min(trained, cells),
            vocab_hash=head.vocab_hash,
            file_sha256=header.file_sha256(path),
            embedding_dim=self._model.width,
        )
        self._shift = 0.0
        prefill, decode = self._trial()
        self._ready = protocol.Ready(
            info=self._info,
            slots=settings.slots,
            context_tokens=cells,
            sequence_tokens=min(trained, cells),
            features=["embed", "tokenize", *(["generate", "state"] if self._generates else [])],
            decode_tokens_per_s=decode,
            prefill_tokens_per_s=prefill,
            load_s=clock() - started,
        )

    def ready(self) -> protocol.Ready:
        """What was loaded, with the rates that the trial measured."""
        return self._ready

    @property
    def load(self) -> tuple[int, int, int]:
        """Steps done, requests running, requests waiting."""
        return self._steps, self._batcher.running, self._batcher.waiting + self._embedder.waiting

    def close(self) -> None:
        """Free all native memory."""
        for run in self._runs.values():
            run.sampler.close()
        self._runs.clear()
        self._embedder.close()
        self._context.close()
        self._model.close()

    # --- commands

    def handle(self, command: protocol.AnyCommand, emit: Emit) -> None:
        """Take a request or a cancellation; what cannot be taken is answered with Failed."""
        if isinstance(command, protocol.Cancel):
            self._cancel(command.id)
            return
        request_id = getattr(command, "id", protocol.LOAD_ID)
        try:
            if isinstance(command, protocol.Submit):
                self._submit(command)
            elif isinstance(command, protocol.Embed):
                self._embedder.submit(command)
            elif isinstance(command, protocol.Tokenize):
                tokens = self._model.vocab.tokenize(command.text, special=command.special)
                emit(protocol.Tokens(id=request_id, tokens=tokens))
            else:
                what = f"this worker does not serve {protocol.describe(command)}"
                emit(protocol.failed(request_id, Unsupported(what)))
        except GossamerError as error:
            emit(protocol.failed(request_id, error))
        except Exception as error:
            emit(protocol.failed(request_id, internal(error)))

    def _submit(self, command: protocol.Submit) -> None:
        request = command.request
        if not self._generates:
            raise Unsupported(f"{self._info.name} is an embedding model and cannot generate")
        check(request)
        if command.id in self._runs:
            raise BadRequest(f"request {command.id} is already running")
        if command.state and command.state.model != self._info.file_sha256:
            raise BadRequest("the sequence state was computed by another model")
        now = self._clock()
        prompt = self._prompt(request)
        marks = [token for token in prompt if token in self._opens or token in self._closes]
        text = TextStream(list(request.stop), thinking=bool(marks) and marks[-1] in self._opens)
        job = self._batcher.submit(
            command.id,
            len(prompt),
            request.max_tokens,
            priority=command.priority,
            deadline=now + command.timeout_s if command.timeout_s > 0 else float("inf"),
        )
        try:
            sampler = llama.Sampler(
                self._model.vocab.size,
                temperature=request.temperature,
                top_k=request.top_k,
                top_p=request.top_p,
                min_p=request.min_p,
                repeat_penalty=request.repeat_penalty,
                seed=request.seed,
            )
        except BaseException:
            self._batcher.leave(command.id)
            raise
        self._runs[command.id] = Run(command, job, prompt, sampler, text, now)

    def _prompt(self, request: Generate) -> list[int]:
        vocab = self._model.vocab
        text = self._chat.render(request.messages)
        room = self._batcher.sequence
        if len(text) > room * LONGEST_TOKEN_CHARS:  # it cannot fit; spare the tokenizer
            raise ContextFull(
                f"the prompt has {len(text)} characters and the context holds {room} tokens",
                hint="shorten the prompt",
            )
        tokens = vocab.tokenize(text, special=True)
        if vocab.adds_bos and tokens[:1] != [vocab.bos]:
            tokens.insert(0, vocab.bos)
        if not tokens:
            raise BadRequest("the prompt is empty", hint="send some text")
        return tokens

    def _cancel(self, request_id: int) -> None:
        self._embedder.cancel(request_id)
        self._end(request_id)

    def _end(self, request_id: int) -> Run | None:
        """Free all that a request holds."""
        slot = self._batcher.leave(request_id)
        if slot != NO_SLOT:
            self._context.forget(slot)
        run = self._runs.pop(request_id, None)
        if run is not None:
            run.sampler.close()
        return run

    def _fail(self, request_id: int, error: GossamerError, emit: Emit) -> None:
        self._end(request_id)
        emit(protocol.failed(request_id, error))

    # --- steps

    def step(self, emit: Emit) -> bool:
        """One decode step of all running requests, or one text to embed."""
        for key in self._batcher.expired(self._clock()):
            run = self._runs[key]
            where = f"after {len(run.sampled)} tokens"
            if run.job.slot == NO_SLOT:
                where = "while it waited for a slot"
            self._fail(key, DeadlineExceeded(f"the deadline passed {where}"), emit)
        for job in self._batcher.join():
            self._restore(self._runs[job.key])
        worked = self._embedder.step(emit)
        shares = self._batcher.plan()
        if not shares:
            return worked
        self._steps += 1
        code = self._decode(shares)
        if code == 0:
            self._collect(shares, emit)
        else:
            self._one_by_one(shares, emit)
        return True

    def _decode(self, shares: Sequence[Share]) -> int:
        self._batch.clear()
        for share in shares:
            self._batch.add(
                self._runs[share.job.key].tokens(share),
                share.position,
                share.job.slot,
                outputs=int(share.samples),
            )
        return self._context.decode(self._batch)

    def _one_by_one(self, shares: Sequence[Share], emit: Emit) -> None:
        """The step failed as a whole: repeat it request by request, and only the guilty fail."""
        for share in shares:
            # A failed step may leave a part of its tokens behind.
            clean = self._context.forget(share.job.slot, share.position)
            code = self._decode([share]) if clean else -1
            if code == 0:
                self._collect([share], emit)
            elif code == llama.NO_ROOM:
                full = ContextFull("the context is full", hint="ask again, or raise context_tokens")
                self._fail(share.job.key, full, emit)
            else:
                broken = ModelError(f"llama.cpp could not compute this request (code {code})")
                self._fail(share.job.key, broken, emit)

    def _collect(self, shares: Sequence[Share], emit: Emit) -> None:
        """Sample the next token of each request whose share ends in a row of logits."""
        sampling = [share for share in shares if share.samples]
        index = -1
        at: dict[int, int] = {}
        for share in shares:
            index += share.count
            at[share.job.key] = index
        rows: Rows | None = None
        if sampling:
            wanted = max(self._runs[s.job.key].submit.request.logprobs for s in sampling)
            logits = self._context.logits(len(sampling))
            rows = measure(logits, shift=self._shift, k=wanted)
        for share in shares:
            self._batcher.done(share)
        for row, share in enumerate(sampling):
            key = share.job.key
            try:
                if rows is not None:
                    self._advance(self._runs[key], rows, row, at[key], emit)
            except Exception as error:
                self._fail(key, internal(error), emit)

    def _advance(self, run: Run, rows: Rows, row: int, index: int, emit: Emit) -> None:
        vocab = self._model.vocab
        token = run.sampler.sample(self._context, index)
        if not run.sampled:
            run.first = self._clock()
        run.sampled.append(token)
        events: list[Event] = []
        finish = ""
        if vocab.ends(token):
            finish = "stop"
        elif token in self._opens or token in self._closes:
            events += run.text.mark(thinking=token in self._opens)
        else:
            if not run.text.thinking:
                run.tally.add(rows, row, token)
            wanted = run.submit.request.logprobs
            logprob = self._logprob(rows, row, token, wanted) if wanted else None
            events += run.text.push(vocab.piece(token), logprob)
            if run.text.stopped:
                finish = "stop"
        if not finish and len(run.sampled) >= run.job.answer:
            finish = "length"
        if finish:
            self._finish(run, finish, events, emit)
        elif events:
            emit(protocol.Output(id=run.submit.id, events=events))

    def _finish(self, run: Run, finish: str, events: list[Event], emit: Emit) -> None:
        if run.submit.keep_state:
            emit(protocol.State(id=run.submit.id, state=self._save(run)))
        events += run.text.flush()
        now = self._clock()
        usage = Usage(
            prompt_tokens=len(run.prompt),
            cached_tokens=run.cached,
            completion_tokens=len(run.sampled),
            first_token_s=run.first - run.arrived,
            total_s=now - run.arrived,
        )
        done = Done(
            text=run.text.text,
            finish=finish,
            model=self._info.name,
            usage=usage,
            evidence=run.tally.evidence(),
        )
        self._end(run.submit.id)
        emit(protocol.Output(id=run.submit.id, events=[*events, done]))

    def _logprob(self, rows: Rows, row: int, token: int, wanted: int) -> TokenLogprob:
        def text(one: int) -> str:
            return self._model.vocab.piece(one).decode("utf-8", "replace")

        best = [int(one) for one in rows.best[row, :wanted]]
        top = [(text(one), rows.logprob(row, one)) for one in best]
        return TokenLogprob(text(token), rows.logprob(row, token), top)

    # --- sequence state

    def _restore(self, run: Run) -> None:
        """Begin from a saved state as far as it shares the prompt, else from nothing."""
        slot, state = run.job.slot, run.submit.state
        self._context.forget(slot)
        if state is None:
            return
        # One token must remain to be computed: its logits choose the first new token.
        common = shared_prefix(state.tokens, run.prompt[:-1])
        if common and self._context.restore(slot, state.data):
            if self._context.forget(slot, common):
                run.job.fed = run.cached = common
            else:
                self._context.forget(slot)

    def _save(self, run: Run) -> protocol.SequenceState:
        computed = [*run.prompt, *run.sampled][: run.job.position]
        data = self._context.save(run.job.slot)
        if len(data) > protocol.MAX_FRAME_BYTES // 2:
            raise ModelError(f"the sequence state has {len(data)} bytes, too many to hand over")
        return protocol.SequenceState(model=self._info.file_sha256, tokens=computed, data=data)

    # --- loading

    def _markers(self) -> tuple[frozenset[int], frozenset[int]]:
        find = self._model.vocab.find
        pairs = [(find(begin), find(end)) for begin, end in THINKING]
        known = [pair for pair in pairs if -1 not in pair]
        return frozenset(p[0] for p in known), frozenset(p[1] for p in known)

    def _trial(self) -> tuple[float, float]:
        """Decode once before anybody depends on it: prompt and token rates, in tokens/s."""
        if not self._generates:
            self._embedder.embed(TRIAL_TEXT)
            return 0.0, 0.0
        tokens = self._model.vocab.tokenize(TRIAL_TEXT, special=False, add_special=True)
        prompt = (tokens or [0])[: min(self._batch.size, 32)]
        rows: list[llama.Floats] = []

        def run(piece: list[int], position: int) -> float:
            self._batch.clear()
            self._batch.add(piece, position, 0, outputs=1)
            begin = self._clock()
            code = self._context.decode(self._batch)
            if code:
                raise ModelError(f"the model's first decode failed (code {code})")
            logits = self._context.logits(1)
            measure(logits, shift=0.0)  # part of every step, so part of the rate
            rows.append(logits[0].copy())
            return max(self._clock() - begin, 1e-9)

        prefill_s = run(prompt, 0)
        spent, steps = 0.0, 0
        while steps < TRIAL_STEPS and spent < TRIAL_S and len(prompt) + steps < self._room():
            spent += run([int(rows[-1].argmax())], len(prompt) + steps)
            steps += 1
        self._context.forget(0)
        if not np.isfinite(rows[-1]).all():
            raise ModelError("the model computes no numbers: its weights are damaged")
        self._shift = calibrate(np.stack(rows))
        return len(prompt) / prefill_s, steps / spent if spent else 0.0

    def _room(self) -> int:
        return min(self._batcher.sequence, self._batcher.cells)


def shared_prefix(left: Sequence[int], right: Sequence[int]) -> int:
    """How many tokens two sequences have in common from their beginning."""
    count = 0
    for one, other in zip(left, right, strict=False):
        if one != other:
            break
        count += 1
    return count


def cores() -> int:
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
