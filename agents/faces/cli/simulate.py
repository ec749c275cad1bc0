"""``gossamer simulate``: the mesh's own protocol under virtual time, in this process.

Nothing is sent anywhere; a thousand nodes take less than a minute.
"""

from __future__ import annotations

import math
import sys
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Annotated

import typer

from agents.faces.cli.common import EXIT_FAILED, AsJson, guarded
from agents.faces.cli.simulate_scheduling import scheduling
from agents.faces.show import print_json
from mesh.core.errors import ConfigError

if TYPE_CHECKING:
    from mesh.sim.spread import Curve

BAR_CELLS = 50
ROWS = 24
PNG_INCHES = (7.0, 4.2)
PNG_DPI = 120

simulate_app = typer.Typer(
    help="Try the mesh's protocols on simulated nodes.", no_args_is_help=True
)


def register(app: typer.Typer) -> None:
    """Add ``simulate`` to the command line."""
    simulate_app.command(
        "scheduling",
        epilog="Example:  gossamer simulate scheduling --limit 5 --seeds 20 --out figures",
    )(scheduling)
    app.add_typer(simulate_app, name="simulate")


@simulate_app.callback()
def _simulate() -> None:
    """Try the mesh's protocols on simulated nodes, under virtual time."""


@simulate_app.command(
    "gossip",
    epilog="Example:  gossamer simulate gossip --nodes 1000 --loss 0.25 --datagram --out curves",
)
def gossip(
    nodes: Annotated[int, typer.Option("--nodes", min=2, max=4000, help="How many.")] = 100,
    loss: Annotated[
        float, typer.Option("--loss", min=0.0, max=0.9, help="Share of packets lost.")
    ] = 0.0,
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="How many runs.")] = 1,
    seed: Annotated[int, typer.Option("--seed", help="The first of the seeds.")] = 1,
    datagram: Annotated[
        bool,
        typer.Option("--datagram", help="What is lost stays lost. (TCP sends it again, later.)"),
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="DIR", help="Write gossip.png and gossip.json here."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show how fast a piece of news reaches every node. Exit code 1 if it never does."""
    with guarded(as_json):
        if out is not None:
            _plots()  # before minutes are spent on what cannot be drawn
        from mesh.sim.network import Link
        from mesh.sim.spread import spread

        link = Link(loss=loss, datagram=datagram)
        curves = []
        for number in range(seed, seed + seeds):
            curves.append(spread(number, nodes, link, told=_Progress(number)))
        way = "datagrams" if datagram else "TCP"
        title = f"{nodes} nodes, {loss:.0%} of packets lost, {way}"
        summary = _summary(curves, loss, way)
        if out is not None:
            _write(out, curves, summary, title)
        if as_json:
            print_json(summary)
        else:
            sys.stdout.write("\n".join([title, "", *_drawn(curves), "", *_told(curves), ""]))
            if out is not None:
                sys.stdout.write(f"written: {out / 'gossip.png'}, {out / 'gossip.json'}\n")
    raise typer.Exit(0 if all(curve.known[-1] == nodes for curve in curves) else EXIT_FAILED)


class _Progress:
    """What is being done, on standard error; on one line where somebody watches."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._last = ""

    def __call__(self, what: str, share: float) -> None:
        watched = sys.stderr.isatty()
        text = f"seed {self._seed}: {what}" + (f" {share:.0%}" if share and watched else "")
        if text == self._last:
            return
        self._last = text
        end = "" if watched and share < 1.0 else "\n"
        sys.stderr.write(f"\r\x1b[K{text}{end}" if watched else f"{text}\n")
        sys.stderr.flush()


def _summary(curves: list[Curve], loss: float, way: str) -> dict[str, object]:
    def reached(share: float) -> list[float | None]:
        times = [curve.reached_s(share) for curve in curves]
        return [None if math.isinf(time) else time for time in times]

    return {
        "nodes": curves[0].nodes,
        "loss": loss,
        "links": way,
        "seeds": [curve.seed for curve in curves],
        "half_s": reached(0.5),
        "all_s": reached(1.0),
        "payload_bytes_per_node": [round(c.payload_bytes / c.nodes) for c in curves],
        "curves": [{"seed": c.seed, "times_s": c.times_s, "known": c.known} for c in curves],
    }


def _drawn(curves: list[Curve]) -> list[str]:
    """The median share of nodes that know, a bar per moment."""
    end = max(curve.times_s[-1] for curve in curves)
    step = max(end / ROWS, 0.02)
    lines = []
    for row in range(math.ceil(end / step) + 1):
        time = row * step
        share = median(curve.share_at(time + 1e-9) for curve in curves)
        bar = "█" * round(share * BAR_CELLS)
        lines.append(f"{time:6.2f} s  {bar:<{BAR_CELLS}} {share:7.1%}")
    return lines


def _told(curves: list[Curve]) -> list[str]:
    lines = []
    for curve in curves:
        every = curve.reached_s(1.0)
        spent = curve.payload_bytes / curve.nodes
        half = f"half of the nodes know after {curve.reached_s(0.5):.2f} s"
        whole = (
            f"all after {every:.2f} s"
            if every < math.inf
            else (f"{curve.nodes - curve.known[-1]} never did within {curve.times_s[-1]:.0f} s")
        )
        lines.append(f"seed {curve.seed}: {half}, {whole}; {spent:.0f} bytes sent per node")
    return lines


def _plots() -> None:
    """Raises :class:`ConfigError` where the library that draws is missing."""
    import importlib.util

    if importlib.util.find_spec("matplotlib") is None:
        raise ConfigError(
            "drawing a PNG needs matplotlib, which is not installed",
            hint="install gossamer-mesh[plots], or leave out --out and read the curve as text",
        )


def _write(out: Path, curves: list[Curve], summary: dict[str, object], title: str) -> None:
    import msgspec
    from matplotlib.figure import Figure

    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / "gossip.json").write_bytes(msgspec.json.encode(summary))
        figure = Figure(figsize=PNG_INCHES, dpi=PNG_DPI, layout="constrained")
        axes = figure.add_subplot()
        for curve in curves:
            shares = [100 * known / curve.nodes for known in curve.known]
            axes.step(curve.times_s, shares, where="post", color="#1f6f8b", alpha=0.8, lw=1.6)
        axes.set(xlabel="seconds since the news", ylabel="nodes that know it (%)", title=title)
        axes.set_ylim(0, 102)
        axes.set_xlim(left=0)
        axes.grid(visible=True, alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
        figure.savefig(out / "gossip.png")
    except OSError as error:
        raise ConfigError(
            f"{out} cannot be written: {error.strerror}", hint="choose another folder"
        ) from error
