"""What the pages say of commands and of each other is true; the site builds."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

from agents.faces.cli.app import app

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("docs/**/*.md"), *ROOT.glob("*.md")])
COMMAND = typer.main.get_command(app)
FENCE = re.compile(r"^( *)```(\w*)[^\n]*\n(.*?)^\1```", re.MULTILINE | re.DOTALL)
QUOTED = re.compile(r"`(gossamer(?: [^`]+)?)`")
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
MENTION = re.compile(r"\bdocs/[\w/.-]+\.(?:md|json|svg)\b")
HELP = {"-h", "--help"}
ELLIPSIS = {"...", "…"}


def quoted(text: str) -> Iterator[str]:
    """Each `gossamer ...` of a page, without what a shell does around it."""
    for _, language, body in FENCE.findall(text):
        if language in {"sh", "bash", "console", "shell", "text", ""}:
            yield from _in_shell(body)
    plain = FENCE.sub("", text)
    for found in QUOTED.findall(plain):
        yield from _in_shell(" ".join(found.split()))


def _in_shell(body: str) -> Iterator[str]:
    for line in body.replace("\\\n", " ").splitlines():
        for part in re.split(r"\s(?:\||\|\||&&|;|&)\s|\s&$|\s#\s.*$", line):
            stripped = re.sub(r"^\s*(?:\$\s+)?(?:[A-Z_]+=\S+\s+)*(?:sudo\s+)?", "", part)
            if re.match(r"gossamer\s+[a-z-]", stripped):
                yield stripped


def wrong_in(line: str) -> str:
    """What the command line does not know of a quoted command; empty when it knows all."""
    try:
        words = shlex.split(line.partition(" > ")[0])[1:]
    except ValueError:
        words = line.split()[1:]
    command, path = COMMAND, ["gossamer"]
    while words and (inner := getattr(command, "commands", None)) is not None:
        if words[0] in HELP | ELLIPSIS:
            return ""
        choices = words.pop(0).split("|")  # `gossamer model list|add` names two
        if strange := [choice for choice in choices if choice not in inner]:
            return f"{' '.join(path)} has no {strange[0]!r}"
        path.append(choices[0])
        command = inner[choices[0]]
    known = {option for one in command.params for option in (*one.opts, *one.secondary_opts)}
    for word in words:
        option = word.partition("=")[0].rstrip(",.")
        if re.match(r"--?[a-z]", option) and option not in known | HELP:
            return f"{' '.join(path)} has no option {option}"
    return ""


def test_there_is_something_to_check() -> None:
    lines = [line for page in PAGES for line in quoted(page.read_text())]
    assert len(lines) > 80
    assert {"ask", "mesh"} <= set(getattr(COMMAND, "commands", {}))


@pytest.mark.parametrize(
    ("line", "wrong"),
    [
        ("gossamer ask 'x' --reach node", ""),
        ("gossamer mesh create --help", ""),
        ("gossamer dance", "gossamer has no 'dance'"),
        ("gossamer mesh dance", "gossamer mesh has no 'dance'"),
        ("gossamer ask 'x' --loudly", "gossamer ask has no option --loudly"),
    ],
)
def test_a_command_that_does_not_exist_is_found(line: str, wrong: str) -> None:
    assert wrong_in(line) == wrong


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_quoted_command_exists(page: Path) -> None:
    found = [(line, wrong) for line in quoted(page.read_text()) if (wrong := wrong_in(line))]
    assert found == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_and_every_page_that_is_named_exists(page: Path) -> None:
    text = page.read_text()
    plain = FENCE.sub("", text)
    missing = []
    for target in LINK.findall(plain):
        path, _, anchor = target.partition("#")
        if re.match(r"[a-z]+:", target):
            continue
        there = (page.parent / path).resolve() if path else page
        if not there.exists() or (anchor and anchor not in anchors(there)):
            missing.append(target)
    missing += [name for name in MENTION.findall(text) if not (ROOT / name).exists()]
    assert missing == []


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings."""
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", page.read_text()), re.MULTILINE)
    return {
        re.sub(r"[\s-]+", "-", re.sub(r"[^\w\s-]", "", heading.lower()).strip())
        for heading in headings
    }


def test_every_page_and_command_that_the_code_names_exists() -> None:
    missing = []
    for folder in ("agents", "capabilities", "mesh", "examples", "benchmarks", "scripts"):
        for source in ROOT.glob(f"{folder}/**/*.py"):
            text = source.read_text()
            named = {name for name in MENTION.findall(text) if not (ROOT / name).exists()}
            named |= {wrong for found in QUOTED.findall(text) if (wrong := wrong_in(found))}
            missing += [f"{source.relative_to(ROOT)}: {name}" for name in sorted(named)]
    assert missing == []


def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    pytest.importorskip("material", reason="pip install 'gossamer-mesh[docs]'")
    pytest.importorskip("mkdocstrings", reason="pip install 'gossamer-mesh[docs]'")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)],
        cwd=ROOT,
        env={"NO_MKDOCS_2_WARNING": "1", "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    library = (tmp_path / "reference" / "library.html").read_text()
    assert "Reach the agent that runs on a state directory" in library
    commands = (tmp_path / "reference" / "commands.html").read_text()
    assert "Usage: gossamer ask" in commands
    # Nothing is fetched from elsewhere when a page is read.
    pages = [page.read_text() for page in tmp_path.rglob("*.html")]
    loads = r"<(?:script|img|iframe)[^>]+src=\"https?://|<link[^>]+stylesheet[^>]+https?://"
    assert not [page[:200] for page in pages if re.search(loads, page)]
