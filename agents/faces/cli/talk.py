"""The commands that stream: ask, and call (one name, directly, without planning)."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from agents.faces.client import ControlClient, Result
from agents.faces.sheets import console, printable
from agents.faces.show import GRACE_S, ask_and_show, print_json
from agents.faces.stream import LiveText

if TYPE_CHECKING:
    from rich.console import Console


async def ask(
    client: ControlClient,
    question: str,
    reach: str,
    timeout_s: float,
    *,
    as_json: bool,
    policy: str = "",
    objective: str = "latency",
    wishes: Mapping[str, Any] | None = None,
) -> int:
    """Ask, show the answer as it comes and its route; the exit code."""
    return await ask_and_show(
        client,
        question,
        as_json=as_json,
        reach=reach,
        timeout_s=timeout_s,
        policy=policy,
        objective=objective,
        wishes=wishes,
    )


def wishes(
    language: str, max_age_s: float, min_accuracy: float, nodes: list[str]
) -> dict[str, Any]:
    """What the nodes must have, as arguments of the verb ``ask``; only what was said."""
    found = {
        "language": language,
        "max_data_age_s": max_age_s,
        "accuracy_floor": min_accuracy,
        "nodes": nodes,
    }
    return {key: value for key, value in found.items() if value}


class CallOptions(NamedTuple):
    """One call; of a subscription, ``enough`` messages are taken, 0 for all."""

    name: str
    text: str
    timeout_s: float
    enough: int = 0


async def call(client: ControlClient, options: CallOptions, *, as_json: bool) -> int:
    """Call one name and show what it says; messages of a subscription are lines of JSON."""
    args = {"name": options.name, "text": options.text, "timeout_s": options.timeout_s}
    out, messages = console(), 0
    text = LiveText(out)
    stream = client.request("call", args, silence_s=options.timeout_s + GRACE_S)
    try:
        async with contextlib.aclosing(stream):
            async for item in stream:
                if isinstance(item, Result):
                    if not messages:
                        _end(item.value or {}, text, out, as_json=as_json)
                elif item.get("type") == "message":
                    messages += 1
                    sys.stdout.write(msgspec.json.encode(item.get("value")).decode() + "\n")
                    sys.stdout.flush()
                    if messages == options.enough:
                        break
                elif item.get("type") == "delta" and not as_json:
                    text.write(str(item.get("text", "")), thinking=bool(item.get("thinking")))
    except BaseException:
        text.end_line()
        raise
    return 0


def _end(result: dict[str, Any], text: LiveText, out: Console, *, as_json: bool) -> None:
    if as_json:
        print_json(result)
        return
    text.finish(str(result.get("text", "")))
    took = f"{float(result.get('elapsed_s', 0.0)):.2f} s"
    where = f"{result.get('name', '')} on {result.get('node', '?')}".strip()
    aside = out if out.is_terminal else console(stderr=True)
    line = ", ".join(x for x in (where, took, str(result.get("finish", ""))) if x)
    aside.print(printable(line), style="dim", soft_wrap=True)
