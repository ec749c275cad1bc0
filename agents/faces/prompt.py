"""The prompt: questions in, streamed answers and their routes out, until /quit."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
import threading
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import msgspec

from agents.faces.client import ControlClient
from agents.faces.door import default_state
from agents.faces.sheets import (
    Sheet,
    console,
    endpoints_sheet,
    error_line,
    names_sheet,
    peers_sheet,
    printable,
    show_sheet,
    steps_sheet,
)
from agents.faces.show import ASK_TIMEOUT_S, show_answer
from agents.views import AnswerView, EndpointView, NameView, PeerView
from mesh.core.errors import GossamerError

PROMPT = "> "
HISTORY_FILE = "history"
MAX_HISTORY = 1000  # lines; a session of questions, not an archive
HELP = """\
Type a question, or:
  /peers          who is in the mesh
  /names          what can be asked for
  /resolve NAME   who would answer a name
  /write TEXT     a long text: one node outlines it, many write it
  /private FILE TEXT   the same, with a context that only this node reads
  /trace          how the last answer was decided
  /help           this
  /quit           leave (Ctrl-D does too; Ctrl-C stops an answer)"""

ReadLine = Callable[[str], str]


async def interact(
    client: ControlClient,
    *,
    timeout_s: float = ASK_TIMEOUT_S,
    reach: str = "mesh",
    history: Path | None = None,
    read_line: ReadLine | None = None,
) -> int:
    """Read questions and show answers until /quit, Ctrl-D or a second Ctrl-C in a row.

    While a line is typed the event loop stands still: line editing with history wants the main
    thread. An interrupt during an answer stops that answer alone; where the lines come from a
    pipe, it ends the session. ``history`` is a file, by default in the user's state directory.
    Returns 0; raises only when the agent is gone.
    """
    typed = read_line is not None or sys.stdin.isatty()  # a person is there, not a file
    session = _Session(client, timeout_s, reach, typed=typed)
    edited = typed and read_line is None
    editing = _line_editing(history or default_state() / HISTORY_FILE)
    with editing if edited else contextlib.nullcontext(), _own_interrupts():
        if typed:
            session.out.print("Ask something, or type /help", style="dim")
        interrupted = False
        while True:
            try:
                line = (read_line or input)(PROMPT if typed else "")
            except EOFError:
                if typed:
                    session.out.print()
                return 0
            except KeyboardInterrupt:
                if not typed:
                    raise  # nobody is there to press it again
                session.out.print("" if interrupted else "  (again, or Ctrl-D, to leave)")
                if interrupted:
                    return 0
                interrupted = True
                continue
            interrupted = False
            if line.strip() in {"/quit", "/exit", "/bye"}:
                return 0
            await session.take(line.strip())


class _Session:
    def __init__(self, client: ControlClient, timeout_s: float, reach: str, *, typed: bool) -> None:
        self.client = client
        self.typed = typed
        self.timeout_s = timeout_s
        self.reach = reach
        self.out = console()
        self.last: AnswerView | None = None

    async def take(self, line: str) -> None:
        """Do what one line asks; an error is one line and the prompt goes on."""
        try:
            if line.startswith("/"):
                await self._command(line)
            elif line and not self.typed:
                await self._ask(line)
            elif line and not await _until_interrupt(self._ask(line)):
                self.out.print("stopped", style="dim")
        except GossamerError as error:
            if self.client.lost:
                raise
            self.out.print(error_line(error), style="bold magenta", soft_wrap=True)

    async def _ask(self, question: str) -> None:
        args = {"question": question, "timeout_s": self.timeout_s, "reach": self.reach}
        self.last = await show_answer(self.client, args)

    async def _command(self, line: str) -> None:
        word, _, rest = line.partition(" ")
        match word:
            case "/peers":
                found = await self.client.fetch("peers")
                show_sheet(peers_sheet(msgspec.convert(found, list[PeerView])), self.out)
            case "/names":
                found = await self.client.fetch("names", {"pattern": rest.strip()} if rest else {})
                show_sheet(names_sheet(msgspec.convert(found, list[NameView])), self.out)
            case "/resolve" if rest.strip():
                found = await self.client.fetch("resolve", {"name": rest.strip()})
                views = msgspec.convert(found["endpoints"], list[EndpointView])
                show_sheet(endpoints_sheet(views), self.out)
            case "/write" | "/private" if rest.strip():
                await self._write(word, rest.strip())
            case "/trace":
                self._trace()
            case "/help" | "/?":
                self.out.print(HELP)
            case _:
                self.out.print(printable(f"no command {line}; /help lists them"))

    async def _write(self, word: str, rest: str) -> None:
        from agents.faces.cli.writing import read_private, write_and_show

        args = {"instruction": rest, "timeout_s": self.timeout_s, "reach": self.reach}
        if word == "/private":
            file, _, args["instruction"] = rest.partition(" ")
            args["private"] = read_private(Path(file))
        if self.reach == "cloud":
            args["strong"] = "cloud"
        work = write_and_show(self.client, args, as_json=False)
        if not self.typed:
            await work
        elif not await _until_interrupt(work):
            self.out.print("stopped", style="dim")

    def _trace(self) -> None:
        if self.last is None:
            self.out.print("nothing was asked yet")
            return
        if self.last.steps:
            show_sheet(steps_sheet(self.last.steps), self.out)
        if self.last.decisions:
            show_sheet(decisions_sheet(self.last.decisions), self.out)
        if self.last.trace:
            self.out.print(printable(f"trace {self.last.trace}"), style="dim")


def decisions_sheet(decisions: list[dict[str, object]]) -> Sheet:
    """Why it went as it went: one line per decision. Its inputs are in ``ask --json``."""
    rows = [
        (
            f"{_number(line, 'at_s'):.3f}",
            str(line.get("step") or "-"),
            str(line.get("rule", "")),
            _score(line),
            str(line.get("action", "")),
        )
        for line in decisions
    ]
    return Sheet(
        ("AT S", "STEP", "RULE", "SCORE", "WHAT WAS DONE"), list(rows), right=frozenset({"AT S"})
    )


def _number(line: dict[str, object], key: str) -> float:
    value = line.get(key)
    return float(value) if isinstance(value, int | float) else 0.0


def _score(line: dict[str, object]) -> str:
    score, threshold = _number(line, "score"), _number(line, "threshold")
    if not score and not threshold:
        return "-"
    return f"{score:.3g} of {threshold:.3g}" if threshold else f"{score:.3g}"


async def _until_interrupt(work: Coroutine[Any, Any, Any]) -> bool:
    """Run ``work`` to its end, or until Ctrl-C, which stops it alone; whether it ended."""
    task = asyncio.ensure_future(work)
    loop = asyncio.get_running_loop()
    pressed = False

    def press() -> None:
        nonlocal pressed
        pressed = True
        task.cancel()

    with contextlib.suppress(ValueError, RuntimeError):  # outside the main thread there is none
        loop.add_signal_handler(signal.SIGINT, press)
    try:
        await task
    except asyncio.CancelledError:
        if not pressed:
            raise
        return False
    finally:
        with contextlib.suppress(ValueError, RuntimeError):
            loop.remove_signal_handler(signal.SIGINT)
    return True


@contextlib.contextmanager
def _own_interrupts() -> Iterator[None]:
    """Let Ctrl-C end a blocking read: the handler of asyncio.run would only note it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextlib.contextmanager
def _line_editing(history: Path) -> Iterator[None]:
    """Arrow keys and a history that outlives the session; without readline, plain lines."""
    try:
        import readline
    except ImportError:
        yield
        return
    readline.set_history_length(MAX_HISTORY)
    with contextlib.suppress(OSError):
        readline.read_history_file(history)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):  # a full disk must not end a session in a traceback
            history.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            history.touch(mode=0o600)
            readline.write_history_file(history)
