"""How peers, names and answers look to a person: tables on a terminal, plain columns in a pipe.

State is said by a word and a sign, never by colour alone. Text that came from a peer is made
printable first: an answer must not move the reader's cursor.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from typing import IO, TYPE_CHECKING, NamedTuple

from agents.halves import halves_line
from agents.views import AnswerView, CloudView, EndpointView, NameView, PeerView, StepView
from mesh.core.errors import GossamerError

if TYPE_CHECKING:
    from rich.console import Console

# Blue, yellow and magenta stay apart for the common kinds of colour blindness.
_STYLES = {"good": "blue", "warn": "yellow", "bad": "bold magenta", "dim": "dim", "": ""}
_STATES = {
    "alive": ("●", "good"),
    "suspect": ("◐", "warn"),
    "dead": ("✗", "bad"),
    "departed": ("○", "dim"),
}
_STEPS = {
    "ok": ("✓", "good"),
    "running": ("…", ""),
    "waiting": ("·", "dim"),
    "failed": ("✗", "bad"),
    "skipped": ("○", "dim"),
}
_CHECKS = {"ok": ("✓", "good"), "warn": ("!", "warn"), "fail": ("✗", "bad")}
# A hint that begins so is copied as it stands.
_COMMANDS = ("pip ", "gossamer ", "chmod ", "sudo ", "apt ")
# Letters, marks, spaces and the like; not the controls, which a terminal obeys, and not the
# format characters that turn the writing direction. The joiners of emoji and scripts stay.
_KEPT_FORMATS = {"\u200c", "\u200d"}


class Cell(NamedTuple):
    """One cell: its text, and one of the tones good, warn, bad, dim."""

    text: str
    tone: str = ""


class Sheet(NamedTuple):
    """A table as data. Columns named in ``right`` are aligned to the right; those in ``spare`` go,
    in this order, where a terminal has no room for all."""

    headers: tuple[str, ...]
    rows: list[tuple[Cell | str, ...]]
    right: frozenset[str] = frozenset()
    title: str = ""
    spare: tuple[str, ...] = ()


GAP = 3  # columns between two of a table, as rich draws it


def printable(text: str, *, lines: bool = False) -> str:
    """The text without what a terminal would obey; with ``lines``, line ends and tabs stay."""
    kept = {"\n", "\t"} if lines else set()
    return "".join(
        char
        if char in kept
        or char in _KEPT_FORMATS
        or unicodedata.category(char) not in {"Cc", "Cf", "Cs", "Co"}
        else ("" if lines else " ")
        for char in text
    )


def _signed(word: str, table: dict[str, tuple[str, str]]) -> Cell:
    sign, tone = table.get(word, ("?", "warn"))
    return Cell(f"{sign} {word}", tone)


def _number(value: float, digits: int = 0) -> str:
    return f"{value:.{digits}f}" if value > 0 else "-"


def _reach(peer: PeerView) -> Cell | str:
    """How the peer is reached; what it says of itself where that is not the usual."""
    way = peer.reach or "-"
    if peer.dialable in {"no", "some"}:
        return Cell(f"{way} (dialable: {peer.dialable})", "dim" if peer.reach != "none" else "warn")
    return way


def peers_sheet(peers: Iterable[PeerView]) -> Sheet:
    """Who is there, how they are, what they offer."""
    rows: list[tuple[Cell | str, ...]] = []
    for peer in peers:
        load = f"{peer.inflight}/{peer.slots}" if peer.slots else "-"
        if peer.queued:
            load += f" +{peer.queued}"
        state = _signed(peer.state, _STATES)
        if not peer.healthy and peer.state == "alive":
            state = Cell("! unwell", "warn")
        elif peer.draining and peer.state == "alive":
            state = Cell("‖ draining", "dim")
        rows.append(
            (
                f"{peer.name} (me)" if peer.me else peer.name,
                state,
                ", ".join(peer.names) or Cell("-", "dim"),
                ", ".join(peer.models) or Cell("-", "dim"),
                load,
                _number(peer.tokens_per_s, 1),
                _number(peer.round_trip_ms, 1),
                _reach(peer),
                peer.note,
            )
        )
    return Sheet(
        ("NODE", "STATE", "NAMES", "MODELS", "BUSY", "TOK/S", "RTT MS", "REACH", "NOTE"),
        rows,
        frozenset({"BUSY", "TOK/S", "RTT MS"}),
        spare=("MODELS", "REACH"),
    )


def names_sheet(names: Iterable[NameView]) -> Sheet:
    """What can be asked for, and who offers it."""
    rows: list[tuple[Cell | str, ...]] = []
    for name in names:
        offered = ", ".join(
            x.name if x.state == "alive" else f"{x.name} ({x.state})" for x in name.endpoints
        )
        rows.append((name.name, offered or Cell("nobody", "warn"), name.kind, name.description))
    return Sheet(("NAME", "OFFERED BY", "KIND", "WHAT IT IS"), rows)


def endpoints_sheet(endpoints: Iterable[EndpointView]) -> Sheet:
    """Who answers a name, best first."""
    rows: list[tuple[Cell | str, ...]] = [
        (
            f"{x.name} (me)" if x.me else x.name,
            _signed(x.state, _STATES),
            str(x.priority),
            str(x.weight),
            f"{x.load:.2f}",
            f"{x.accuracy:.1%}" if x.accuracy > 0 else "-",
        )
        for x in endpoints
    ]
    headers = ("NODE", "STATE", "PRIORITY", "WEIGHT", "LOAD", "ACCURACY")
    return Sheet(headers, rows, frozenset(headers[2:]))


def steps_sheet(steps: Iterable[StepView]) -> Sheet:
    """The route of an answer, step by step."""
    rows: list[tuple[Cell | str, ...]] = []
    for step in steps:
        node = step.node or "-"
        if len(step.attempts) > 1:
            node = " > ".join(step.attempts)
        rows.append(
            (
                step.name,
                node,
                _signed(step.status, _STEPS),
                f"{step.started_s:.2f}",
                f"{step.elapsed_s:.2f}",
                step.error or step.question,
            )
        )
    headers = ("NAME", "NODE", "STATUS", "FROM S", "TOOK S", "QUESTION")
    return Sheet(headers, rows, frozenset({"FROM S", "TOOK S"}))


def checks_sheet(checks: Iterable[tuple[str, str, str]]) -> Sheet:
    """What doctor found: name, status, value."""
    return Sheet(
        ("CHECK", "STATUS", "FOUND"),
        [(name, _signed(status, _CHECKS), value) for name, status, value in checks],
    )


def summary(answer: AnswerView) -> str:
    """One line under an answer: how many steps, where, how long, what is missing."""
    count = len(answer.steps)
    where = ", ".join(answer.nodes) or "no node"
    line = f"{count} step{'' if count == 1 else 's'} on {where} in {answer.elapsed_s:.2f} s"
    if answer.cost:
        line += f", the cloud cost {answer.cost:.6f}"
    if answer.degraded:
        missing = "; ".join(answer.missing)
        line += f"; degraded{f': {missing}' if missing else ''}"
    return printable(line)


def route_line(step: StepView) -> str:
    """One step in one line: name, node, time."""
    if step.status == "ok":
        end = f"{step.elapsed_s:.2f} s"
    else:
        end = f"{step.status}{f': {step.error}' if step.error else ''}"
    retried = f" (after {', '.join(step.attempts[:-1])})" if len(step.attempts) > 1 else ""
    paid = f"; {paid_line(step.cloud)}" if step.cloud is not None else ""
    two = f"; {halves_line(step.halves)}" if step.halves is not None else ""
    return printable(f"{step.name} on {step.node or 'no node'}{retried}, {end}{paid}{two}")


def paid_line(cloud: CloudView) -> str:
    """Who outside the mesh answered, for how much, and why it was asked."""
    about = "at most " if cloud.estimated else ""
    return (
        f"{cloud.provider} {cloud.model}, {cloud.prompt_tokens} + {cloud.completion_tokens} tokens,"
        f" {about}{cloud.cost:.6f} {cloud.currency}: {cloud.why}"
    )


def error_line(error: GossamerError) -> str:
    """An error with what to do next, as one line."""
    message = error.message.strip()
    if not error.hint:
        return printable(message)
    end = "" if message.endswith((".", "!", "?")) else "."
    hint = error.hint
    if not hint.startswith(_COMMANDS):  # those are copied as they stand
        hint = hint[:1].upper() + hint[1:]
    return printable(f"{message}{end} {hint}")


def _cell(cell: Cell | str) -> Cell:
    return cell if isinstance(cell, Cell) else Cell(cell)


def plain(sheet: Sheet) -> str:
    """A sheet as aligned columns without colour, for pipes and logs; nothing is cut."""
    table = [sheet.headers, *(tuple(_cell(c).text for c in row) for row in sheet.rows)]
    cells = [[printable(text) for text in row] for row in table]
    widths = [max(len(row[column]) for row in cells) for column in range(len(sheet.headers))]
    lines = []
    for row in cells:
        padded = [
            text.rjust(width) if header in sheet.right else text.ljust(width)
            for text, width, header in zip(row, widths, sheet.headers, strict=True)
        ]
        lines.append("  ".join(padded).rstrip())
    return "\n".join(lines)


def console(*, stderr: bool = False, file: IO[str] | None = None) -> Console:
    """A rich console that shows text as it is: no markup, no highlighting."""
    from rich.console import Console

    return Console(stderr=stderr, file=file, markup=False, highlight=False, emoji=False)


def show_sheet(sheet: Sheet, out: Console) -> None:
    """Print a sheet: a table on a terminal, plain columns elsewhere. Empty columns are left out."""
    sheet = _without_empty(sheet)
    if not out.is_terminal:
        out.file.write(plain(sheet) + "\n")
        return
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    sheet, left_out = _narrowed(sheet, out.width)
    table = Table(box=SIMPLE_HEAD, pad_edge=False, title=sheet.title or None)
    if left_out:
        table.caption = f"no room for {', '.join(left_out)}: a wider terminal, a pipe, or --json"
        table.caption_justify = "left"
    for header in sheet.headers:
        table.add_column(header, justify="right" if header in sheet.right else "left")
    for row in sheet.rows:
        cells = [_cell(cell) for cell in row]
        table.add_row(*(Text(printable(c.text), style=_STYLES[c.tone]) for c in cells))
    out.print(table)


def _narrowed(sheet: Sheet, width: int) -> tuple[Sheet, list[str]]:
    """Without as many of its spare columns as it takes to be read, and which those were: rich
    would make every column a little narrower, until none can be."""
    left_out: list[str] = []
    for spare in sheet.spare:
        if _least_width(sheet) <= width:
            break
        if spare in sheet.headers:
            sheet = _only(sheet, [i for i, header in enumerate(sheet.headers) if header != spare])
            left_out.append(spare)
    return sheet, left_out


def _least_width(sheet: Sheet) -> int:
    """Columns of a terminal in which no word is broken; lists break between their words."""
    rows = [sheet.headers, *(tuple(_cell(cell).text for cell in row) for row in sheet.rows)]
    return sum(
        GAP + max(max(map(len, row[column].split(", ")), default=0) for row in rows)
        for column in range(len(sheet.headers))
    )


def _only(sheet: Sheet, kept: Sequence[int]) -> Sheet:
    return sheet._replace(
        headers=tuple(sheet.headers[column] for column in kept),
        rows=[tuple(row[column] for column in kept) for row in sheet.rows],
    )


def _without_empty(sheet: Sheet) -> Sheet:
    def empty(column: int) -> bool:
        return all(_cell(row[column]).text in {"", "-"} for row in sheet.rows)

    kept: Sequence[int] = [
        column for column in range(len(sheet.headers)) if not sheet.rows or not empty(column)
    ]
    return _only(sheet, kept)
