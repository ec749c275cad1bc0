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
from capabilities.slm import header, llama, machine, memory, protocol, trial
from capabilities.slm.adapters import Adapters, Mix
from capabilities.slm.batching import NO_SLOT, Batcher, Job, Share
from capabilities.slm.cache import MAX_SEATS, PrefixCache
from capabilities.slm.chat import ChatPrompt
from capabilities.slm.embedder import Embedder
from capabilities.slm.engine import Emit, check, internal
from capabilities.slm.errors import BadRequest, ContextFull, Unsupported
from capabilities.slm.evidence import Rows, measure
from capabilities.slm.grammars import grammar_of
from capabilities.slm.output import TextStream
from capabilities.slm.prefixes import shared_prefix
from capabilities.slm.running import Markers, Run
from capabilities.slm.sampling import Sampler
from capabilities.slm.threads import ThreadPolicy, best, candidates
from capabilities.slm.tools import ToolStream, for_template
from mesh.core.errors import DeadlineExceeded, GossamerError, ModelError, Rejected
from mesh.core.records import ModelInfo

DEFAULT_CONTEXT = 4096
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
        wanted = settings.context_tokens
        if not wanted:
            trained = int(head.scalars.get(f"{head.arch}.context_length", 0)) or DEFAULT_CONTEXT
            wanted = min(settings.slots * trained, DEFAULT_CONTEXT)
        need = memory.estimate(
            head,
            path.stat().st_size,
            context_tokens=wanted,
            batch_tokens=min(settings.batch_tokens, wanted),
            rows=settings.slots + MAX_SEATS,
        )
        memory.refuse_above(need, settings.memory_bytes or machine.available_bytes(), path.name)
        self._model = llama.Model(path, use_extra_bufts=settings.use_extra_bufts)
        if self._model.needs_encoder:
            raise Unsupported(f"{path.name} is an encoder-decoder model ({head.arch})")
        trained = self._model.trained_context or DEFAULT_CONTEXT
        self._threads = settings.threads or max(1, machine.cores() - 1)
        batch = max(settings.batch_tokens, settings.slots)
        kept = min(settings.prefix_tokens, wanted)
        if settings.prefix_tokens < 0:
            kept = memory.prefix_tokens(need, wanted)
        seats = 0
        if kept and self._model.keeps_every_token:
            seats = min(MAX_SEATS, protocol.MAX_SLOTS - settings.slots)
        shape = llama.ContextShape(
            tokens=wanted,
            batch=min(batch, wanted),
            sequences=settings.slots + seats,
            outputs=settings.slots + seats,  # llama.cpp wants one for each sequence
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
        self._cache = PrefixCache(
            self._context, range(settings.slots, settings.slots + seats), kept
        )
        self._generates = self._context.has_memory
        self._runs: dict[int, Run] = {}
        self._embedder = Embedder(
            self._model, threads=self._threads, max_waiting=settings.max_waiting
        )
        self._steps = 0
        vocab = self._model.vocab
        self._markers = Markers.of(vocab)
        # Tokens that leave no text would break what a grammar has counted.
        controls = {token for token in range(vocab.size) if vocab.is_control(token)}
        self._hidden = sorted(t for t in controls | self._markers.all if not vocab.ends(t))
        self._chat = ChatPrompt(
            self._model.chat_template,
            bos=vocab.name(vocab.bos) if vocab.bos >= 0 else "",
            eos=vocab.name(vocab.eos) if vocab.eos >= 0 else "",
            control=[*vocab.controls, *map(vocab.name, self._markers.all)],
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
        self._adapters = Adapters(self._model, head.arch)
        self._neighbours = machine.Neighbours()
        self._policy: ThreadPolicy | None = None
        rates = self._trial()
        self._shift = rates.shift
        if rates.prefill:
            slow = max(LEAST_CHUNK, int(rates.prefill * CHUNK_S))
            self._batcher.chunk = min(settings.prefill_chunk, slow)
        features = ["embed", "tokenize"]
        if self._generates:
            features += ["generate", "grammar", "adapters", "state"]
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
        return self._steps, self._batcher.running, self._batcher.waiting + self._embedder.waiting

    @property
    def gauges(self) -> tuple[int, int, int]:
        """Prompt tokens kept for reuse, tokens of them evicted, threads of a decode step."""
        threads = self._policy.counts[0] if self._policy else self._threads
        return self._cache.tokens, self._cache.evicted, threads

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
            elif isinstance(command, protocol.AddAdapter):
                self._adapters.add(command.name, Path(command.path))
                emit(protocol.Adapters(id=request_id, names=self._adapters.names))
            elif isinstance(command, protocol.RemoveAdapter):
                self._remove_adapter(command.name)
                emit(protocol.Adapters(id=request_id, names=self._adapters.names))
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

    def _cancel(self, request_id: int) -> None:
        self._embedder.cancel(request_id)
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
        self._end(request_id, keep=False)
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
        self._join()
        worked = self._embedder.step(emit)
        shares = self._batcher.plan()
        if not shares:
            return worked
        self._steps += 1
        self._follow_machine()
        by_mix: dict[Mix, list[Share]] = {}
        for share in shares:
            by_mix.setdefault(self._runs[share.job.key].adapters, []).append(share)
        for mix, group in by_mix.items():
            self._adapters.apply(mix, self._context)
            if self._decode(group) == 0:
                self._collect(group, emit)
            else:
                self._one_by_one(group, emit)
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
        """Whether the cells of a job are free, after kept prefixes have given way."""
        need = self._batcher.used + job.cells - shared - self._batcher.cells
        if need + self._cache.tokens > 0:
            self._cache.free(need + self._cache.tokens)
        return need + self._cache.tokens <= 0

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
        data = self._context.save(run.job.slot)
        if len(data) > protocol.MAX_FRAME_BYTES // 2:
            raise ModelError(f"the sequence state has {len(data)} bytes, too many to hand over")
        return protocol.SequenceState(model=self._info.file_sha256, tokens=computed, data=data)

    # --- loading

    def _trial(self) -> trial.Trial:
        if not self._generates:
            self._embedder.embed(trial.TEXT)
            return trial.Trial()
        if self._settings.threads:
            return self._try()
        tried: dict[int, trial.Trial] = {}
        for count in candidates(machine.cores()):
            self._context.set_threads(count, count)
            tried[count] = self._try()
        chosen = best({count: one.decode for count, one in tried.items()})
        self._policy = ThreadPolicy(machine.cores(), chosen)
        self._context.set_threads(*self._policy.counts)
        return tried[chosen]

    def _try(self) -> trial.Trial:
        return trial.generate(
            self._context,
            self._batch,
            self._model.vocab,
            room=self._room(),
            clock=self._clock,
        )

    def _follow_machine(self) -> None:
        """Leave the cores to others that others use."""
        policy = self._policy
        if policy is not None and policy.look(
            time.monotonic(), self._neighbours.busy_cores, machine.cool_c
        ):
            self._context.set_threads(*policy.counts)

    def _room(self) -> int:
        return min(self._batcher.sequence, self._batcher.cells)
