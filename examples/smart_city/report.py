"""What happened as a report: Markdown, with plots where matplotlib is installed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from examples._stage import Report

TITLES = {
    "alone": "The device alone",
    "together": "The town answers",
    "just_dead": "A station has just died",
    "station_dead": "The station is known to be silent",
    "station_lies": "A station lies",
    "road_closed": "A road is closed",
    "split": "The network is split",
    "healed": "The network is one again",
}


def written(result: dict[str, Any], folder: Path) -> Path:
    """Write it; returns the file."""
    acts = result["acts"]
    report = Report("A city of small agents")
    report.text(
        f"{result['agents']} agents, up in {result['start_s']:.1f} s, the whole run "
        f"{result['wall_s']:.0f} s. Made by `python -m examples.smart_city"
        f"{' --short' if result['short'] else ''} --report DIR`."
    )
    report.heading("Wall time against the sum of the steps")
    asked = [name for name in TITLES if name in acts]
    report.table(
        ("question", "steps", "nodes", "wall s", "sum of steps s", "missing"),
        [
            (
                TITLES[name],
                len(acts[name]["steps"]),
                len(acts[name]["nodes"]),
                f"{acts[name]['wall_s']:.2f}",
                f"{acts[name]['sum_of_steps_s']:.2f}",
                len(acts[name]["missing"]),
            )
            for name in asked
        ],
    )
    if "together" in acts:
        steps = acts["together"]["steps"]
        report.plot("steps", "When each step ran", lambda axes: _draw_steps(axes, steps))
    report.heading("What the stations said")
    report.text("Each line is a station as the roadside unit hears it; the thick one is counted.")
    report.plot("pm25", "PM2.5 by station", lambda axes: _draw_pm25(axes, result["pm25"]))
    for name in asked:
        _one(report, TITLES[name], acts[name])
    if "crowd" in acts:
        report.heading("A crowd, and the cloud's budget")
        report.table(("figure", "value"), list(acts["crowd"].items()))
    if "left" in acts:
        report.heading("What left each device")
        report.table(
            ("device", "bytes on its links, gossip included", "answers and streams that it ended"),
            [
                (name, left["bytes"], ", ".join(f"{k} x{c}" for k, c in left["served"].items()))
                for name, left in acts["left"].items()
            ],
        )
    return report.write(folder)


def _one(report: Report, title: str, act: dict[str, Any]) -> None:
    report.heading(title)
    first, *lines = act["text"].splitlines() or ["(nothing)"]
    judged, _, found = "\n".join(lines).partition("What was found:\n")
    report.text(f"**{first}**")
    if judged:
        report.text("\n".join(f"- {line}" for line in judged.splitlines()))
    if found:
        report.text(f"What was found:\n\n{found}")
    if act["plan_by_model"]:
        report.text(f"The model's plan: {act['plan_by_model']}. Taken: {act['plan']}.")
    report.text(f"Sources: {', '.join(act['sources']) or 'none'}.")
    for label, lines in (("Missing", act["missing"]), ("Noted", act["notes"])):
        if lines:
            report.text("\n".join([f"{label}:", "", *(f"- {line}" for line in lines)]))


def _draw_steps(axes: Any, steps: list[dict[str, Any]]) -> None:
    names = [f"{step['name'].split('.gpt/')[1]} @ {step['node'] or '-'}" for step in steps]
    axes.barh(names, [s["elapsed_s"] for s in steps], left=[s["started_s"] for s in steps])
    axes.invert_yaxis()
    axes.set_xlabel("seconds from the question")


def _draw_pm25(axes: Any, rows: list[tuple[float, dict[str, float]]]) -> None:
    for station in sorted({name for _, row in rows for name in row}):
        told = [(at, row.get(station, float("nan"))) for at, row in rows]
        wide = 2.5 if station == "together" else 1.0
        axes.plot([at for at, _ in told], [v for _, v in told], label=station, linewidth=wide)
    axes.set_yscale("log")
    axes.set_xlabel("seconds of the story")
    axes.set_ylabel("PM2.5, ug/m3")
    if rows:
        axes.legend(fontsize="small", ncols=3)
