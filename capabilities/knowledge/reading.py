"""Files as text: plain text, Markdown, HTML, and PDF where pypdf is installed."""

from __future__ import annotations

from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

from mesh.core.errors import ConfigError

MAX_FILE_BYTES = 32 * 1024 * 1024
MAX_FILES = 10_000
TEXT = frozenset({".txt", ".md", ".markdown", ".rst", ".text", ".log"})
HTML = frozenset({".html", ".htm", ".xhtml"})
PDF = frozenset({".pdf"})
KNOWN = TEXT | HTML | PDF

_SILENT = {"script", "style", "template", "noscript", "svg", "head", "nav", "footer"}
_BLOCKS = {"p", "div", "li", "br", "tr", "section", "article", "blockquote", "pre", "dd", "dt"}
_HEADINGS = {f"h{level}": "#" * level for level in range(1, 7)}


class Unreadable(ConfigError):
    """A file that cannot be taken into the knowledge base."""


def files_of(path: Path) -> list[Path]:
    """The file itself, or every readable file below a folder, in order; hidden ones are left out.

    Raises :class:`Unreadable` when there is none.
    """
    if path.is_dir():
        found = sorted(
            file
            for file in path.rglob("*")
            if file.suffix.lower() in KNOWN
            and file.is_file()
            and not any(part.startswith(".") for part in file.relative_to(path).parts)
        )
        if not found:
            raise Unreadable(
                f"there is no document in {path}", hint=f"readable: {', '.join(sorted(KNOWN))}"
            )
        if len(found) > MAX_FILES:
            raise Unreadable(f"{path} holds more than {MAX_FILES} documents", hint="add its parts")
        return found
    if not path.exists():
        raise Unreadable(f"there is no file {path}")
    return [path]


def read_text(path: Path) -> str:
    """The text of a document, headings as in Markdown; raises :class:`Unreadable`."""
    kind = path.suffix.lower()
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise Unreadable(f"{path} is larger than {MAX_FILE_BYTES >> 20} MB", hint="split it")
        if kind in PDF:
            return "\n\n".join(_pages(path))
        raw = path.read_bytes()
    except OSError as error:
        raise Unreadable(f"{path} cannot be read: {error.strerror}") from error
    if kind not in TEXT | HTML and b"\0" in raw[:4096]:
        raise Unreadable(f"{path} is no text", hint=f"readable: {', '.join(sorted(KNOWN))}")
    text = raw.decode("utf-8", errors="replace")
    return html_text(text) if kind in HTML else text


def html_text(text: str) -> str:
    """What a reader of the page sees, headings as in Markdown."""
    reader = _Page()
    reader.feed(text)
    reader.close()
    lines = (" ".join(line.split()) for line in "".join(reader.pieces).splitlines())
    return "\n".join(lines)


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.pieces: list[str] = []
        self._silent = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in _SILENT:
            self._silent += 1
        elif tag in _HEADINGS:
            self.pieces.append(f"\n\n{_HEADINGS[tag]} ")
        elif tag in _BLOCKS:
            self.pieces.append("\n\n")

    def handle_endtag(self, tag: str) -> None:
        if tag in _SILENT:
            self._silent = max(0, self._silent - 1)
        elif tag in _HEADINGS or tag in _BLOCKS:
            self.pieces.append("\n\n")

    def handle_data(self, data: str) -> None:
        if not self._silent:
            self.pieces.append(data.replace("\n", " "))


def _pages(path: Path) -> Iterator[str]:
    try:
        from pypdf import PdfReader
        from pypdf.errors import PyPdfError
    except ImportError as error:
        raise Unreadable(
            f"{path.name} is a PDF, and nothing here reads one",
            hint="pip install 'gossamer-mesh[documents]', or save it as text",
        ) from error
    try:
        for page in PdfReader(path).pages:
            yield page.extract_text()
    except (PyPdfError, ValueError, KeyError, RecursionError) as error:
        raise Unreadable(f"{path} is no readable PDF: {error}") from error
