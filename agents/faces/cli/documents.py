"""A question about a file: it goes to the agent in pieces, and the reading of it is shown."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from agents.faces.client import Result
from agents.faces.sheets import console, printable
from agents.faces.show import GRACE_S, print_json, status_line
from mesh.core.errors import ConfigError

if TYPE_CHECKING:
    from agents.faces.client import ControlClient

PIECE_CHARS = 32 * 1024  # a request is at most 256 KB, and JSON may write a character as six bytes


class DocumentQuestion(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked, of which file."""

    path: Path
    question: str
    reach: str
    timeout_s: float
    supervisor: str
    objective: str


async def ask_document(client: ControlClient, asked: DocumentQuestion, *, as_json: bool) -> int:
    """Ask and show; 0 when all that was asked was found, 1 when something was not."""
    document = ""
    for piece in _pieces(asked.path):
        sent = await client.fetch("document_put", {"document": document, "text": piece})
        document = str(sent["document"])
    args = {
        "document": document,
        "question": asked.question,
        "timeout_s": asked.timeout_s,
        "reach": asked.reach,
        "supervisor": asked.supervisor,
        "objective": asked.objective,
    }
    found: dict[str, Any] = {}
    stream = client.request("ask_document", args, silence_s=asked.timeout_s + GRACE_S)
    with status_line(f"reading {asked.path.name}", quiet=as_json) as say:
        async with contextlib.aclosing(stream):
            async for item in stream:
                if isinstance(item, Result):
                    found = dict(item.value or {})
                elif item.get("type") == "reading" and _worth_saying(item):
                    say(
                        f"round {item['round']}, {item['done']} of {item['jobs']} pieces read, "
                        f"{item['found']} found"
                    )
    if as_json:
        print_json(found)
    else:
        _show(found)
    return 1 if found["answer"]["degraded"] else 0


def _worth_saying(reading: dict[str, Any]) -> bool:
    """Each tenth of a round, and its end: a pipe gets a line for each."""
    done, jobs = int(reading["done"]), int(reading["jobs"])
    return done in {0, jobs} or done % max(1, jobs // 10) == 0


def _pieces(path: Path) -> list[str]:
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{path} is no UTF-8 text", hint="convert it to plain text first"
        ) from error
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from error
    if not text.strip():
        raise ConfigError(f"{path} is empty")
    return [text[at : at + PIECE_CHARS] for at in range(0, len(text), PIECE_CHARS)]


def _show(found: dict[str, Any]) -> None:
    out = console()
    answer = found["answer"]
    text = str(answer["text"])
    whole = printable(text, lines=True) if out.is_terminal else text
    out.file.write(whole.rstrip("\n") + "\n")
    aside = out if out.is_terminal else console(stderr=True)
    nodes = ", ".join(answer["nodes"]) or "nobody found anything"
    line = (
        f"{found['jobs']} of {found['chunks']} pieces' readings in {found['rounds']} rounds by "
        f"{found['worker']} ({nodes}), supervisor {found['supervisor']}, "
        f"{answer['elapsed_s']:.2f} s"
    )
    aside.print(printable(line), style="dim", soft_wrap=True)
    sys.stdout.flush()
