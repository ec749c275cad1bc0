"""What the site adds to its pages: each command's own help, and a place for every page."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

PAGE = "reference/commands.md"


def on_config(config: Any) -> Any:
    """What MkDocs calls first: pages that mkdocs.yml does not place stand under More."""
    placed = set(_pages(config.nav))
    docs = Path(config.docs_dir)
    found = sorted(path.relative_to(docs).as_posix() for path in docs.rglob("*.md"))
    if more := [page for page in found if page not in placed]:
        config.nav.append({"More": more})
    return config


def _pages(nav: Any) -> Iterator[str]:
    if isinstance(nav, str):
        yield nav
    for item in nav.values() if isinstance(nav, dict) else nav if isinstance(nav, list) else ():
        yield from _pages(item)


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """What MkDocs calls for each page."""
    if page.file.src_uri == PAGE:
        return markdown + "\n" + "\n".join(sections())
    return markdown


def sections() -> Iterator[str]:
    """A heading and the help of each command."""
    for path, command in commands():
        context = command.context_class(
            command, info_name=path, help_option_names=["-h", "--help"], terminal_width=88
        )
        yield f"## {path}\n\n```text\n{command.get_help(context).rstrip()}\n```\n"


def commands() -> Iterator[tuple[str, Any]]:
    """Every command that does something, by its words."""
    from agents.faces.cli.app import app

    yield from _below("gossamer", typer.main.get_command(app))


def _below(path: str, command: Any) -> Iterator[tuple[str, Any]]:
    inner = getattr(command, "commands", None)
    if inner is None:
        yield path, command
        return
    for name in sorted(inner):
        yield from _below(f"{path} {name}", inner[name])
