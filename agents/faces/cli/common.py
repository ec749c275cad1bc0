"""What every command shares: its options, how it speaks JSON, how it fails."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from agents.faces.client import ControlClient
from agents.faces.door import STATE_VARIABLE
from agents.faces.lines import problem_of
from agents.faces.sheets import error_line
from agents.faces.show import print_json
from mesh.core.errors import GossamerError, NameInvalid

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130  # 128 + SIGINT, as shells have it

State = Annotated[
    Path | None,
    typer.Option(
        "--state",
        envvar=STATE_VARIABLE,
        metavar="DIR",
        help="State directory of the agent to speak with (by default your own, or a running demo).",
        show_default=False,
        show_envvar=True,
    ),
]
# Of agents that are started here. The variable does not count: it says whom to speak with.
KeptState = Annotated[
    Path | None,
    typer.Option("--state", metavar="DIR", help="Keep the state here.", show_default=False),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON on standard output.")]
Timeout = Annotated[
    float, typer.Option("--timeout", metavar="SECONDS", help="Give up after this time.", min=0.1)
]

T = TypeVar("T")


@contextlib.contextmanager
def guarded(as_json: bool) -> Iterator[None]:
    """Turn what a command raises into an exit code, one line and, asked for, JSON.

    Anything that was not raised on purpose is a bug and keeps its traceback.
    """
    try:
        yield
    except GossamerError as error:
        sys.stderr.write(f"gossamer: {error_line(error)}\n")
        if as_json:
            problem = problem_of(error)
            print_json(
                {"error": {"code": problem.code, "message": problem.message, "hint": problem.hint}}
            )
        raise typer.Exit(EXIT_USAGE if isinstance(error, NameInvalid) else EXIT_FAILED) from None
    except KeyboardInterrupt:
        sys.stderr.write("\n")
        raise typer.Exit(EXIT_INTERRUPTED) from None
    except BrokenPipeError:
        # The reader has seen enough (``| head``); Python must not complain at exit either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(EXIT_FAILED) from None


def with_agent(state: Path | None, body: Callable[[ControlClient], Awaitable[T]]) -> T:
    """Run ``body`` with a connection to the agent of ``state``."""

    async def run() -> T:
        async with await ControlClient.connect(state) as client:
            return await body(client)

    return asyncio.run(run())


def fetch(state: Path | None, verb: str, args: dict[str, Any] | None = None) -> Any:
    """The result of one request to the agent of ``state``."""
    return with_agent(state, lambda client: client.fetch(verb, args))
