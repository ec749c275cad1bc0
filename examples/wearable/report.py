"""The report for the provider, as Markdown and as PDF, with plots made of insights.

It is written when the day is over, without anybody asking for it. matplotlib draws and fpdf2 makes
the PDF (extra ``reports``); without them the Markdown says what is not there.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from capabilities.standards.vitals import HIGH_FROM, MEDIUM_FROM, PARAMETERS
from examples._stage import Report
from examples.wearable.view import LIMITS, PHRASES

TITLE = "Anna's day: a report for her practice"
DPI = 110
Draw = Callable[[Any], None]


@dataclass(frozen=True)
class Part:
    """A piece of the report: a heading, a text, a table or a plot."""

    kind: str
    text: str = ""
    columns: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()
    name: str = ""
    draw: Draw | None = None


@dataclass
class Written:
    """The files that there are."""

    markdown: Path
    pdf: Path | None = None
    plots: list[Path] = field(default_factory=list)


def write(
    rounds: Sequence[Mapping[str, Any]],
    alarms: Mapping[str, float],
    left: Mapping[str, Any],
    group: Mapping[str, Any],
    folder: Path,
) -> Written:
    """Write ``report.md``, its plots and ``report.pdf`` into a folder."""
    parts = compose(rounds, alarms, left, group)
    report = Report(TITLE)
    for part in parts:
        if part.kind == "heading":
            report.heading(part.text)
        elif part.kind == "table":
            report.table(part.columns, part.rows)
        elif part.draw is not None:
            report.plot(part.name, part.text, part.draw)
        else:
            report.text(part.text)
    made = Written(report.write(folder))
    made.plots = sorted(folder.glob("*.svg"))
    made.pdf = write_pdf(parts, folder / "report.pdf")
    return made


def compose(
    rounds: Sequence[Mapping[str, Any]],
    alarms: Mapping[str, float],
    left: Mapping[str, Any],
    group: Mapping[str, Any],
) -> list[Part]:
    """What the report says, in order; no raw value is in it, since none came to the phone."""
    worst = max(rounds, key=lambda one: one["news2"] or 0)
    parts = [
        Part("text", "Written by Anna's phone without anybody asking. Not a diagnosis."),
        Part("heading", "In short"),
        Part(
            "text",
            f"The highest score was NEWS2 {worst['news2']} ({worst['level']} risk, partial) at"
            f' "{worst["title"]}"; she said: "{worst["feeling"]}"'
            f" Alarms sent: {len([one for one in rounds if one['alarm']])},"
            f" heard by the person of her choice: {len(alarms)}.",
        ),
        Part("plot", "NEWS2 by round and parameter", name="news2",
             draw=lambda a: _news2(a, rounds)),
        Part("heading", "Vital signs"),
        Part(
            "table",
            columns=(
                "round",
                *(f"{PARAMETERS[key].title}, {PARAMETERS[key].unit}" for key in PHRASES),
                "NEWS2",
                "risk",
            ),
            rows=tuple(
                (
                    str(one["title"]),
                    *(_sign(one, key) for key in PHRASES),
                    "unknown" if one["news2"] is None else str(one["news2"]),
                    str(one["level"]),
                )
                for one in rounds
            ),
        ),
        Part("text", "Medians of half an hour, extremes in brackets and NEWS2's points, if any."),
        Part("plot", "Medians and extremes of each round", name="signs",
             draw=lambda a: _signs(a, rounds)),
        Part("heading", "What was said and advised"),
    ]  # fmt: skip
    for one in rounds:
        said = [*one["answer"].splitlines()]
        parts.append(Part("text", f'{one["title"]}. She said: "{one["feeling"]}"'))
        parts.append(Part("text", "\n".join(f"- {line}" for line in said)))
    doubts = [
        (str(one["title"]), "; ".join([*one["conflicts"], *one["missing"], *one["stale"]]))
        for one in rounds
    ]
    rows = tuple((title, text) for title, text in doubts if text)
    parts += [
        Part("heading", "What is missing, old or contradictory"),
        Part("table", columns=("round", "what"), rows=rows or (("all", "nothing"),)),
        Part("heading", "What left each device"),
        Part(
            "table",
            columns=("device", "readings kept there", "insights told", "refused", "bytes sent"),
            rows=tuple(
                (
                    name,
                    str(one["readings_kept"]),
                    str(one["insights"]),
                    str(one["refused"]),
                    str(one["bytes_out"]),
                )
                for name, one in left.items()
            ),
        ),
        Part("text", "Bytes are all that the agent sent, gossip and encryption included."),
        Part("heading", "Beside others"),
        Part(
            "text",
            f"Mean of {group['inputs']} people by a secure sum: {group['means'][0]:.0f} steps,"
            f" {group['means'][1]:.1f} h asleep. Nobody's own figures were seen.",
        ),
        Part("heading", "Limits"),
        Part("text", "\n".join(f"- {line}" for line in LIMITS)),
        Part(
            "text",
            "Standard: Royal College of Physicians, National Early Warning Score (NEWS) 2, London"
            " 2017, SpO2 scale 1.",
        ),
    ]
    return parts


def _sign(one: Mapping[str, Any], key: str) -> str:
    claim = one["vitals"].get(key)
    if claim is None:
        return "missing"
    extremes = f" [{claim['low']:.1f}-{claim['high']:.1f}]" if claim["low"] < claim["high"] else ""
    points = one["points"][key]
    scored = f", {points} point{'s' if points > 1 else ''}" if points else ""
    return f"{claim['value']:.1f}{extremes}{scored}"


def _news2(axes: Any, rounds: Sequence[Mapping[str, Any]]) -> None:
    bottoms = [0] * len(rounds)
    places = range(len(rounds))
    for key in PHRASES:
        points = [one["points"].get(key, 0) for one in rounds]
        axes.bar(places, points, bottom=bottoms, label=PARAMETERS[key].title, width=0.6)
        bottoms = [low + more for low, more in zip(bottoms, points, strict=True)]
    for limit, name in ((MEDIUM_FROM, "medium"), (HIGH_FROM, "high")):
        axes.axhline(limit, color="grey", linewidth=0.8, linestyle="--")
        axes.text(-0.45, limit, name, va="bottom", fontsize=8)
    axes.set_xticks(list(places), _labels(rounds), fontsize=7)
    axes.set_ylim(0, max(HIGH_FROM + 1, *bottoms) + 0.5)
    axes.set_ylabel("NEWS2, partial (points)")
    axes.legend(fontsize=8, loc="upper right", ncols=2)


def _signs(axes: Any, rounds: Sequence[Mapping[str, Any]]) -> None:
    """Each parameter against its own normal band, so that all fit one axis."""
    for shift, key in enumerate(PHRASES):
        xs, ys, down, up = [], [], [], []
        for place, one in enumerate(rounds):
            claim = one["vitals"].get(key)
            if claim is None:
                continue
            xs.append(place + 0.08 * (shift - 1.5))
            value, low, high = (_in_band(key, claim[end]) for end in ("value", "low", "high"))
            ys.append(value)
            down.append(max(0.0, value - low))
            up.append(max(0.0, high - value))
        axes.errorbar(
            xs, ys, yerr=[down, up], fmt="o", capsize=3, markersize=4, label=PARAMETERS[key].title
        )
    axes.axhspan(0, 1, color="green", alpha=0.08)
    axes.set_xticks(range(len(rounds)), _labels(rounds), fontsize=7)
    axes.set_ylabel("0 to 1: the band of 0 points")
    axes.legend(fontsize=8, ncols=2)


def _labels(rounds: Sequence[Mapping[str, Any]]) -> list[str]:
    return [textwrap.fill(str(one["title"]), 14) for one in rounds]


def _in_band(key: str, value: float) -> float:
    """Where a value lies in the band that scores nothing: 0 its lower end, 1 its upper."""
    parameter = PARAMETERS[key]
    place = parameter.points.index(0)
    step = float(parameter.step)
    low = parameter.edges[place - 1] * step
    high = parameter.edges[place] * step if place < len(parameter.edges) else 100.0
    return (value - low) / (high - low)


def write_pdf(parts: Sequence[Part], file: Path) -> Path | None:
    """The same as PDF; None where fpdf2 or matplotlib is not installed."""
    try:
        import matplotlib as mpl
        from fpdf import FPDF
    except ImportError:
        return None
    from matplotlib.figure import Figure

    mpl.use("Agg")
    fonts = Path(mpl.get_data_path()) / "fonts" / "ttf"  # the PDF's own fonts lack most letters
    pdf = FPDF(format="A4")
    pdf.set_title(TITLE)
    pdf.add_font("DejaVu", "", str(fonts / "DejaVuSans.ttf"))
    pdf.add_font("DejaVu", "B", str(fonts / "DejaVuSans-Bold.ttf"))
    pdf.add_page()
    pdf.set_font("DejaVu", "B", 16)
    pdf.multi_cell(0, 9, TITLE, new_x="LMARGIN", new_y="NEXT")
    for part in parts:
        pdf.set_font("DejaVu", "", 9)
        if part.kind == "heading":
            pdf.ln(3)
            pdf.set_font("DejaVu", "B", 12)
            pdf.multi_cell(0, 7, part.text, new_x="LMARGIN", new_y="NEXT")
        elif part.kind == "table":
            pdf.set_font("DejaVu", "", 7)
            with pdf.table(text_align="LEFT") as table:
                for row in (part.columns, *part.rows):
                    made = table.row()
                    for cell in row:
                        made.cell(cell)
            pdf.ln(2)
        elif part.draw is not None:
            figure = Figure(figsize=(7.0, 3.2), layout="constrained")
            part.draw(figure.add_subplot())
            image = file.with_name(f"{part.name}.png")
            figure.savefig(image, dpi=DPI)
            pdf.image(str(image), w=pdf.epw)
            pdf.multi_cell(0, 5, part.text, new_x="LMARGIN", new_y="NEXT")
        else:
            pdf.multi_cell(0, 5, part.text, new_x="LMARGIN", new_y="NEXT")
            pdf.ln(1)
    pdf.output(str(file))
    return file
