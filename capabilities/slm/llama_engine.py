"""Runs one GGUF model for many requests at once.

Continuous batching over one llama context: each step computes one token of every generating
request and pieces of the prompts of those that have just joined (:mod:`.batching` decides).
Requests join and leave between any two steps. A request that fails, fails alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from capabilities.messages import Generate
from capabilities.slm import header, llama, machine, protocol, sizing, trial
from capabilities.slm.adapters import Adapters, Mix
from capabilities.slm.batching import NO_SLOT, Batcher, Job, Share
from capabilities.slm.cache import PrefixCache
from capabilities.slm.capture import Capture
from capabilities.slm.chat import ChatPrompt
from capabilities.slm.embedder import Embedder
from capabilities.slm.engine import Emit, check, internal
from capabilities.slm.errors import BadRequest, ContextFull, Unsupported
from capabilities.slm.evidence import Rows, measure
from capabilities.slm.forwards import Forwards, Ordered, state_of
from capabilities.slm.grammars import grammar_of
from capabilities.slm.output import TextStream
from capabilities.slm.prefixes import shared_prefix
from capabilities.slm.running import Markers, Run, spelled
from capabilities.slm.sampling import Sampler
from capabilities.slm.sequences import Table
from capabilities.slm.tempo import Tempo
from capabilities.slm.tools import ToolStream, for_template
from mesh.core.errors import DeadlineExceeded, GossamerError, ModelError, Rejected
from mesh.core.records import ModelInfo

# While others generate, a step takes no more of prompts than this time computes: on a slow board
# a fixed number of tokens would keep everybody waiting for seconds.
CHUNK_S = 1.0
LEAST_CHUNK = 8  # tokens; fewer would spend the step on reading the weights
LONGEST_TOKEN_CHARS = 64  # words of text stay far below; only runs of spaces come near


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
        wanted, kept = sizing.context(path, head, settings)
        self._model = llama.Model(path, use_extra_bufts=settings.use_extra_bufts)
        if self._model.needs_encoder:
            raise Unsupported(f"{path.name} is an encoder-decoder model ({head.arch})")
        trained = self._model.trained_context or sizing.DEFAULT_CONTEXT
        threads = settings.threads or max(1, machine.cores() - 1)
        keeps = bool(kept) and self._model.keeps_every_token
        self._capture = Capture() if settings.capture else None
        shape, seats, rows = sizing.shape(
            settings,
            wanted,
            threads,
            head_width=self._model.width // self._model.heads,
            keeps=keeps,
            capture=self._capture,
        )
        self._context = llama.Context(self._model, shape)
        self._batch = llama.Batch(shape.batch)
        self._row_batch: llama.RowBatch | None = None  # made when the first rows come
        cells = self._context.tokens
        self._batcher = Batcher(
            slots=settings.slots,
            cells=cells,
            sequence=min(trained, cells),
            batch=shape.batch,
            chunk=settings.prefill_chunk,
            max_waiting=settings.max_waiting,
            rows=rows,
        )
        self._cache = PrefixCache(self._context, seats, kept)
        self._generates = self._context.has_memory
        self._runs: dict[int, Run] = {}
        self._embedder = Embedder(self._model, threads=threads, max_waiting=settings.max_waiting)
        self._steps = 0
        vocab = self._model.vocab
        self._markers = Markers.of(vocab)
        self._hidden, self._chat = _speech(self._model, self._markers)
        self._info = ModelInfo(
            name=head.text("general.name") or path.stem,
            arch=head.arch,
            parameters=self._model.parameters,
            quantization=self._model.quantization,
            context=min(trained, cells),
            vocab_hash=head.vocab_hash,
            file_sha256=header.file_sha256(path),
            embedding_dim=self._model.width,
            file=path.stem,
        )
        self._forwards = Forwards(
            self._model,
            self._context,
            self._batcher,
            Table(range(seats.stop, shape.sequences), settings.sequence_idle_s),
            file_sha256=self._info.file_sha256,
            capture=self._capture,
            make_room=self._make_room,
            clock=clock,
        )
        self._adapters = Adapters(self._model, head.arch)
        self._tempo = Tempo(self._context, threads, fixed=bool(settings.threads))
        if self._generates:
            room = min(self._batcher.sequence, self._batcher.cells)
            rates = self._tempo.measure(self._batch, vocab, room=room, clock=clock)
        else:
            self._embedder.embed(trial.TEXT)
            rates = trial.Trial()
        self._shift = rates.shift
        if rates.prefill:
            slow = max(LEAST_CHUNK, int(rates.prefill * CHUNK_S))
            self._batcher.chunk = min(settings.prefill_chunk, slow)
        features = ["embed", "tokenize"]
        if self._generates:
            features += ["generate", "grammar", "adapters", "state"]
            features += ["forward"] * bool(rows) + ["rows"] * bool(rows and settings.capture)
        self._features = frozenset(features)
        self._ready = protocol.Ready(
            info=self._info,
            slots=settings.slots,
            context_tokens=cells,
            sequence_tokens=min(trained, cells),
            features=features,
            decode_tokens_per_s=rates.decode,
            prefill_tokens_per_s=rates.prefill,
            load_s=clock() - started,
        )

    def ready(self) -> protocol.Ready:
        """What was loaded, with the rates that the trial measured."""
        return self._ready

    @property
    def load(self) -> tuple[int, int, int]:
        """Steps done, requests running, requests waiting."""
        waiting = self._batcher.waiting + self._embedder.waiting + self._forwards.waiting
        return self._steps, self._batcher.running, waiting

    @property
    def gauges(self) -> tuple[int, int, int]:
        """Prompt tokens kept for reuse, tokens of them evicted, threads of a decode step."""
        return self._cache.tokens, self._cache.evicted, self._tempo.threads

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
            self._cancel(command.id, emit)
            return
        request_id = getattr(command, "id", protocol.LOAD_ID)
        try:
            if isinstance(command, protocol.Submit):
                self._submit(command)
            elif isinstance(command, protocol.Embed):
                self._embedder.submit(command)
            elif isinstance(command, protocol.AddAdapter):
                self._adapters.add(command.name, Path(command.path))
                emit(protocol.Adapters(id=request_id, names=self._adapters.names))
            elif isinstance(command, protocol.RemoveAdapter):
                self._remove_adapter(command.name)
                emit(protocol.Adapters(id=request_id, names=self._adapters.names))
            elif isinstance(command, protocol.Tokenize):
                tokens = self._model.vocab.tokenize(command.text, special=command.special)
                emit(protocol.Tokens(id=request_id, tokens=tokens))
            elif isinstance(command, protocol.Render):
                prompt = self._prompt(command.request)
                thinks = self._markers.thinking_after(prompt)
                emit(protocol.Tokens(id=request_id, tokens=prompt, thinking=thinks))
            elif isinstance(command, protocol.Spell):
                emit(spelled(command, self._model.vocab, self._markers))
            elif isinstance(command, Ordered) and "forward" in self._features:
                self._refuse_twice(request_id)
                self._forwards.handle(command, emit)
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
        self._refuse_twice(command.id)
        if command.state and command.state.model != self._info.file_sha256:
            raise BadRequest("the sequence state was computed by another model")
        now = self._clock()
        grammar = grammar_of(request)
        mix = self._adapters.mix(request.adapters)
        prompt = self._prompt(request)
        text = TextStream(list(request.stop), thinking=self._markers.thinking_after(prompt))
        tools = ToolStream(frozenset(t.name for t in request.tools)) if request.tools else None
        job = self._batcher.submit(
            command.id,
            len(prompt),
            request.max_tokens,
            priority=command.priority,
            deadline=now + command.timeout_s if command.timeout_s > 0 else float("inf"),
            owner=command.isolation,
            now=now,
        )
        try:
            sampler = Sampler(self._model.vocab, request, grammar, self._hidden)
        except BaseException:
            self._batcher.leave(command.id)
            raise
        # What one mix of adapters computed is wrong for another.
        label = repr((command.isolation, mix))
        self._runs[command.id] = Run(
            command, job, prompt, sampler, text, now, label=label, adapters=mix, tools=tools
        )

    def _refuse_twice(self, request_id: int) -> None:
        if request_id in self._runs or request_id in self._forwards:
            raise BadRequest(f"request {request_id} is already running")

    def _remove_adapter(self, name: str) -> None:
        if any(name == one for run in self._runs.values() for one, _ in run.adapters):
            raise Rejected(f"a running request uses the adapter {name}; ask again when it is over")
        self._adapters.remove(name, self._context)
        # Another adapter may get the same name.
        stale = [label for label in self._cache.labels() if repr(name) in label]
        self._cache.forget(stale)

    def _prompt(self, request: Generate) -> list[int]:
        vocab = self._model.vocab
        text = self._chat.render(request.messages, for_template(request.tools))
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

    def _cancel(self, request_id: int, emit: Emit) -> None:
        self._embedder.cancel(request_id)
        self._forwards.cancel(request_id, emit)
        self._end(request_id)

    def _end(self, request_id: int, *, keep: bool = True) -> Run | None:
        """Free all that a request holds; with ``keep`` its state becomes a prefix for others."""
        run = self._runs.pop(request_id, None)
        if run is not None:
            if keep and run.job.slot != NO_SLOT:
                self._remember(run)
            if run.hold is not None:
                self._cache.release(run.hold)
            run.sampler.close()
        slot = self._batcher.leave(request_id)
        if slot != NO_SLOT:
            self._context.forget(slot)
        return run

    def _fail(self, request_id: int, error: GossamerError, emit: Emit) -> None:
        if request_id in self._forwards:
            self._forwards.fail(request_id, error, emit)
            return
        self._end(request_id, keep=False)
        emit(protocol.failed(request_id, error))

    # --- steps

    def step(self, emit: Emit) -> bool:
        """One decode step of all running requests, or one text to embed."""
        now = self._clock()
        self._forwards.expire(now, emit)
        for key in self._batcher.expired(now):
            run = self._runs.get(key)
            where = f"after {len(run.sampled)} tokens" if run else "in a forward pass"
            if run and run.job.slot == NO_SLOT:
                where = "while it waited for a slot"
            self._fail(key, DeadlineExceeded(f"the deadline passed {where}"), emit)
        self._join()
        worked = self._embedder.step(emit)
        shares = self._batcher.plan()
        if not shares:
            return worked
        self._steps += 1
        self._tempo.follow()
        groups: dict[tuple[Mix, bool], list[Share]] = {}
        for share in shares:
            mine = share.job.forward
            mix = () if mine else self._runs[share.job.key].adapters
            rows = mine and self._forwards.takes_rows(share)
            groups.setdefault((mix, rows), []).append(share)
        for (mix, _), group in groups.items():
            self._adapters.apply(mix, self._context)
            if self._decode(group) == 0:
                self._collect(group, emit)
            else:
                self._one_by_one(group, emit)
        return True

    def _decode(self, shares: Sequence[Share]) -> int:
        batch: llama.Batch = self._batch
        first = shares[0]
        if first.job.forward and self._forwards.takes_rows(first):
            self._row_batch = self._row_batch or llama.RowBatch(batch.size, self._model.width)
            batch = self._row_batch
        batch.clear()
        for share in shares:
            if share.job.forward:
                self._forwards.add(batch, share)
                continue
            tokens = self._runs[share.job.key].tokens(share)
            batch.add(tokens, share.position, share.job.slot, outputs=share.outputs)
        self._forwards.arm(shares)
        return self._context.decode(batch)

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
        """Sample the next token of each request whose share ends in a row of logits, and hand
        forward passes what they asked for."""
        tokens = sum(share.count for share in shares)
        outputs = sum(share.outputs for share in shares)
        rows, at = self._measure(shares, outputs)
        begin = out = 0
        for share, first in zip(shares, at, strict=True):
            self._batcher.done(share)
            key, spans = share.job.key, (begin, out, tokens, outputs)
            begin, out = begin + share.count, out + share.outputs
            try:
                if share.job.forward:
                    self._forwards.collect(share, rows, first, spans)
                    self._forwards.finish(share, emit)
                elif share.samples and rows is not None:
                    self._advance(self._runs[key], rows, first, begin - 1, emit)
            except Exception as error:
                known = error if isinstance(error, GossamerError) else internal(error)
                self._fail(key, known, emit)

    def _measure(self, shares: Sequence[Share], outputs: int) -> tuple[Rows | None, list[int]]:
        """The rows of logits that somebody wants, and where each share's begin among them."""
        kept: list[int] = []
        at: list[int] = []
        out, best = 0, -1
        for share in shares:
            wanted = int(share.samples)
            if share.job.forward:
                wanted = self._forwards.wants_logits(share)
                best = max(best, wanted)
            elif share.samples:
                best = max(best, self._runs[share.job.key].submit.request.logprobs)
            at.append(len(kept))
            if wanted:
                kept += range(out, out + share.outputs)
            out += share.outputs
        if not kept:
            return None, at
        logits = self._context.logits(outputs)
        if len(kept) < outputs:
            logits = logits[kept]
        return measure(logits, shift=self._shift, k=best), at

    def _advance(self, run: Run, rows: Rows, row: int, index: int, emit: Emit) -> None:
        if not run.sampled:
            self._remember(run)  # whoever asks the same beginning next need not wait for the end
        token = run.sampler.sample(self._context, index, rows.logits[row], free=run.text.thinking)
        run.first = run.first or self._clock()
        events, finish = run.take(token, rows, row, self._model.vocab, self._markers)
        if finish:
            if run.submit.keep_state:
                emit(protocol.State(id=run.submit.id, state=self._save(run)))
            events += run.finish(finish, self._info.name, self._clock)
            self._end(run.submit.id)
        if events:
            emit(protocol.Output(id=run.submit.id, events=events))

    # --- prefixes

    def _join(self) -> None:
        """Seat waiting requests while there are slots and cells, on prefixes that are kept."""
        while (job := self._batcher.next(self._clock())) is not None:
            run = self._runs[job.key]
            known = run.prompt[:-1] if run.submit.state is None else []
            # One token must remain to be computed: its logits choose the first new token.
            hold = self._cache.match(run.label, known)
            if not self._room_for(job, hold.length):
                # What it would stand on may belong to a long branch that must go for it.
                self._cache.release(hold)
                if not self._room_for(job, 0):
                    return
            self._batcher.seat(job)
            run.hold = hold
            self._restore(run)

    def _room_for(self, job: Job, shared: int) -> bool:
        """Whether the cells of a job are free, after others have given way."""
        return self._make_room(job.cells - shared)

    def _make_room(self, cells: int) -> bool:
        """Free so many cells: kept prefixes give way, then sequences that nobody uses."""

        def short() -> int:
            taken = self._batcher.used + self._cache.tokens + self._forwards.cells
            return taken + cells - self._batcher.cells

        if (missing := short()) > 0:
            self._cache.free(missing)
        if (missing := short()) > 0:
            self._forwards.give_way(missing)
        return short() <= 0

    def _remember(self, run: Run) -> None:
        """Keep what a request has computed so far."""
        if run.hold is not None:
            added = self._cache.store(run.hold, run.computed(), run.job.slot)
            self._batcher.share(run.job, added)

    # --- sequence state

    def _restore(self, run: Run) -> None:
        """Begin from a saved state as far as it shares the prompt, else from nothing."""
        slot, state = run.job.slot, run.submit.state
        self._context.forget(slot)
        if run.hold is not None and run.hold.length:
            self._cache.attach(run.hold, slot)
            run.job.fed = run.cached = run.hold.length
            self._batcher.share(run.job, run.hold.length)
        if state is None:
            return
        common = shared_prefix(state.tokens, run.prompt[:-1])
        if common and self._context.restore(slot, state.data):
            if self._context.forget(slot, common):
                run.job.fed = run.cached = common
            else:
                self._context.forget(slot)

    def _save(self, run: Run) -> protocol.SequenceState:
        computed = run.computed()
        sha = self._info.file_sha256
        return state_of(self._context, run.job.slot, sha, computed, len(computed))


def _speech(model: llama.Model, markers: Markers) -> tuple[list[int], ChatPrompt]:
    """The tokens that a grammar must not let pass, and the template of conversations."""
    vocab = model.vocab
    # Tokens that leave no text would break what a grammar has counted.
    controls = {token for token in range(vocab.size) if vocab.is_control(token)}
    hidden = sorted(t for t in controls | markers.all if not vocab.ends(t))
    chat = ChatPrompt(
        model.chat_template,
        bos=vocab.name(vocab.bos) if vocab.bos >= 0 else "",
        eos=vocab.name(vocab.eos) if vocab.eos >= 0 else "",
        control=[*vocab.controls, *map(vocab.name, markers.all)],
    )
    return hidden, chat
