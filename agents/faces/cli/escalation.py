"""``gossamer escalation fit``: from a log of graded answers to the cascade's thresholds."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from agents.faces.cli.common import AsJson, guarded
from agents.faces.show import print_json

if TYPE_CHECKING:
    from agents.escalation.fitting import Question, Result

escalation_app = typer.Typer(
    help="When an answer is escalated: thresholds fitted on graded answers.", no_args_is_help=True
)
MAX_LINE_BYTES = 64 * 1024
MAX_LINES = 1_000_000


def register(app: typer.Typer) -> None:
    """Add ``escalation`` to the command line."""
    app.add_typer(escalation_app, name="escalation")


@escalation_app.callback()
def _group() -> None:
    """Keeps ``fit`` a subcommand while it is the only one."""


@escalation_app.command(
    "fit", epilog="Example:  gossamer escalation fit graded.jsonl --budget 0.002 --out cascade.json"
)
def fit_command(
    log: Annotated[
        Path,
        typer.Argument(
            help='One question a line: {"stages": [{"score": 0.8, "correct": 1, "cost": 0}, ...]}, '
            "the cloud's answer last.",
            exists=True,
            dir_okay=False,
        ),
    ],
    budget: Annotated[
        float, typer.Option("--budget", min=0.0, help="Mean cost of a question, at most.")
    ],
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE", help="Write the cascade here.", show_default=False),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Fit thresholds under a budget; every other line is kept back to try them on."""
    with guarded(as_json):
        from agents.escalation.fitting import evaluate, fit

        graded = read_log(log)
        tried = evaluate(fit(graded[::2], budget), graded[1::2])
        cascade = fit(graded, budget)
        if out is not None:
            out.write_bytes(msgspec.json.format(msgspec.json.encode(cascade), indent=2) + b"\n")
        if as_json:
            print_json({"cascade": cascade, "held_out": tried})
            return
        sys.stdout.write("".join(f"{line}\n" for line in _told(cascade.thresholds, tried)))
        if out is not None:
            sys.stdout.write(f'written to {out}; use it: [cloud] cascade = "{out}"\n')


def read_log(path: Path) -> list[Question]:
    """The questions of a log; raises :class:`~agents.escalation.fitting.LogInvalid`."""
    from agents.escalation.fitting import LogInvalid, Question

    found: list[Question] = []
    decoder = msgspec.json.Decoder(Question)
    with path.open("rb") as stream:
        while line := stream.readline(MAX_LINE_BYTES + 1):
            number = len(found) + 1
            if number > MAX_LINES:
                raise LogInvalid(f"{path} has more than {MAX_LINES} lines")
            if len(line) > MAX_LINE_BYTES:
                raise LogInvalid(f"line {number} has more than {MAX_LINE_BYTES} bytes")
            if not line.strip():
                continue
            try:
                found.append(decoder.decode(line))
            except (msgspec.MsgspecError, RecursionError, ValueError) as error:
                raise LogInvalid(f"line {number}: {error}") from error
    return found


def _told(thresholds: list[float], tried: Result) -> list[str]:
    believed = ", ".join(f"{t:.3f}" if t <= 1 else "never" for t in thresholds)
    return [
        f"believed from: {believed}",
        "on the half that was kept back:",
        f"  right {tried.accuracy:.3f} at {tried.cost:.6f} a question"
        f" ({tried.cloud_share:.0%} to the cloud, {tried.hopeless_share:.0%} hopeless)",
        f"  the first stage alone: right {tried.alone:.3f}",
        f"  always the cloud: right {tried.always_cloud:.3f} at {tried.always_cloud_cost:.6f}",
    ]
