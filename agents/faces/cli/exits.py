"""``gossamer model exits``: early exits for a model that was trained without."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agents.faces.cli.common import AsJson, guarded
from agents.faces.cli.models import Folder, Name
from agents.faces.show import print_json

if TYPE_CHECKING:
    from capabilities.segments.fitting import Made
    from capabilities.slm.store import Stored

MB = 2**20
TELL_TIMES = 10  # lines about one part of the work, where standard error is no terminal


def register(model_app: typer.Typer) -> None:
    """Add ``exits`` to ``gossamer model``."""
    example = "Example:  gossamer model exits mine.gguf --at 8 --at 16 --prompts questions.txt"
    model_app.command("exits", epilog=example)(exits)


def exits(
    name: Name,
    at: Annotated[
        list[int] | None,
        typer.Option(
            "--at", help="An exit after so many layers; may be given again (else two of them)."
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            help="The file to write (by default MODEL.exits.gguf beside the model, where split "
            "looks for it; of a shipped model, in this folder).",
            show_default=False,
        ),
    ] = None,
    prompts: Annotated[
        Path | None,
        typer.Option(
            "--prompts", help="Your own questions, one a line (else everyday ones are asked)."
        ),
    ] = None,
    answers: Annotated[
        int | None,
        typer.Option(
            "--answers",
            min=1,
            help="To fit on, and as many to calibrate on (by default 300, and as many as make "
            "every exit sure).",
            show_default=False,
        ),
    ] = None,
    tokens: Annotated[
        int, typer.Option("--tokens", min=1, max=512, help="Of one answer, at most.")
    ] = 48,
    seed: Annotated[int, typer.Option("--seed", help="Another one asks something else.")] = 7,
    threads: Annotated[int, typer.Option("--threads", min=0, help="0: chosen by measuring.")] = 0,
    models: Folder = None,
    as_json: AsJson = False,
) -> None:
    """Make early exits for any model, so that it can work on two machines.

    Each layer that is named gets a head of its own, a linear map fitted on what the model itself
    answers; how far it may be believed is measured on answers to other questions. The model stays
    as it is.
    """
    with guarded(as_json):
        from capabilities.segments import files, fitting, questions
        from capabilities.slm import store

        found = store.find(name, models or store.folder())
        layers = files.layers_of(found.path)
        own = None
        if prompts is not None:
            own = questions.of_file(_text(prompts), prompts.name)
        wish = fitting.Wish(
            at=tuple(sorted(set(at or fitting.thirds(layers)))),
            fitting=answers or fitting.ANSWERS,
            calibrating=answers or 0,
            tokens=tokens,
            seed=seed,
            own=own,
        )
        path = _target(found, output)
        with _progress() as report:
            made = asyncio.run(
                fitting.make_exits(found.path, wish, path, threads=threads, report=report)
            )
        if as_json:
            print_json(_facts(made))
        else:
            sys.stdout.write(_told(name, made))


def _target(model: Stored, output: Path | None) -> Path:
    from mesh.core.errors import ModelError

    file = f"{model.path.stem}.exits.gguf"
    path = output or (Path(file) if model.embedded else model.path.with_name(file))
    if path.is_dir():
        path = path / file
    if path.exists():
        raise ModelError(
            f"there is already {path}", hint="remove it, or write another with --output"
        )
    return path


def _text(path: Path) -> str:
    from mesh.core.errors import ModelError

    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no text in UTF-8"
        raise ModelError(
            f"cannot read the questions in {path}: {reason}", hint="write one question a line"
        ) from error


@contextlib.contextmanager
def _progress() -> Iterator[Callable[[str, int, int], None]]:
    """A bar for each part on the terminal; elsewhere a line now and then, on standard error."""
    from agents.faces.sheets import console

    out = console(stderr=True)
    if not out.is_terminal:
        yield _lines()
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    columns = ("{task.description}", BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    tasks: dict[str, Any] = {}
    with Progress(*columns, console=out, transient=True) as bar:

        def report(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bar.add_task(what, total=total)
            bar.update(tasks[what], completed=done)

        yield report


def _lines() -> Callable[[str, int, int], None]:
    told: dict[str, int] = {}

    def report(what: str, done: int, total: int) -> None:
        step = done * TELL_TIMES // max(1, total)
        if told.get(what) != step:
            told[what] = step
            sys.stderr.write(f"{what}: {done} of {total}\n")
            sys.stderr.flush()

    return report


def _told(model: str, made: Made) -> str:
    lines = [one.told() for one in made.exits]
    if made.left_out:
        lines.append(f"{made.left_out} questions were too long and left out")
    size = made.path.stat().st_size / MB
    lines.append(f"fitted on {made.rows} tokens of {made.answers} answers")
    lines.append(f"{made.path}: {size:.2f} MB, heads in {made.kind}")
    cuts = " ".join(f"--at {one.layer}" for one in made.exits)
    lines.append(f"use it with: gossamer model split {model} {cuts} --exit {made.path}")
    return "".join(f"{line}\n" for line in lines)


def _facts(made: Made) -> dict[str, Any]:
    return {
        "path": str(made.path),
        "mb": round(made.path.stat().st_size / MB, 2),
        "heads": made.kind,
        "exits": [one.facts() for one in made.exits],
        "fitted_on_answers": made.answers,
        "fitted_on_tokens": made.rows,
        "questions_left_out": made.left_out,
    }
