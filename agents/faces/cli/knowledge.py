"""``gossamer knowledge``: documents that a node answers from, and what it has learnt."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agents.faces.cli.common import AsJson, State, fetch, guarded, with_agent
from agents.faces.show import print_json

if TYPE_CHECKING:
    from agents.faces.client import ControlClient

knowledge_app = typer.Typer(
    help="What a node knows: documents, and answers that it learnt.", no_args_is_help=True
)
SEEN_CHARS = 160
SILENCE_S = 600.0  # reading a large PDF says nothing for a while

Domain = Annotated[
    str, typer.Option("--domain", metavar="NAME", help="What it is about: knowledge.gpt/NAME.")
]


def register(app: typer.Typer) -> None:
    """Add ``knowledge`` to the command line."""
    app.add_typer(knowledge_app, name="knowledge")


@knowledge_app.command(
    "add",
    epilog="Example:  gossamer knowledge add manuals/ --domain heating --access mesh\n\n"
    "Example:  gossamer knowledge add notes.md --domain house --access group:family --json",
)
def add(
    path: Annotated[
        Path, typer.Argument(help="A document, or a folder of them: txt, md, html, pdf.")
    ],
    domain: Domain = "documents",
    access: Annotated[
        str,
        typer.Option(
            "--access",
            metavar="WHO",
            help="Who may be answered from it: node, mesh or group:NAME,NAME.",
        ),
    ] = "node",
    days: Annotated[
        float, typer.Option("--days", min=0.0, help="Forget it after so many days; 0: never.")
    ] = 0.0,
    state: State = None,
    as_json: AsJson = False,
) -> None:
    """Read documents into the knowledge base; added again, a document takes its own place."""
    with guarded(as_json):
        asked = {
            "path": str(path.expanduser().resolve()),
            "domain": domain,
            "access": access,
            "days": days,
        }
        found = with_agent(state, lambda client: _added(client, asked, quiet=as_json))
        if as_json:
            print_json(found)
            return
        sys.stdout.write(
            f"{found['files']} document{'s' * (found['files'] != 1)}, "
            f"{found['passages']} passages, {found['new']} new\n"
        )
        name = f"knowledge.gpt/{domain}"
        if name in found["served"]:
            sys.stdout.write(f"this node answers {name} from them\n")
        elif access == "node":
            sys.stdout.write("this node uses them for its own questions\n")
        else:
            sys.stderr.write(
                f"{name} is not offered to others: a model of this node answers it already, or"
                " its certificate does not grant the name\n"
            )


async def _added(client: ControlClient, asked: dict[str, Any], *, quiet: bool) -> Any:
    from agents.faces.client import Result
    from agents.faces.sheets import printable

    shown = sys.stderr.isatty() and not quiet
    last: Any = None
    async for item in client.request("knowledge_add", asked, silence_s=SILENCE_S):
        last = item
        if isinstance(item, Result):
            break
        line = printable(f"{item['number']}/{item['files']} {item['file']}")
        if item["problem"]:
            sys.stderr.write(f"{line}: {printable(item['problem'])}\n")
        elif shown:
            sys.stderr.write(f"\r\x1b[K{line[:100]}")
            sys.stderr.flush()
    if shown:
        sys.stderr.write("\r\x1b[K")
    return last.value if isinstance(last, Result) else None


@knowledge_app.command("list", epilog="Example:  gossamer knowledge list --domain heating")
def list_(
    domain: Domain = "",
    state: State = None,
    as_json: AsJson = False,
) -> None:
    """Show what is known, by source, and who may see it."""
    with guarded(as_json):
        found = fetch(state, "knowledge_list", {"domain": domain})
        if as_json:
            print_json(found)
            return
        from agents.faces.sheets import Cell, Sheet, console, show_sheet

        rows: list[tuple[Cell | str, ...]] = [
            (s["source"], s["kind"], s["domain"], s["access"], str(s["entries"]))
            for s in found["sources"]
        ]
        headers = ("SOURCE", "KIND", "DOMAIN", "SEEN BY", "ENTRIES")
        if rows:
            show_sheet(Sheet(headers, rows, frozenset({"ENTRIES"})), console())
        sys.stdout.write(f"{found['entries']} entries, {found['bytes'] / 2**20:.1f} MB\n")


@knowledge_app.command(
    "search", epilog='Example:  gossamer knowledge search "how is the boiler drained?"'
)
def search(
    text: Annotated[str, typer.Argument(help="What is looked for, in words.")],
    domain: Domain = "",
    limit: Annotated[int, typer.Option("--limit", min=1, max=50, help="At most so many.")] = 5,
    state: State = None,
    as_json: AsJson = False,
) -> None:
    """Show the entries nearest in meaning; NEAR is the cosine of the two texts."""
    with guarded(as_json):
        found = fetch(state, "knowledge_search", {"text": text, "domain": domain, "limit": limit})
        if as_json:
            print_json(found)
            return
        from agents.faces.sheets import Cell, Sheet, console, show_sheet

        rows: list[tuple[Cell | str, ...]] = [
            (
                str(one["id"]),
                f"{one['cosine']:.2f}",
                one["source"],
                one["question"][:60],
                " ".join(one["text"].split())[:SEEN_CHARS],
            )
            for one in found
        ]
        if not rows:
            sys.stdout.write("nothing is known yet\n")
            return
        headers = ("ENTRY", "NEAR", "SOURCE", "TITLE", "TEXT")
        show_sheet(Sheet(headers, rows, frozenset({"ENTRY", "NEAR"})), console())


@knowledge_app.command(
    "remove",
    epilog="Example:  gossamer knowledge remove manual.pdf\n\n"
    "Example:  gossamer knowledge remove --domain heating",
)
def remove(
    source: Annotated[
        str, typer.Argument(help="A document or node, as list shows it.", show_default=False)
    ] = "",
    domain: Domain = "",
    entry: Annotated[
        list[int] | None, typer.Option("--entry", help="One entry; may be repeated.")
    ] = None,
    state: State = None,
    as_json: AsJson = False,
) -> None:
    """Forget a document, a domain or single entries."""
    if not (source or domain or entry):
        raise typer.BadParameter("say what to forget: a source, --domain or --entry")
    with guarded(as_json):
        asked = {"source": source, "domain": domain, "ids": entry or []}
        found = fetch(state, "knowledge_remove", asked)
        if as_json:
            print_json(found)
        else:
            sys.stdout.write(f"{found['removed']} entries forgotten\n")


@knowledge_app.command("feedback", epilog="Example:  gossamer knowledge feedback 17 --wrong")
def feedback(
    entry: Annotated[int, typer.Argument(min=1, help="The entry, as the trace names it.")],
    right: Annotated[
        bool, typer.Option("--right/--wrong", help="Whether the reused answer was right.")
    ],
    state: State = None,
    as_json: AsJson = False,
) -> None:
    """Say whether an answer from memory was right.

    A wrong one is forgotten, and who gave it is trusted less in its domain.
    """
    with guarded(as_json):
        found = fetch(state, "knowledge_feedback", {"entry": entry, "right": right})
        if as_json:
            print_json(found)
        else:
            sys.stdout.write(_feedback_told(found, right=right))


def _feedback_told(found: dict[str, Any], *, right: bool) -> str:
    if found["kind"] != "answer":
        return f"noted; a passage of {found['source']} stays until its document is removed\n"
    lines = ["confirmed" if right else "forgotten"]
    if found["trust"] is not None:
        lines.append(f"{found['source']} is trusted with {found['domain']}: {found['trust']:.2f}")
    return "; ".join([*lines, f"answers are reused from a cosine of {found['upper']:.3f}"]) + "\n"
