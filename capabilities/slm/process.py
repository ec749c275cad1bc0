"""One worker process as the agent sees it: spawned, spoken to, and never left behind.

Nothing here blocks the event loop. The process ends when :meth:`WorkerProcess.kill` is called,
when its socket closes, or, by the kernel's hand, when this process dies.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import signal
import socket
import sys
from pathlib import Path
from types import TracebackType

import capabilities
from capabilities.slm import protocol
from capabilities.slm.errors import from_code
from mesh.core.errors import DeadlineExceeded, ModelError, WireError

READ_BYTES = 64 * 1024
NATIVE_FAULTS = (signal.SIGSEGV, signal.SIGILL, signal.SIGBUS, signal.SIGABRT, signal.SIGFPE)
KEPT_STDERR_BYTES = 8 * 1024
CLOSED_S = 1.0  # between the end of its socket and its own end a worker has this long
REAP_S = 5.0  # a killed process is reaped in milliseconds; longer means an uninterruptible disk
# What native code needs to hear: no debugger on an abort, few arenas and no thread pool for a
# process whose only wish is to stay small.
ENVIRONMENT = {
    "GGML_NO_BACKTRACE": "1",
    "MALLOC_ARENA_MAX": "2",
    "OPENBLAS_NUM_THREADS": "1",
    "PYTHONUNBUFFERED": "1",
}


class WorkerDied(ModelError):
    """The process ended; ``native`` says that a fault in native code ended it."""

    def __init__(self, message: str, *, native: bool) -> None:
        super().__init__(message)
        self.native = native


class Channel:
    """The replies to one request, in order. Leaving it forgets the request.

    Its queue is not bounded by itself: a worker sends at most one reply per token, and the
    tokens of an answer are bounded by its request.
    """

    def __init__(self, worker: WorkerProcess, request_id: int) -> None:
        self.id = request_id
        self._worker = worker
        self._replies: asyncio.Queue[protocol.AnyReply | WorkerDied] = asyncio.Queue()
        self.finished = False

    def put(self, reply: protocol.AnyReply | WorkerDied) -> None:
        """A reply, or the end of the worker."""
        self._replies.put_nowait(reply)

    async def next(self, deadline: float) -> protocol.AnyReply:
        """The next reply; raises what the worker reported, or DeadlineExceeded.

        ``deadline`` is on the event loop's clock.
        """
        try:
            async with asyncio.timeout_at(deadline):
                reply = await self._replies.get()
        except TimeoutError:
            raise DeadlineExceeded("the model did not answer in time") from None
        if isinstance(reply, WorkerDied):
            self.finished = True
            raise ModelError(reply.message, hint=reply.hint)
        if isinstance(reply, protocol.Failed):
            self.finished = True
            raise from_code(reply.code, reply.message, reply.hint)
        return reply

    def __enter__(self) -> Channel:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._worker.close_channel(self)


class WorkerProcess:
    """A running worker. Create it with :meth:`spawn`, end it with :meth:`kill` and :meth:`reap`."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._writer: asyncio.StreamWriter | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._channels: dict[int, Channel] = {}
        self._ids = itertools.count(protocol.LOAD_ID + 1)
        self._stderr = b""
        self._nonces = itertools.count(1)
        self._control: asyncio.Queue[protocol.AnyReply | WorkerDied] = asyncio.Queue()
        self._because = ""
        self.died: WorkerDied | None = None
        self.ended = asyncio.Event()
        self.unreadable = 0  # replies that are no messages, ignored
        self.pulse = protocol.Pong(nonce=0)
        self.heard_at = 0.0  # event loop time of the last bytes from it

    @classmethod
    async def spawn(cls) -> WorkerProcess:
        """Start the process and greet it; raises :class:`~mesh.core.errors.ModelError`."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        ours.setblocking(False)
        root = str(Path(capabilities.__file__).parent.parent)
        path = os.pathsep.join(p for p in (root, os.environ.get("PYTHONPATH", "")) if p)
        arguments = ["--fd", str(theirs.fileno()), "--parent", str(os.getpid())]
        try:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-P",  # the working directory may belong to anybody; import nothing from it
                "-m",
                "capabilities.slm.worker",
                *arguments,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.PIPE,
                pass_fds=(theirs.fileno(),),
                env={**os.environ, **ENVIRONMENT, "PYTHONPATH": path},
            )
        except OSError as error:
            ours.close()
            raise ModelError(f"cannot start a model worker: {error.strerror}") from error
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        worker = cls(process)
        try:
            reader, worker._writer = await asyncio.open_connection(sock=ours)
        except BaseException:
            ours.close()
            process.kill()
            raise
        worker._tasks = [
            asyncio.create_task(worker._read(reader), name="worker-read"),
            asyncio.create_task(worker._drain_stderr(), name="worker-stderr"),
            asyncio.create_task(worker._watch(), name="worker-watch"),
        ]
        worker.send(protocol.Hello(version=protocol.VERSION))
        return worker

    @property
    def busy(self) -> bool:
        """Whether a request is open."""
        return bool(self._channels)

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    async def load(self, order: protocol.Load, timeout_s: float) -> protocol.Ready:
        """Load a model; raises what the worker reports, :class:`WorkerDied` or a deadline."""
        self.send(order)
        deadline = asyncio.get_running_loop().time() + timeout_s
        while True:
            try:
                async with asyncio.timeout_at(deadline):
                    reply = await self._control.get()
            except TimeoutError:
                raise DeadlineExceeded(
                    f"the model was not loaded within {timeout_s:g} s",
                    hint="raise load_timeout_s, or choose a smaller model",
                ) from None
            if isinstance(reply, WorkerDied):
                raise reply
            if isinstance(reply, protocol.Failed):
                raise from_code(reply.code, reply.message, reply.hint)
            if isinstance(reply, protocol.Ready):
                return reply

    def send(self, message: protocol.Command) -> None:
        """Hand a message to the socket without waiting; to a dead worker it is lost."""
        if self._writer is not None and not self._writer.is_closing():
            self._writer.write(protocol.frame(message))

    def ping(self) -> None:
        """Ask for a pulse; :attr:`pulse` and :attr:`heard_at` change when it comes."""
        self.send(protocol.Ping(nonce=next(self._nonces)))

    def open_channel(self) -> Channel:
        """A channel with a fresh request id; raises when the worker is dead."""
        if self.died is not None:
            raise ModelError(self.died.message, hint=self.died.hint)
        channel = Channel(self, next(self._ids))
        self._channels[channel.id] = channel
        return channel

    def close_channel(self, channel: Channel) -> None:
        """Forget a request; one that has not ended is cancelled in the worker."""
        self._channels.pop(channel.id, None)
        if not channel.finished:
            self.send(protocol.Cancel(id=channel.id))

    def kill(self, because: str) -> None:
        """End it now, whatever it does; ``because`` is what its requests are told."""
        self._because = self._because or because
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
        if self._writer is not None:
            self._writer.close()

    async def reap(self) -> None:
        """Wait until the killed process is gone and its channels have been told."""
        await asyncio.wait(self._tasks[-1:], timeout=REAP_S)
        if not self.ended.is_set():  # the watch was cancelled: the event loop is shutting down
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(REAP_S):
                    await self._process.wait()
            self._tell(self._because or self.reason(), native=False)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def reason(self) -> str:
        """Why the process ended, in one line."""
        return reason_of(self._process.returncode, self._stderr.decode("utf-8", "replace"))

    async def _read(self, reader: asyncio.StreamReader) -> None:
        deframer = protocol.Deframer()
        clock = asyncio.get_running_loop().time
        try:
            while data := await reader.read(READ_BYTES):
                self.heard_at = clock()
                for body in deframer.feed(data):
                    try:
                        self._dispatch(protocol.decode_reply(body))
                    except protocol.Undecodable:
                        self.unreadable += 1
        except WireError as error:
            self._because = f"the model worker sent what is no message ({error.message})"
        except OSError:
            pass  # the process is gone; _watch says why
        # Without its socket a worker is of no use, whatever it still does. It has closed it by
        # dying, as a rule, and how it died is worth more than that the socket closed.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSED_S):
                await self._process.wait()
        if self._process.returncode is None:
            self.kill("the model worker closed its socket")

    def _dispatch(self, reply: protocol.AnyReply) -> None:
        if isinstance(reply, protocol.Pong):
            self.pulse = reply
            return
        request_id = getattr(reply, "id", protocol.LOAD_ID)
        if request_id == protocol.LOAD_ID:
            self._control.put_nowait(reply)
        elif (channel := self._channels.get(request_id)) is not None:
            channel.put(reply)

    async def _drain_stderr(self) -> None:
        stream = self._process.stderr
        while stream is not None and (data := await stream.read(READ_BYTES)):
            self._stderr = (self._stderr + data)[-KEPT_STDERR_BYTES:]

    async def _watch(self) -> None:
        code = await self._process.wait()
        # Give stderr's last lines and the socket's last frames the chance to arrive.
        await asyncio.wait(self._tasks[:2], timeout=0.5)
        self._tell(
            self._because or f"the model worker died ({self.reason()})",
            native=-code in NATIVE_FAULTS and not self._because,
        )

    def _tell(self, message: str, *, native: bool) -> None:
        """The end of the process, to everybody who waits for it."""
        self.died = WorkerDied(message, native=native)
        self._control.put_nowait(self.died)
        for channel in self._channels.values():
            channel.put(self.died)
        if self._writer is not None:
            self._writer.close()
        self.ended.set()


def reason_of(code: int | None, stderr: str) -> str:
    """Why a process ended, in one line, from its exit code and what it wrote.

    What it wrote is called the cause only where it may be one: whoever is killed from outside,
    or ends without an error line, has only last words, perhaps about something else.
    """
    if code is None:
        return "still running"
    cause = f"exit code {code}" if code >= 0 else f"signal {signal.Signals(-code).name}"
    killed = code == -signal.SIGKILL
    if killed:
        cause += ", perhaps for lack of memory"
    line = last_words(stderr)
    if not line:
        return cause
    return f"{cause}: {line}" if _tells(line) and not killed else f"{cause}; last words: {line!r}"


def last_words(stderr: str) -> str:
    """The line of a dead process's stderr that says most, without its Python traceback."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    telling = [line for line in lines if _tells(line)]
    return (telling or lines or [""])[-1][:300]


def _tells(line: str) -> bool:
    return any(word in line.lower() for word in ("error", "assert", "abort", "failed"))
