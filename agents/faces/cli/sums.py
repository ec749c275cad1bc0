"""``gossamer sum``: a total over the mesh in which nobody's numbers can be seen."""

from __future__ import annotations

import enum
import sys
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agents.faces.cli.common import AsJson, State, guarded, with_agent
from agents.faces.show import GRACE_S, print_json

if TYPE_CHECKING:
    from agents.faces.sheets import Cell, Sheet


class KindName(enum.StrEnum):
    """What comes out."""

    SUM = "sum"
    MEAN = "mean"
    VARIANCE = "variance"
    HISTOGRAM = "histogram"


def register(app: typer.Typer) -> None:
    """Add ``sum`` to the command line."""
    app.command(
        "sum",
        epilog="Example:  gossamer sum machine --of load_per_core\n\n"
        "Example:  gossamer sum machine --of load_per_core --kind histogram --edges 0.5,1 --json",
    )(total)


def total(
    domain: Annotated[str, typer.Argument(help="Whose numbers: data.gpt/DOMAIN/secure_sum.")],
    of: Annotated[
        list[str], typer.Option("--of", metavar="READING", help="Which reading; may be repeated.")
    ],
    kind: Annotated[KindName, typer.Option("--kind", help="What comes out.")] = KindName.MEAN,
    edges: Annotated[
        str, typer.Option("--edges", metavar="A,B,...", help="Of a histogram, ascending.")
    ] = "",
    noise: Annotated[
        float, typer.Option("--noise", min=0.0, help="Standard deviation of noise in the result.")
    ] = 0.0,
    dropouts: Annotated[
        float,
        typer.Option(
            "--dropouts",
            min=0.0,
            max=1 / 3,
            help="Share of nodes that may fall silent, a third at most.",
            show_default="a third",
        ),
    ] = 1 / 3,
    bound: Annotated[
        float,
        typer.Option(
            "--bound", min=0.0, help="The largest number of one node.", show_default="a million"
        ),
    ] = 1e6,
    timeout: Annotated[
        float, typer.Option("--timeout", metavar="SECONDS", min=0.5, help="Give up after this.")
    ] = 30.0,
    state: State = None,
    as_json: AsJson = False,
) -> None:
    """Add up a reading of every node that takes part; nobody sees a single node's number."""
    with guarded(as_json):
        asked = {
            "domain": domain,
            "of": of,
            "kind": kind.value,
            "edges": _numbers(edges),
            "noise": noise,
            "dropouts": dropouts,
            "bound": bound,
            "timeout_s": timeout,
        }
        found: dict[str, Any] = with_agent(
            state,
            lambda client: client.fetch("secure_sum", asked, silence_s=timeout + GRACE_S),
        )
        if as_json:
            print_json(found)
            return
        from agents.faces.sheets import console, show_sheet

        show_sheet(_sheet(found), console())
        sys.stderr.write(_told(found))


def _numbers(text: str) -> list[float]:
    try:
        return [float(piece) for piece in text.split(",") if piece.strip()]
    except ValueError as error:
        raise typer.BadParameter(f"--edges takes numbers, such as 0.5,1: {error}") from error


def _sheet(found: dict[str, Any]) -> Sheet:
    from agents.faces.sheets import Sheet

    rows: list[tuple[Cell | str, ...]]
    if found["kind"] == KindName.HISTOGRAM:
        bounds = [f"{edge:g}" for edge in found["edges"]]
        ranges = [f"below {bounds[0]}", *map(" to ".join, pairwise(bounds))]
        ranges.append(f"{bounds[-1]} and more")
        rows = [(text, f"{n:g}") for text, n in zip(ranges, found["counts"], strict=True)]
        return Sheet((found["of"][0].upper(), "COUNT"), rows, frozenset({"COUNT"}))
    columns = [key for key in ("sums", "means", "variances") if found[key]]
    rows = [
        (name, *(f"{found[key][place]:.6g}" for key in columns))
        for place, name in enumerate(found["of"])
    ]
    headers = ("READING", *(key[:-1].upper() for key in columns))
    return Sheet(headers, rows, frozenset(headers[1:]))


def _told(found: dict[str, Any]) -> str:
    noise = f", with noise of {found['noise_std']:g}" if found["noise_std"] else ""
    lines = [f"{found['inputs']} nodes took part{noise}."]
    lines += [f"  without {name}: {why}" for name, why in found["problems"].items()]
    from agents.faces.sheets import printable

    return "".join(f"{printable(line)}\n" for line in lines)
