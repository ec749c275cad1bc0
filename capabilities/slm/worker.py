"""The process that runs one model: ``python -m capabilities.slm.worker --fd N --parent PID``.

It speaks :mod:`capabilities.slm.protocol` over an inherited socket and nothing else. A reader
thread takes commands and answers pings while the main thread computes; ctypes releases the GIL
during a decode step. It never outlives its agent: the kernel kills it when the agent dies, and
the end of the socket ends it wherever the kernel cannot.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import faulthandler
import os
import queue
import resource
import signal
import socket
import sys
import threading
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING

from capabilities.slm import protocol
from capabilities.slm.errors import Unsupported
from mesh.core.errors import FrameTooLarge, GossamerError, ModelError, WireError

if TYPE_CHECKING:
    from capabilities.slm.engine import Engine

READ_BYTES = 64 * 1024
EXIT_LOAD_FAILED = 3
EXIT_OUT_OF_STEP = 4
KEPT_LOG_LINES = 40
LOOK_S = 0.05  # between two looks at requests that wait while nothing computes
_PR_SET_PDEATHSIG = 1  # prctl(2), Linux


def main() -> int:
    """Run until the agent goes away."""
    parser = argparse.ArgumentParser(prog="capabilities.slm.worker")
    parser.add_argument("--fd", type=int, required=True, help="the inherited socket")
    parser.add_argument("--parent", type=int, required=True, help="the agent's process id")
    arguments = parser.parse_args()
    die_with(arguments.parent)
    # Ctrl-C in a terminal reaches the whole group; the agent decides when its models stop.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    faulthandler.enable()
    link = Link(socket.socket(fileno=arguments.fd))
    threading.Thread(target=link.read, name="reader", daemon=True).start()
    engine = load(link)
    if engine is None:
        return EXIT_LOAD_FAILED
    run(link, engine)
    return 0


def die_with(parent: int) -> None:
    """Ask the kernel to kill this process when its parent dies."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before the kernel was asked
        os._exit(0)


class Link:
    """The socket to the agent. Commands arrive in ``inbox``; anybody may send."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._sending = threading.Lock()
        # Not bounded here: the agent sends no more than it admits, and the engine refuses
        # what is above max_waiting as soon as it sees it.
        self.inbox: queue.SimpleQueue[protocol.AnyCommand] = queue.SimpleQueue()
        self.engine: Engine | None = None

    def send(self, replies: list[protocol.Reply]) -> None:
        """Send what a step produced in one write; blocks while the agent is not reading."""
        frames: list[bytes] = []
        for reply in replies:
            try:
                frames.append(protocol.frame(reply))
            except FrameTooLarge as error:
                request_id = getattr(reply, "id", protocol.LOAD_ID)
                frames.append(protocol.frame(protocol.failed(request_id, error)))
        try:
            with self._sending:
                self._sock.sendall(b"".join(frames))
        except OSError:
            os._exit(0)  # the agent is gone

    def read(self) -> None:
        """The reader thread: until the end of the socket, which is the end of the process."""
        deframer = protocol.Deframer()
        while True:
            try:
                data = self._sock.recv(READ_BYTES)
            except OSError:
                data = b""
            if not data:
                os._exit(0)
            try:
                bodies = deframer.feed(data)
            except FrameTooLarge as error:
                self.send([protocol.failed(protocol.LOAD_ID, error)])
                os._exit(EXIT_OUT_OF_STEP)
            for body in bodies:
                self._take(body)

    def _take(self, body: bytes) -> None:
        try:
            command = protocol.decode_command(body)
        except protocol.Undecodable as error:
            self.send([error.reply()])
            return
        if isinstance(command, protocol.Ping):
            steps, running, waiting = self.engine.load if self.engine else (0, 0, 0)
            kept, evicted, threads = self.engine.gauges if self.engine else (0, 0, 0)
            pong = protocol.Pong(
                nonce=command.nonce,
                steps=steps,
                running=running,
                waiting=waiting,
                rss_bytes=rss_bytes(),
                kept_tokens=kept,
                evicted_tokens=evicted,
                threads=threads,
            )
            self.send([pong])
        elif isinstance(command, protocol.Shutdown):
            os._exit(0)
        else:
            self.inbox.put(command)


def load(link: Link) -> Engine | None:
    """Greet, build the engine that the agent asks for, and say Ready or why not."""
    try:
        hello = link.inbox.get()
        if not isinstance(hello, protocol.Hello):
            raise WireError("the first message must be hello")
        if hello.version != protocol.VERSION:
            raise Unsupported(
                f"the agent speaks version {hello.version} of the worker protocol and this "
                f"worker version {protocol.VERSION}",
                hint="install both from the same release",
            )
        link.send([protocol.HelloReply(version=protocol.VERSION, pid=os.getpid())])
        order = link.inbox.get()
        if not isinstance(order, protocol.Load):
            raise WireError("the second message must be load")
        engine = build(order)
    except GossamerError as error:
        link.send([protocol.failed(protocol.LOAD_ID, error)])
        return None
    except MemoryError:
        too_large = ModelError(
            "this machine has not enough memory for the model",
            hint="choose a smaller quantization, or lower context_tokens",
        )
        link.send([protocol.failed(protocol.LOAD_ID, too_large)])
        return None
    link.engine = engine
    link.send([protocol.with_rss(engine.ready(), rss_bytes())])
    return engine


def build(order: protocol.Load) -> Engine:
    """The engine of an order; native libraries are imported only for the one that needs them."""
    if order.paced is not None:
        from capabilities.slm.paced import PacedEngine

        return PacedEngine(order.paced, order.settings)
    from capabilities.slm import header

    header.read(Path(order.path))  # refuse what is no model before native code is loaded
    from capabilities.slm import llama
    from capabilities.slm.llama_engine import LlamaEngine

    log = Log(verbose=order.settings.verbose)
    llama.start(log)
    try:
        return LlamaEngine(Path(order.path), order.settings)
    except ModelError as error:
        reason = log.reason()
        if type(error) is not ModelError or not reason:
            raise
        raise ModelError(f"{error.message}: {reason}", hint=error.hint) from error


class Log:
    """What llama.cpp says: warnings go to stderr, the last lines are kept for error reports."""

    def __init__(self, *, verbose: bool) -> None:
        self._least = 0 if verbose else 3  # ggml's levels: 2 info, 3 warning, 4 error
        self._lines: deque[tuple[int, str]] = deque(maxlen=KEPT_LOG_LINES)

    def __call__(self, level: int, text: str) -> None:
        """Take one piece of the log; called from native code."""
        line = text.strip(" .\n")
        if line:
            self._lines.append((level, line))
            if level >= self._least and level != 5:  # 5 continues a line of any level
                print(line, file=sys.stderr, flush=True)

    def reason(self) -> str:
        """The line that says why, without the function that wrote it."""
        errors = [line for level, line in self._lines if level == 4]
        marked = [line for line in errors if "error loading model" in line] or errors[:1]
        return marked[-1].split(": ", 1)[-1].removeprefix("error loading model: ") if marked else ""


def run(link: Link, engine: Engine) -> None:
    """The decode loop: take what has arrived, do one step, send what it gave."""
    busy = False
    while True:
        replies: list[protocol.Reply] = []
        if not busy:
            # What waits for an idle sequence to give way waits for time, not for a message.
            with contextlib.suppress(queue.Empty):
                timeout = LOOK_S if engine.load[2] else None
                engine.handle(link.inbox.get(timeout=timeout), replies.append)
        while True:
            try:
                command = link.inbox.get_nowait()
            except queue.Empty:
                break
            engine.handle(command, replies.append)
        busy = engine.step(replies.append)
        if replies:
            link.send(replies)


def rss_bytes() -> int:
    """Resident memory of this process; where /proc is missing, its peak."""
    statm = Path("/proc/self/statm")
    if statm.exists():
        return int(statm.read_text().split()[1]) * resource.getpagesize()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


if __name__ == "__main__":
    sys.exit(main())
