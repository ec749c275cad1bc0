"""A search over a town's records as a capability: SQLite's full text, and the web where configured.

[[capability]]
use = "examples.smart_city.records:Records"
options = { domain = "city_incidents", file = "incidents.jsonl", added = "state/added.jsonl" }
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import sqlite3
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import httpx
import msgspec

from capabilities.base import ACCEPTED, Admission, Capability, Occupancy, Request
from capabilities.messages import Done, Generate, decode, encode
from mesh.core.errors import CapabilityFailed, ConfigError
from mesh.core.records import ServedName

DATA = Path(__file__).with_name("data")
AT_ONCE = 8
FOUND = 3  # records in an answer
WEB_S = 5.0
MAX_WORDS = 24  # of a question that are looked for
_WORD = re.compile(r"[A-Za-z0-9]{3,}")
_COMMON = frozenset(
    {"the", "and", "are", "was", "were", "what", "which", "who", "where", "when", "there", "for"}
    | {"with", "from", "this", "that", "how", "any", "planned", "event", "events", "incident"}
    | {"incidents"}
)


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """A line of the file."""

    id: str
    date: str
    place: str
    title: str
    text: str


class Records(Capability):
    """Answers ``knowledge.gpt/<domain>`` from records, each with its number and date.

    ``added`` is a file of further records that may grow while it runs. ``web`` is the address of
    a SearXNG server (``http://host/search``): what it finds is told behind the records.
    """

    def __init__(self, domain: str, file: str, added: str = "", web: str = "") -> None:
        self._domain = domain
        self._file = DATA / file  # an absolute one stands for itself
        self._added = Path(added) if added else None
        self._web = web
        self._read = 0
        self._active = 0
        self._rows: sqlite3.Connection | None = None
        self.transport: httpx.AsyncBaseTransport | None = None

    @property
    def names(self) -> Sequence[ServedName]:
        """One name, by the domain."""
        about = self._domain.replace("_", " ")
        return (
            ServedName(
                name=f"knowledge.gpt/{self._domain}",
                domain=self._domain,
                description=f"Records of {about}, with number, place and date.",
                examples=(f"Which {about} are on record for the park?",),
            ),
        )

    async def start(self) -> None:
        """Read the records; raises :class:`ConfigError`."""
        rows = sqlite3.connect(":memory:", check_same_thread=False)
        rows.execute(
            "CREATE VIRTUAL TABLE record USING fts5("
            "id UNINDEXED, date UNINDEXED, place, title, text, tokenize = 'porter unicode61')"
        )
        self._rows = rows
        try:
            self._insert(self._file.read_text("utf-8"))
        except OSError as error:
            raise ConfigError(f"{self._file} cannot be read: {error.strerror}") from error

    async def stop(self) -> None:
        """Forget them."""
        if self._rows is not None:
            self._rows.close()
            self._rows = None

    def admit(self, request: Request) -> Admission:
        """A yes while fewer than AT_ONCE searches run."""
        if self._active >= AT_ONCE:
            return Admission(accepted=False, reason="too many searches", retry_after_s=0.5)
        return ACCEPTED

    async def serve(self, request: Request) -> AsyncIterator[bytes]:
        """Search, and tell what was found."""
        self._active += 1
        try:
            messages = decode(request.body, Generate).messages
            question = messages[-1].content if messages else ""
            found = [
                f"{r.title}, {r.place}, {r.date}: {r.text} [{r.id}]" for r in self.search(question)
            ]
            if self._web:
                found += await self._online(question)
            text = " ".join(found) or f"There is nothing on record in {self._domain}."
            yield encode(Done(text=text, finish="stop", model="SQLite FTS5"))
        finally:
            self._active -= 1

    def occupancy(self) -> Occupancy:
        """How many searches run."""
        return Occupancy(slots=AT_ONCE, inflight=self._active)

    def search(self, question: str) -> list[Record]:
        """The best records for the words of a question, the latest first among equals.

        A place that the question names must be the record's: a flood elsewhere is no answer.
        """
        assert self._rows is not None
        self._catch_up()
        words = [w for w in _WORD.findall(question) if w.lower() not in _COMMON][:MAX_WORDS]
        if not words:
            return []
        asked = " OR ".join(f'"{word}"' for word in words)
        rows = self._rows.execute(
            "SELECT id, date, place, title, text FROM record WHERE record MATCH ? "
            "ORDER BY round(bm25(record), 1), date DESC",
            (asked,),
        ).fetchall()
        found = [Record(id=i, date=d, place=p, title=t, text=x) for i, d, p, t, x in rows]
        there = [r for r in found if r.place.lower() in question.lower()]
        return (there or found)[:FOUND]

    def _catch_up(self) -> None:
        if self._added is None:
            return
        with contextlib.suppress(OSError):
            text = self._added.read_text("utf-8")
            whole = text[: text.rfind("\n") + 1]  # a line that is being written waits
            fresh, self._read = whole[self._read :], len(whole)
            self._insert(fresh)

    def _insert(self, lines: str) -> None:
        assert self._rows is not None
        for number, line in enumerate(lines.splitlines(), start=1):
            if not line.strip():
                continue
            try:
                r = msgspec.json.decode(line, type=Record)
            except msgspec.MsgspecError as error:
                raise ConfigError(f"line {number} is no record: {error}") from error
            self._rows.execute(
                "INSERT INTO record VALUES (?, ?, ?, ?, ?)",
                (r.id, r.date, r.place, r.title, r.text),
            )

    async def _online(self, question: str) -> list[str]:
        try:
            async with asyncio.timeout(WEB_S), httpx.AsyncClient(transport=self.transport) as web:
                reply = await web.get(self._web, params={"q": question, "format": "json"})
                reply.raise_for_status()
                results = reply.json()["results"][:FOUND]
                return [f"{r['title']}: {r.get('content', '')} [{r['url']}]" for r in results]
        except (httpx.HTTPError, TimeoutError, ValueError, KeyError, TypeError) as error:
            if not self._web.startswith(("http://", "https://")):
                raise CapabilityFailed(f"{self._web} is no address of a search") from error
            return ["The web could not be searched."]
