"""``gossamer simulate scheduling``: the article's hour, or a trace, under every policy."""

from __future__ import annotations

import sys
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agents.faces.cli.common import AsJson, guarded
from agents.faces.show import print_json
from mesh.core.errors import ConfigError

if TYPE_CHECKING:
    from agents.scheduling.sim.experiments import Summary

POLICIES_SHOWN = (
    "random",
    "weighted",
    "load_aware",
    "power_of_two",
    "prequal",
    "constrained_ucb",
    "predictive",
    "central_queue",
)
MAX_TRACE_BYTES = 256 << 20  # a week of a busy service; above it the machine would swap
INCHES = (7.2, 3.8)
DPI = 140


def scheduling(
    policy: Annotated[
        list[str] | None,
        typer.Option(
            "--policy",
            metavar="NAME",
            help="Only this one (may be repeated); package.module:attribute is your own.",
            show_default=False,
        ),
    ] = None,
    limit: Annotated[
        float,
        typer.Option("--limit", min=0.0, max=600.0, help="Longest wait for a slot, in seconds."),
    ] = 0.0,
    base: Annotated[
        float, typer.Option("--base", min=0.01, max=100.0, help="Requests per second.")
    ] = 1.5,
    burst: Annotated[
        float, typer.Option("--burst", min=0.01, max=100.0, help="And in a surge.")
    ] = 5.0,
    trace: Annotated[
        Path | None,
        typer.Option(
            "--trace",
            metavar="FILE",
            help="Arrivals of a real service (Azure's CSV, Mooncake's JSON lines) instead.",
            exists=True,
            dir_okay=False,
            show_default=False,
        ),
    ] = None,
    seeds: Annotated[int, typer.Option("--seeds", min=1, max=1000, help="How many runs.")] = 3,
    seed: Annotated[int, typer.Option("--seed", help="The first of the seeds.")] = 1,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="DIR", help="Write scheduling.png, .svg and .json here."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Replay an hour of a mesh of eight boards under each policy; what it rejects, the cloud does.

    Nothing is sent anywhere and nothing is paid. Costs are GPT-4's list prices.
    """
    with guarded(as_json):
        if out is not None:
            _plots()
        from agents.configure import POLICIES
        from agents.scheduling.sim.experiments import Bench, trace_load
        from agents.scheduling.sim.workload import jetsons, parse_trace

        chosen = tuple(policy or POLICIES_SHOWN)
        for name in chosen:
            if name != "central_queue":
                POLICIES.create(name)  # says at once if there is none
        load, boards = None, jetsons()
        if trace is not None:
            boards = jetsons(prompts=True)
            load = trace_load(parse_trace(_read(trace)), boards)
        told = _Progress(seeds * len(chosen))
        found = Bench(POLICIES.create, told).hour(
            chosen,
            range(seed, seed + seeds),
            base=base,
            burst=burst,
            limit_s=limit,
            requests=load,
            machines=boards,
        )
        told.end()
        rows = _rows(found)
        summary = {
            "load": trace.name if trace else f"{base:g}/{burst:g} requests per second",
            "limit_s": limit,
            "seeds": list(range(seed, seed + seeds)),
            "policies": rows,
        }
        if out is not None:
            _write(out, summary)
        if as_json:
            print_json(summary)
        else:
            sys.stdout.write(_table(summary))
            if out is not None:
                sys.stdout.write(f"written: {out / 'scheduling.png'}, .svg and .json\n")


class _Progress:
    """Which run of how many, on standard error; on one line where somebody watches."""

    def __init__(self, runs: int) -> None:
        self._runs, self._run = runs, 0
        self._watched = sys.stderr.isatty()

    def __call__(self, what: str) -> None:
        self._run += 1
        text = f"{self._run}/{self._runs} {what}"
        sys.stderr.write(f"\r\x1b[K{text}" if self._watched else f"{text}\n")
        sys.stderr.flush()

    def end(self) -> None:
        """Leave a clean line."""
        if self._watched:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()


def _read(path: Path) -> str:
    try:
        if path.stat().st_size > MAX_TRACE_BYTES:
            raise ConfigError(
                f"{path} is larger than {MAX_TRACE_BYTES >> 20} MB", hint="cut it to some hours"
            )
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {error}") from error


def _rows(found: dict[str, list[Summary]]) -> list[dict[str, Any]]:
    """One row a policy, means over the seeds; cost relative to the first policy."""
    first = mean(run.cost for run in next(iter(found.values())))
    return [
        {
            "policy": policy,
            "cost": round(mean(run.cost for run in runs), 4),
            "relative": round(mean(run.cost for run in runs) / first, 4) if first else 0.0,
            "cloud_share": round(mean(run.cloud_share for run in runs), 4),
            "first_token_p50_s": round(mean(run.first_token_p50 for run in runs), 3),
            "first_token_p99_s": round(mean(run.first_token_p99 for run in runs), 3),
            "completion_mean_s": round(mean(run.completion_mean for run in runs), 3),
            "requests": round(mean(run.requests for run in runs)),
        }
        for policy, runs in found.items()
    ]


def _table(summary: dict[str, Any]) -> str:
    rows = summary["policies"]
    lines = [
        f"{summary['load']}, {_runs(len(summary['seeds']))}, waiting at most "
        f"{summary['limit_s']:g} s; about {rows[0]['requests']} requests",
        "",
        f"{'policy':<16} {'cloud cost':>11} {'relative':>9} {'to cloud':>9} "
        f"{'first token p50/p99':>20} {'whole':>8}",
    ]
    for row in rows:
        latency = f"{row['first_token_p50_s']:.2f} / {row['first_token_p99_s']:.1f} s"
        lines.append(
            f"{row['policy']:<16} {row['cost']:>9.2f} $ {row['relative']:>9.3f} "
            f"{row['cloud_share']:>9.1%} {latency:>20} {row['completion_mean_s']:>6.1f} s"
        )
    if any(row["policy"] == "central_queue" for row in rows):
        lines += ["", "central_queue sees every node at once: no mesh can, it is the bound."]
    return "\n".join([*lines, "", ""])


def _runs(count: int) -> str:
    return "1 run" if count == 1 else f"{count} runs"


def _plots() -> None:
    """Raises :class:`ConfigError` where the library that draws is missing."""
    import importlib.util

    if importlib.util.find_spec("matplotlib") is None:
        raise ConfigError(
            "drawing needs matplotlib, which is not installed",
            hint="install gossamer-mesh[plots], or leave out --out and read the table",
        )


def _write(out: Path, summary: dict[str, Any]) -> None:
    import msgspec
    from matplotlib.figure import Figure

    rows = summary["policies"]
    names = [row["policy"].replace("_", " ") for row in rows]
    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / "scheduling.json").write_bytes(msgspec.json.encode(summary))
        figure = Figure(figsize=INCHES, dpi=DPI, layout="constrained")
        cost, share = figure.subplots(1, 2, sharey=True)
        bars = [
            cost.barh(names, [row["cost"] for row in rows], color="#1f6f8b"),
            share.barh(names, [100 * row["cloud_share"] for row in rows], color="#c8553d"),
        ]
        cost.set(xlabel="cloud cost of the hour ($)", title="What the cloud costs")
        share.set(xlabel="requests that go to the cloud (%)", title="What the mesh rejects")
        cost.invert_yaxis()  # in the order of the table
        for axes, drawn in zip((cost, share), bars, strict=True):
            axes.bar_label(drawn, fmt="%.1f", padding=3, fontsize=8)
            axes.margins(x=0.12)
            axes.grid(visible=True, axis="x", alpha=0.25)
            axes.set_axisbelow(True)
            axes.spines[["top", "right"]].set_visible(False)
        figure.suptitle(f"{summary['load']}, waiting at most {summary['limit_s']:g} s", fontsize=9)
        figure.savefig(out / "scheduling.png")
        figure.savefig(out / "scheduling.svg")
    except OSError as error:
        raise ConfigError(
            f"{out} cannot be written: {error.strerror}", hint="choose another folder"
        ) from error
