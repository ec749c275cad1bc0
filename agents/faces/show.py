"""What the command line shows: peers, answers, JSON, and that something is under way."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import msgspec

from agents.faces.client import ControlClient, Result
from agents.faces.sheets import console, peers_sheet, printable, show_sheet
from agents.faces.stream import AnswerStream
from agents.views import AnswerView, PeerView

__all__ = [
    "ask_and_show",
    "show_answer",
    "show_peers",
    "status_line",
    "print_json",
    "console",
    "peers_sheet",
    "show_sheet",
]

ASK_TIMEOUT_S = 60.0  # a small model on a small board writes an answer within it
GRACE_S = 10.0  # the agent keeps the deadline; this end waits a little longer for its word


def print_json(value: Any) -> None:
    """One JSON value on standard output; indented where a person reads it."""
    data = msgspec.json.encode(value)
    if sys.stdout.isatty():
        data = msgspec.json.format(data, indent=2)
    sys.stdout.write(data.decode() + "\n")
    sys.stdout.flush()


def show_peers(found: Any) -> None:
    """The result of the verb ``peers`` as a table."""
    show_sheet(peers_sheet(msgspec.convert(found, list[PeerView])), console())


async def ask_and_show(
    client: ControlClient,
    question: str,
    *,
    as_json: bool = False,
    reach: str = "mesh",
    timeout_s: float = ASK_TIMEOUT_S,
    policy: str = "",
    objective: str = "latency",
    wishes: Mapping[str, Any] | None = None,
) -> int:
    """Ask, show the answer as it comes and its route; 0 for an answer, 1 for none. ``wishes``
    are further arguments of the verb ``ask``."""
    args = {"question": question, "timeout_s": timeout_s, "reach": reach}
    args |= {"policy": policy} if policy else {}
    args |= {"objective": objective} if objective != "latency" else {}
    args |= wishes or {}
    if as_json:
        found = await client.fetch("ask", args, silence_s=timeout_s + GRACE_S)
        print_json(found)
        answer = msgspec.convert(found, AnswerView)
    else:
        answer = await show_answer(client, args)
    return 0 if answer.text.strip() else 1


async def show_answer(client: ControlClient, args: dict[str, Any]) -> AnswerView:
    """Ask and show; the route goes aside where the answer is piped."""
    out = console()
    shown = AnswerStream(out, out if out.is_terminal else console(stderr=True))
    answer = AnswerView(text="", degraded=True, elapsed_s=0.0, steps=[], nodes=[])
    stream = client.request("ask", args, silence_s=float(args["timeout_s"]) + GRACE_S)
    try:
        async with contextlib.aclosing(stream):
            async for item in stream:
                if isinstance(item, Result):
                    answer = msgspec.convert(item.value, AnswerView)
                else:
                    shown.event(item)
    except BaseException:
        shown.abandon()
        raise
    shown.finish(answer)
    return answer


@contextlib.contextmanager
def status_line(text: str, *, quiet: bool = False) -> Iterator[Callable[[str], None]]:
    """Say what is under way: one moving line on a terminal, else a line per change.

    Yields a function that takes the latest word on it. All of it is on standard error.
    """
    aside = console(stderr=True)
    if quiet:
        yield lambda _: None
    elif aside.is_terminal:
        with aside.status(text) as status:
            yield lambda latest: status.update(printable(f"{text}: {latest}"))
    else:
        said = ""

        def say(latest: str) -> None:
            nonlocal said
            if latest != said:
                said = latest
                aside.file.write(printable(f"{text}: {latest}") + "\n")

        yield say
