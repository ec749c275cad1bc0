"""``gossamer model``: the GGUF files of this machine."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agents.faces.cli.common import AsJson, guarded
from agents.faces.show import print_json

if TYPE_CHECKING:
    from capabilities.slm.header import Header
    from capabilities.slm.store import Stored

MB = 2**20

model_app = typer.Typer(help="Keep, fetch, measure and shrink models.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="Its name in the list, or the path of a GGUF file.")]
NewName = Annotated[
    str | None,
    typer.Option("--name", help="What to call it (by default, as the file).", show_default=False),
]
Folder = Annotated[
    Path | None,
    typer.Option(
        "--models",
        envvar="GOSSAMER_MODELS",
        metavar="DIR",
        help="Where models are kept (by default, your data directory).",
        show_default=False,
    ),
]


def register(app: typer.Typer) -> None:
    """Add ``model`` to the command line."""
    from agents.faces.cli import exits, segments

    segments.register(model_app)
    exits.register(model_app)
    app.add_typer(model_app, name="model")


@model_app.command("list", epilog="Example:  gossamer model list --json")
def list_(models: Folder = None, as_json: AsJson = False) -> None:
    """Show the shipped models and those that you keep."""
    with guarded(as_json):
        from capabilities.slm import store

        found = list(store.models(_folder(models)))
        if as_json:
            print_json([_facts(model) for model in found])
            return
        from agents.faces.sheets import Sheet, console, show_sheet

        rows: list[Any] = [
            (m.name, m.head.arch, f"{m.bytes / MB:.1f}", m.problem or _remark(m)) for m in found
        ]
        sheet = Sheet(("NAME", "ARCHITECTURE", "MB", "NOTE"), rows, right=frozenset({"MB"}))
        show_sheet(sheet, console())


@model_app.command("add", epilog="Example:  gossamer model add ~/Downloads/fish.gguf")
def add(
    file: Annotated[Path, typer.Argument(help="A GGUF file.")],
    name: NewName = None,
    models: Folder = None,
    as_json: AsJson = False,
) -> None:
    """Keep a GGUF file under a name (as a link where the disk allows it)."""
    with guarded(as_json):
        from capabilities.slm import store

        _say(store.add(file.expanduser(), name or file.stem, _folder(models)), as_json, "kept")


@model_app.command("info", epilog="Example:  gossamer model info builtin:arithmetic")
def info(name: Name, models: Folder = None, as_json: AsJson = False) -> None:
    """Show what a model's file says, and the memory that it will take."""
    with guarded(as_json):
        from capabilities.slm import header, memory, store

        model = store.find(name, _folder(models))
        head = model.head
        context = min(4096, int(head.scalars.get(f"{head.arch}.context_length", 4096)))
        need = memory.estimate(head, model.bytes, context_tokens=context, batch_tokens=256, rows=36)
        template = head.text("tokenizer.chat_template")
        facts = {
            **_facts(model),
            "title": head.text("general.name"),
            "trained_context": head.scalars.get(f"{head.arch}.context_length", 0),
            "vocabulary": head.vocabulary,
            "tensors": len(head.tensors),
            "segment": _segment(head),
            "exit": _exit(head),
            "chat_template": bool(template),
            "tools": "tools" in template,
            "memory_mb": round(need.total / MB),
            "memory_for_tokens": context,
            "sha256": header.file_sha256(model.path),
        }
        if as_json:
            print_json(facts)
            return
        from agents.faces.sheets import Sheet, console, show_sheet

        rows: list[Any] = [(key, str(value)) for key, value in facts.items() if value != ""]
        show_sheet(Sheet(("WHAT", "VALUE"), rows), console())


@model_app.command("bench", epilog="Example:  gossamer model bench builtin:arithmetic")
def bench(
    name: Name,
    streams: Annotated[int, typer.Option("--streams", min=1, max=32, help="At once.")] = 4,
    tokens: Annotated[int, typer.Option("--tokens", min=8, max=4096, help="For each.")] = 64,
    threads: Annotated[int, typer.Option("--threads", min=0, help="0: chosen by measuring.")] = 0,
    models: Folder = None,
    as_json: AsJson = False,
) -> None:
    """Measure the tokens per second that this machine gets from a model."""
    with guarded(as_json):
        from capabilities.slm import store
        from capabilities.slm.measuring import measure

        model = store.find(name, _folder(models))
        found = asyncio.run(measure(model.path, streams=streams, tokens=tokens, threads=threads))
        if as_json:
            print_json({"name": model.name, "synthetic": model.synthetic, **found})
            return
        sys.stdout.write("".join(f"{key} {value}\n" for key, value in found.items()))


@model_app.command("quantize", epilog="Example:  gossamer model quantize fish-f16 q8_0")
def quantize(
    name: Name,
    kind: Annotated[str, typer.Argument(help="f16, q8_0, q6_k, q5_k_m, q4_k_m, q4_0 or q3_k_m.")],
    new: NewName = None,
    models: Folder = None,
    as_json: AsJson = False,
) -> None:
    """Write a smaller copy of a model."""
    with guarded(as_json):
        from capabilities.slm import header, store
        from capabilities.slm.machine import cores
        from capabilities.slm.quantize import quantize as work

        at = _folder(models)
        model = store.find(name, at)
        stem = model.path.stem
        path = store.target(new or f"{stem}-{kind}", at)
        unfinished = store.part(path)
        try:
            work(model.path, unfinished, kind, threads=max(1, cores() - 1))
            unfinished.rename(path)
        finally:
            unfinished.unlink(missing_ok=True)
        made = store.Stored(path.stem, path, path.stat().st_size, head=header.read(path))
        _say(made, as_json, f"made from {model.bytes / MB:.1f} MB")


@model_app.command("remove", epilog="Example:  gossamer model remove fish")
def remove(
    name: Annotated[str, typer.Argument(help="Its name in the list.")],
    models: Folder = None,
    as_json: AsJson = False,
) -> None:
    """Delete a model that you keep."""
    with guarded(as_json):
        from capabilities.slm import store

        path = store.remove(name, _folder(models))
        if as_json:
            print_json({"removed": str(path)})
            return
        sys.stdout.write(f"{path.stem} is gone\n")


@model_app.command("pull", epilog="Example:  gossamer model pull Qwen/Qwen2.5-0.5B-Instruct-GGUF")
def pull(
    reference: Annotated[str, typer.Argument(metavar="REPO[:FILE]", help="On the hub.")],
    name: NewName = None,
    endpoint: Annotated[
        str | None,
        typer.Option("--endpoint", help="Another hub.", envvar="HF_ENDPOINT", show_default=False),
    ] = None,
    models: Folder = None,
    as_json: AsJson = False,
) -> None:
    """Fetch a model from the Hugging Face hub; given again, it goes on where it stopped."""
    with guarded(as_json):
        from capabilities.slm import hub

        with _progress(reference) as report:
            made = hub.pull(
                reference, _folder(models), name=name or "", endpoint=endpoint, report=report
            )
        _say(made, as_json, "fetched")


@model_app.command("synth", epilog="Example:  gossamer model synth --like qwen2.5-0.5b")
def synth(
    like: Annotated[str, typer.Option("--like", help="The real model whose shape it has.")],
    quant: Annotated[str, typer.Option("--quant", help="q8_0, q4_k or f16.")] = "q8_0",
    name: NewName = None,
    models: Folder = None,
    as_json: AsJson = False,
) -> None:
    """Write a model with random weights: for timing only, and marked so."""
    with guarded(as_json):
        from capabilities.slm import header, store
        from capabilities.slm import synth as making

        path = store.target(name or f"synthetic-{like}-{quant}", _folder(models))
        making.write(path, like, quant)
        made = store.Stored(path.stem, path, path.stat().st_size, head=header.read(path))
        _say(made, as_json, "written")


@contextlib.contextmanager
def _progress(what: str) -> Iterator[Callable[[int, int], None]]:
    """A bar on the terminal; nothing where standard error is no terminal."""
    from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn

    from agents.faces.sheets import console

    out = console(stderr=True)
    columns = (BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=out, transient=True, disable=not out.is_terminal) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _folder(given: Path | None) -> Path:
    from capabilities.slm import store

    return given or store.folder()


def _facts(model: Stored) -> dict[str, Any]:
    return {
        "name": model.name,
        "path": str(model.path),
        "mb": round(model.bytes / MB, 1),
        "arch": model.head.arch,
        "embedded": model.embedded,
        "synthetic": model.synthetic,
        "problem": model.problem,
    }


def _segment(head: Header) -> str:
    if "gossamer.segment.first" not in head.scalars:
        return ""
    first, last, layers, model = (
        head.scalars[f"gossamer.segment.{key}"] for key in ("first", "last", "layers", "model")
    )
    return f"layers {first}-{last} of {layers} of {model}"


def _exit(head: Header) -> str:
    """How far the early exit of a segment is believed."""
    from capabilities.segments import calibration, files

    one = calibration.read(head.scalars, files.CONFIDENCE)
    return one.told() if one.fitted else ""


def _remark(model: Stored) -> str:
    if cut := _segment(model.head):
        return cut
    if model.synthetic:
        return "random weights, for timing only"
    return "shipped" if model.embedded else ""


def _say(model: Stored, as_json: bool, done: str) -> None:
    if as_json:
        print_json(_facts(model))
        return
    sys.stdout.write(f"{model.name}: {done}, {model.bytes / MB:.1f} MB, {model.path}\n")
    sys.stdout.write(f'use it with: path = "{model.path}" under [[model]] of your configuration\n')
