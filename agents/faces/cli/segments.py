"""``gossamer model split`` and ``verify``: layer segments of a model, for two machines."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from agents.faces.cli.common import AsJson, guarded
from agents.faces.cli.models import Folder, Name
from agents.faces.show import print_json

MB = 2**20


def register(model_app: typer.Typer) -> None:
    """Add ``split`` and ``verify`` to ``gossamer model``."""
    example = "Example:  gossamer model split builtin:general --at 2 --at 4 -o segments"
    model_app.command("split", epilog=example)(split)
    example = "Example:  gossamer model verify builtin:general segments/general.*.gguf"
    model_app.command("verify", epilog=example)(verify)


def split(
    name: Name,
    at: Annotated[
        list[int] | None,
        typer.Option("--at", help="Cut after so many layers; may be given again."),
    ] = None,
    piece: Annotated[
        list[str] | None,
        typer.Option("--layers", metavar="A-B", help="One more segment, of these layers."),
    ] = None,
    exits: Annotated[
        Path | None,
        typer.Option(
            "--exit",
            help="Exit heads (by default, MODEL.exits.gguf beside it).",
            show_default=False,
        ),
    ] = None,
    into: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="A folder (by default, where models are kept)."),
    ] = None,
    check: Annotated[
        bool, typer.Option(help="Compute with whole and segments, and compare bit for bit.")
    ] = True,
    models: Folder = None,
    as_json: AsJson = False,
) -> None:
    """Cut a model into layer segments, without quantizing anything again.

    Each segment is a model file that a node may offer as computation.gpt/segment/MODEL/A-B.
    """
    with guarded(as_json):
        from capabilities.segments import files
        from capabilities.segments.check import verify as compare
        from capabilities.slm import store

        kept = models or store.folder()
        found = store.find(name, kept)
        layers = files.layers_of(found.path)
        pieces = [files.Range.parse(text) for text in piece or []]
        if at or not pieces:
            pieces = [*files.ranges_at(at or [], layers), *pieces]
        beside = found.path.with_name(f"{found.path.stem}.exits.gguf")
        heads = exits or (beside if beside.exists() else None)
        made = files.split(
            found.path,
            pieces,
            into or kept,
            exits=heads,
            report=lambda line: None if as_json else _say(line),
        )
        differences = compare(found.path, [one.path for one in made]) if check else {}
        if as_json:
            print_json([_facts(one, differences) for one in made])
        else:
            sys.stdout.write(_remarks(made, differences))
        if any(differences.values()):
            raise typer.Exit(1)


def verify(
    name: Name,
    segments: Annotated[list[Path], typer.Argument(help="Files that split has written.")],
    models: Folder = None,
    as_json: AsJson = False,
) -> None:
    """Check that segments compute what the whole model computes, bit for bit."""
    with guarded(as_json):
        from capabilities.segments.check import verify as compare
        from capabilities.segments.files import describe
        from capabilities.slm import store

        whole = store.find(name, models or store.folder())
        differences = compare(whole.path, segments)
        if as_json:
            print_json(differences)
        else:
            for file, difference in differences.items():
                sys.stdout.write(f"{file}  {_verdict(difference)}\n")
            sys.stdout.write(_exits([one for path in segments if (one := describe(path))]))
        if any(differences.values()):
            raise typer.Exit(1)


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")


def _verdict(difference: float) -> str:
    if difference == 0.0:
        return "bit for bit as the whole model"
    return f"differs from the whole model by up to {difference:.3g}: do not use it"


def _remarks(made: list[Any], differences: dict[str, float]) -> str:
    lines = []
    if differences:
        worst = max(differences.values())
        lines.append(f"checked: {_verdict(worst)}")
    if rows_only := [str(one.range) for one in made if not one.exit]:
        lines.append(
            f"layers {', '.join(rows_only)}: no exit head, so they hand on rows and no tokens"
        )
    return "".join(f"{line}\n" for line in lines) + _exits(made)


def _exits(segments: list[Any]) -> str:
    """How far each early exit is believed, a line each."""
    return "".join(
        f"exit after layer {one.range.last}: {one.calibration.told()}\n"
        for one in segments
        if one.exit and one.range.last < one.layers
    )


def _facts(one: Any, differences: dict[str, float]) -> dict[str, Any]:
    return {
        "path": str(one.path),
        "name": one.name,
        "layers": str(one.range),
        "of": one.layers,
        "exit": one.exit,
        "confidence": one.calibration.facts() if one.calibration.fitted else None,
        "mb": round(one.path.stat().st_size / MB, 1),
        "difference": differences.get(one.path.name),
    }
