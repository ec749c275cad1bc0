"""A model as an agent holds it: always there, or saying in one line why not.

The host keeps one worker process alive: it loads the model, watches the worker's pulse, fails
the running requests when it dies, and starts another after a pause that grows with each crash.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from pathlib import Path

import msgspec

from capabilities.messages import Done, Event, Generate
from capabilities.slm import protocol
from capabilities.slm.process import Channel, WorkerDied, WorkerProcess
from capabilities.slm.protocol import Paced, SequenceState, Settings
from mesh.core.errors import DeadlineExceeded, GossamerError, ModelError
from mesh.core.records import ModelInfo

STARTING, READY, RESTARTING, RESTING, UNLOADED, STOPPED = (
    "starting",
    "ready",
    "restarting",
    "resting",
    "unloaded",
    "stopped",
)


class Care(msgspec.Struct, frozen=True, kw_only=True):
    """How a host looks after its worker; all times in seconds."""

    # A large model from a slow card takes minutes; nothing waits longer than this.
    load_timeout_s: float = 300.0
    # The pause before the first restart; it doubles with each crash in a row.
    backoff_s: float = 0.2
    backoff_max_s: float = 5.0
    # So many crashes within the window, and the worker rests: a request that kills it each
    # time shall not keep the machine busy with loading.
    max_crashes: int = 5
    crash_window_s: float = 60.0
    rest_s: float = 60.0
    # The pulse is taken this often, while nobody has heard the worker. It is answered by a
    # thread of its own, so silence means a stopped or starved process and not a long step.
    ping_s: float = 2.0
    silent_s: float = 10.0  # then it counts as unhealthy
    hung_s: float = 60.0  # then it is killed and restarted
    # A model that nobody has asked for so long gives its memory back; the next request waits
    # until it is loaded again. 0 keeps it.
    idle_unload_s: float = 0.0


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """What can be seen of a host."""

    state: str  # starting, ready, restarting, resting, unloaded or stopped
    note: str = ""  # why it is not ready, or what to know about it
    pid: int = 0
    crashes: int = 0  # since start()
    safe_mode: bool = False  # without repacked weights, because they crashed
    steps: int = 0
    running: int = 0
    waiting: int = 0
    rss_bytes: int = 0
    kept_tokens: int = 0  # of prompts, for reuse
    evicted_tokens: int = 0  # that had to go, since the worker began
    threads: int = 0  # of a decode step, as it follows the machine
    unreadable: int = 0  # messages of the worker that were no messages, ignored

    @property
    def healthy(self) -> bool:
        """Whether a request would be served now."""
        return self.state in (READY, UNLOADED) and not self.note


class ModelHost:
    """Serves one GGUF file, or the pace of a board, through a worker process.

    ``path``: the model; ignored when ``paced`` is given. ``adapters``: names and files of LoRA
    adapters that are loaded with it, also after a restart. Start it with :meth:`start`, end it
    with :meth:`stop`; it leaves no process behind, however it ends.
    """

    def __init__(
        self,
        path: Path | str,
        settings: Settings | None = None,
        *,
        paced: Paced | None = None,
        care: Care | None = None,
        adapters: Mapping[str, Path] | None = None,
    ) -> None:
        self._adapters = dict(adapters or {})
        self._used_at = 0.0  # event loop time of the last request's end
        self._wanted = asyncio.Event()  # somebody waits for a model that was unloaded
        self._path = Path(path)
        self._settings = settings or Settings()
        self._paced = paced
        self._label = paced.name if paced else self._path.name
        self._care = care or Care()
        self._worker: WorkerProcess | None = None
        self._ready: protocol.Ready | None = None
        self._task: asyncio.Task[None] | None = None
        self._up = asyncio.Event()
        self._state = STOPPED
        self._note = ""
        self._crashes = 0
        self._safe_mode = False
        self._starts = 0  # a stop while loading is told by it from a later start

    @property
    def ready(self) -> protocol.Ready:
        """What the worker said when it was ready last; raises before the first time."""
        if self._ready is None:
            raise ModelError(f"{self._label} is not loaded", hint="start the host first")
        return self._ready

    @property
    def info(self) -> ModelInfo:
        """The model, for the node's profile; raises before the first start."""
        return self.ready.info

    def health(self) -> Health:
        """How it is now; cheap."""
        worker = self._worker
        pulse = worker.pulse if worker else protocol.Pong(nonce=0)
        died = worker.died if worker else None  # the supervisor may not have noticed yet
        return Health(
            state=RESTARTING if died and self._state == READY else self._state,
            note=died.message if died else self._note,
            pid=worker.pid if worker else 0,
            crashes=self._crashes,
            safe_mode=self._safe_mode,
            steps=pulse.steps,
            running=pulse.running,
            waiting=pulse.waiting,
            kept_tokens=pulse.kept_tokens,
            evicted_tokens=pulse.evicted_tokens,
            threads=pulse.threads,
            unreadable=worker.unreadable if worker else 0,
            rss_bytes=pulse.rss_bytes or (self._ready.rss_bytes if self._ready else 0),
        )

    async def start(self) -> ModelInfo:
        """Load the model; raises one :class:`~mesh.core.errors.GossamerError` if it cannot be."""
        if self._state != STOPPED:
            raise ModelError(f"{self._label} is already started")
        self._state, self._note = STARTING, ""
        self._starts += 1
        mine = self._starts
        try:
            worker = await self._load()
        except BaseException:
            if mine == self._starts:
                self._state = STOPPED
            raise
        if mine != self._starts:
            await self._discard(worker)
            raise ModelError(f"{self._label} was stopped while it was loading")
        self._serve_with(worker)
        self._task = asyncio.create_task(self._supervise(worker), name="model-host")
        return self.info

    async def stop(self) -> None:
        """End the worker; running requests fail. Harmless when repeated."""
        self._state, self._note = STOPPED, ""
        self._starts += 1
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        worker, self._worker = self._worker, None
        if worker is not None:  # the task was cancelled before its first step
            await self._discard(worker)

    async def generate(
        self,
        request: Generate,
        *,
        timeout_s: float,
        priority: int = 0,
        isolation: str = "",
        state: SequenceState | None = None,
        on_state: Callable[[SequenceState], None] | None = None,
    ) -> AsyncIterator[Event]:
        """Stream an answer; the last event is Done. Closing the iterator cancels the work.

        ``state`` spares the prefill of the tokens it shares with the prompt; ``on_state``
        receives the state after the answer. Raises DeadlineExceeded after ``timeout_s``
        seconds, ModelError when the worker dies, ContextFull, BadRequest or Unsupported.
        """
        deadline = asyncio.get_running_loop().time() + timeout_s
        worker = await self._wait_up(deadline)
        with self._channel(worker) as channel:
            submit = protocol.Submit(
                id=channel.id,
                request=request,
                timeout_s=max(0.001, deadline - asyncio.get_running_loop().time()),
                priority=priority,
                isolation=isolation,
                state=state,
                keep_state=on_state is not None,
            )
            worker.send(submit)
            while True:
                reply = await channel.next(deadline)
                if isinstance(reply, protocol.State) and on_state is not None:
                    on_state(reply.state)
                if not isinstance(reply, protocol.Output):
                    continue
                channel.finished = bool(reply.events) and isinstance(reply.events[-1], Done)
                for event in reply.events:
                    yield event
                if channel.finished:
                    return

    async def embed(
        self, texts: Sequence[str], *, timeout_s: float, normalize: bool = True
    ) -> protocol.Block:
        """One row per text; raises as :meth:`generate` does."""
        reply = await self.ask(
            lambda i: protocol.Embed(id=i, texts=list(texts), normalize=normalize), timeout_s
        )
        if not isinstance(reply, protocol.Embedded):
            raise ModelError(f"the worker answered an embed with {protocol.describe(reply)}")
        return reply.block

    async def tokenize(self, text: str, *, timeout_s: float = 10.0) -> list[int]:
        """The model's tokens of a text; control tokens in it are read as plain text."""
        reply = await self.ask(lambda i: protocol.Tokenize(id=i, text=text), timeout_s)
        if not isinstance(reply, protocol.Tokens):
            raise ModelError(f"the worker answered a tokenize with {protocol.describe(reply)}")
        return reply.tokens

    async def forward(
        self,
        sequence: str,
        position: int,
        given: Sequence[int] | protocol.Block,
        *,
        timeout_s: float,
        logprobs: int = 0,
        want_rows: bool = False,
        layer: int = -1,
        dtype: str = "f32",
        all_rows: bool = False,
        fork: str = "",
        priority: int = 0,
    ) -> protocol.Forwarded:
        """One pass over tokens or hidden rows; see :class:`~capabilities.slm.protocol.Forward`.

        Raises SequenceLost when the sequence is not open in the worker (any more), Rejected
        when there is no room now, and as :meth:`generate` does.
        """
        rows = given if isinstance(given, protocol.Block) else None
        reply = await self.ask(
            lambda i: protocol.Forward(
                id=i,
                sequence=sequence,
                position=position,
                tokens=[] if isinstance(given, protocol.Block) else list(given),
                rows=rows,
                logprobs=logprobs,
                want_rows=want_rows,
                layer=layer,
                dtype=dtype,
                all_rows=all_rows,
                fork=fork,
                priority=priority,
                timeout_s=timeout_s,
            ),
            timeout_s,
        )
        if not isinstance(reply, protocol.Forwarded):
            raise ModelError(f"the worker answered a forward with {protocol.describe(reply)}")
        return reply

    async def save_sequence(self, sequence: str, *, timeout_s: float) -> SequenceState:
        """The state of a sequence that :meth:`forward` opened; raises SequenceLost."""
        reply = await self.ask(lambda i: protocol.SaveSequence(id=i, sequence=sequence), timeout_s)
        if not isinstance(reply, protocol.State):
            raise ModelError(f"the worker answered a save with {protocol.describe(reply)}")
        return reply.state

    async def restore_sequence(
        self, sequence: str, state: SequenceState, *, timeout_s: float
    ) -> None:
        """Open or replace a sequence by a saved state; raises BadRequest or Rejected."""
        await self.ask(
            lambda i: protocol.RestoreSequence(id=i, sequence=sequence, state=state), timeout_s
        )

    async def drop_sequence(self, sequence: str, *, timeout_s: float) -> None:
        """Forget a sequence; harmless when it is not there."""
        await self.ask(lambda i: protocol.DropSequence(id=i, sequence=sequence), timeout_s)

    async def ask(
        self, build: Callable[[int], protocol.Command], timeout_s: float
    ) -> protocol.AnyReply:
        """The one reply to a command that ``build`` makes with a fresh id; raises its error."""
        deadline = asyncio.get_running_loop().time() + timeout_s
        worker = await self._wait_up(deadline)
        with self._channel(worker) as channel:
            worker.send(build(channel.id))
            reply = await channel.next(deadline)
            channel.finished = True
            return reply

    async def add_adapter(self, name: str, path: Path, *, timeout_s: float = 60.0) -> list[str]:
        """Load a LoRA adapter beside the model while it runs; the names of all that are loaded.

        Requests mix it in by name and scale. Raises BadRequest, Rejected or ModelError.
        """
        names = await self._adapters_after(lambda i: _add(i, name, path), timeout_s)
        self._adapters[name] = path
        return names

    async def remove_adapter(self, name: str, *, timeout_s: float = 60.0) -> list[str]:
        """Unload an adapter; raises Rejected while a running request uses it."""
        names = await self._adapters_after(
            lambda i: protocol.RemoveAdapter(id=i, name=name), timeout_s
        )
        self._adapters.pop(name, None)
        return names

    async def _adapters_after(
        self, build: Callable[[int], protocol.Command], timeout_s: float
    ) -> list[str]:
        reply = await self.ask(build, timeout_s)
        if not isinstance(reply, protocol.Adapters):
            raise ModelError(f"the worker answered with {protocol.describe(reply)}")
        return reply.names

    @contextlib.contextmanager
    def _channel(self, worker: WorkerProcess) -> Iterator[Channel]:
        try:
            with worker.open_channel() as channel:
                yield channel
        finally:
            self._used_at = asyncio.get_running_loop().time()

    async def _wait_up(self, deadline: float) -> WorkerProcess:
        """The worker, waiting for a restart if one is under way."""
        if self._task is None:
            raise ModelError(f"{self._label} is not running", hint="start the host first")
        if self._state == RESTING:
            raise ModelError(f"{self._label} is not served now: {self._note}")
        while True:
            self._wanted.set()
            try:
                async with asyncio.timeout_at(deadline):
                    await self._up.wait()
            except TimeoutError:
                raise DeadlineExceeded(
                    f"{self._label} was not ready in time: {self._note or self._state}"
                ) from None
            if self._worker is None:
                raise ModelError(f"{self._label} was stopped")
            if self._worker.died is None:
                return self._worker
            self._up.clear()  # it died a moment ago; the supervisor is about to notice

    # --- the worker's life

    async def _load(self) -> WorkerProcess:
        """A worker with the model loaded; a native crash is tried once more without repacking."""
        try:
            return await self._load_once()
        except WorkerDied as crash:
            if not crash.native or self._safe_mode or not self._settings.use_extra_bufts:
                raise ModelError(
                    f"{self._label} could not be loaded: {crash.message}", hint=crash.hint
                ) from crash
        try:
            worker = await self._load_once(safe=True)
        except WorkerDied as crash:
            raise ModelError(
                f"{self._label} crashes the native library, also with safe settings: "
                f"{crash.message}",
                hint="the file may be damaged or too new for this version of llama.cpp",
            ) from crash
        self._safe_mode = True
        return worker

    async def _load_once(self, *, safe: bool = False) -> WorkerProcess:
        settings = self._settings
        if safe or self._safe_mode:
            settings = msgspec.structs.replace(settings, use_extra_bufts=False)
        order = protocol.Load(path=str(self._path.absolute()), settings=settings, paced=self._paced)
        worker = await WorkerProcess.spawn()
        try:
            self._ready = await worker.load(order, self._care.load_timeout_s)
            for name, path in self._adapters.items():
                with worker.open_channel() as channel:
                    worker.send(_add(channel.id, name, path))
                    now = asyncio.get_running_loop().time()
                    await channel.next(now + self._care.load_timeout_s)
                    channel.finished = True
        except BaseException:
            await self._discard(worker)
            raise
        return worker

    async def _discard(self, worker: WorkerProcess) -> None:
        """End a worker and wait until it is gone; killed even when this wait is cancelled."""
        worker.kill(f"{self._label} was stopped")
        await asyncio.shield(worker.reap())

    def _serve_with(self, worker: WorkerProcess) -> None:
        self._worker, self._state, self._note = worker, READY, ""
        self._up.set()

    async def _supervise(self, worker: WorkerProcess | None) -> None:
        """Until it is cancelled: serve, and after a crash serve again."""
        recent: deque[float] = deque(maxlen=self._care.max_crashes)
        clock = asyncio.get_running_loop().time
        try:
            while True:
                idle = False
                if worker is not None:
                    self._serve_with(worker)
                    idle = await self._attend(worker)
                    await worker.reap()
                    self._note = worker.died.message if worker.died else ""
                self._up.clear()
                self._worker = None
                if idle:
                    self._note = ""
                    await self._wanted.wait()
                else:
                    self._crashes += 1
                    recent.append(clock())
                    await self._pause(recent, clock())
                self._state = RESTARTING
                try:
                    worker = await self._load()
                except GossamerError as error:
                    worker, self._note = None, error.sentence()
        finally:
            self._worker = None
            self._state = STOPPED
            self._up.set()  # whoever waits learns that it was stopped
            if worker is not None:
                await self._discard(worker)

    async def _pause(self, recent: Sequence[float], now: float) -> None:
        """Wait before a restart, longer after each crash within the window."""
        care = self._care
        within = sum(1 for at in recent if now - at < care.crash_window_s)
        if within < care.max_crashes:
            self._state = RESTARTING
            await asyncio.sleep(min(care.backoff_s * 2 ** (within - 1), care.backoff_max_s))
            return
        self._state = RESTING
        self._note = (
            f"it crashed {within} times within {care.crash_window_s:g} s and is tried again "
            f"after {care.rest_s:g} s; the last time: {self._note}"
        )
        await asyncio.sleep(care.rest_s)

    async def _attend(self, worker: WorkerProcess) -> bool:
        """Take the pulse until the worker has ended; whether it was ended for being idle."""
        care, clock = self._care, asyncio.get_running_loop().time
        since = clock()
        while not worker.ended.is_set():
            quiet = clock() - max(self._used_at, since)
            if care.idle_unload_s and not worker.busy and quiet >= care.idle_unload_s:
                # From here on requests wait for the next worker.
                self._up.clear()
                self._wanted.clear()
                self._worker, self._state, self._note = None, UNLOADED, ""
                worker.kill(f"{self._label} was idle and was unloaded")
                await worker.ended.wait()
                return True
            worker.ping()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(care.ping_s):
                    await worker.ended.wait()
            silent = clock() - max(worker.heard_at, since)
            if silent >= care.hung_s:
                worker.kill(f"the model worker has not answered for {silent:.0f} s and was killed")
                await worker.ended.wait()
            elif silent >= care.silent_s:
                self._note = f"the model worker has not answered for {silent:.0f} s"
            else:
                self._note = ""
        return False


def _add(request_id: int, name: str, path: Path) -> protocol.AddAdapter:
    return protocol.AddAdapter(id=request_id, name=name, path=str(path.absolute()))
