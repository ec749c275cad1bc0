"""``gossamer audit``: what was admitted, refused, revoked and escalated, and whether the log of
it still is what the agent wrote. It reads the files; the agent need not run."""

from __future__ import annotations

import datetime
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from agents.faces.cli.common import EXIT_FAILED, AsJson, State, guarded
from agents.faces.show import print_json

if TYPE_CHECKING:
    from mesh.core.audit_chain import Report

audit_app = typer.Typer(
    help="Look into the audit log: admissions, refusals, revocations, escalations.",
    no_args_is_help=True,
)


def register(app: typer.Typer) -> None:
    """Add ``audit`` to the command line."""
    app.add_typer(audit_app, name="audit")


@audit_app.command("verify", epilog="Example:  gossamer audit verify --kept 812:5f0c...")
def verify(
    state: State = None,
    kept: Annotated[
        str | None,
        typer.Option(
            "--kept",
            metavar="LINE:HASH",
            help="A line noted elsewhere earlier; this command prints the newest one.",
            show_default=False,
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Check the whole log: that no line was changed, removed or put in. Exit code 1 if one was."""
    with guarded(as_json):
        from mesh.net import audit

        folder = _folder(state)
        mesh, key = audit.owner(folder.parent)
        report = audit.verify_folder(folder, mesh=mesh, key=key, kept=_noted(kept))
        aside = audit.set_aside(folder)
        if as_json:
            print_json(
                {**msgspec.to_builtins(report), "ok": report.ok and not aside, "set_aside": aside}
            )
        else:
            sys.stdout.write("".join(f"{line}\n" for line in _told(report, aside)))
    raise typer.Exit(0 if report.ok and not aside else EXIT_FAILED)


@audit_app.command("show", epilog="Example:  gossamer audit show --what refusal --last 50")
def show(
    last: Annotated[int, typer.Option("--last", min=1, max=100_000, help="How many lines.")] = 20,
    what: Annotated[
        str, typer.Option("--what", metavar="KIND", help="Only these: refusal, admission, ...")
    ] = "",
    state: State = None,
    as_json: AsJson = False,
) -> None:
    """Show the newest lines of the log. It does not check them: ``verify`` does."""
    with guarded(as_json):
        from mesh.net import audit

        entries = audit.last_entries(_folder(state), last, what)
        if as_json:
            print_json([msgspec.to_builtins(entry) for entry in entries])
            return
        from agents.faces.sheets import Sheet, console, printable, show_sheet

        rows = [
            (
                datetime.datetime.fromtimestamp(entry.at).astimezone().isoformat(" ", "seconds"),
                entry.what,
                printable(entry.who),
                printable(", ".join(f"{key} {text}" for key, text in entry.detail.items())),
            )
            for entry in entries
            if entry.what != "checkpoint"
        ]
        show_sheet(Sheet(("WHEN", "WHAT", "WHO", "DETAIL"), list(rows)), console())


def _folder(state: Path | None) -> Path:
    """The log of the state directory that was named, or of the first in it that has one: a
    demo keeps one directory per node."""
    from agents.faces.door import DEMO_FOLDER, default_state
    from mesh.net.audit import audit_folder, files

    root = state or default_state()
    within = sorted([*root.glob("*/audit"), *root.glob(f"{DEMO_FOLDER}/*/audit")])
    places = [audit_folder(root), *within]
    return next((folder for folder in places if files(folder)), places[0])


def _noted(text: str | None) -> tuple[int, str] | None:
    if text is None:
        return None
    line, _, digest = text.partition(":")
    if not line.isdecimal() or len(digest) != 64:
        raise typer.BadParameter("a noted line is LINE:HASH, as verify prints it")
    return int(line), digest


def _told(report: Report, aside: list[str]) -> list[str]:

    told = [f"{report.lines} lines hold, {report.signed} of them signed for by this node's key"]
    if report.first > 1:
        told.append(f"lines before {report.first} were removed by the agent to keep the log small")
    if report.dropped:
        told.append(f"{report.dropped} events were lost: the disk did not keep up")
    if report.torn:
        told.append("the last line is incomplete, as after a power cut, or is being written")
    if report.broken:
        told.append(f"BROKEN at line {report.broken.line} of the log: {report.broken.why}")
    told += [f"BROKEN: {name} was found changed and set aside" for name in aside]
    if report.ok and report.lines:
        told.append("to see later that nothing was cut off or rewritten, note")
        told.append(f"  {report.last}:{report.head}")
    return told
