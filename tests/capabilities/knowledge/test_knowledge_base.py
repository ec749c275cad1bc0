"""What a node knows: documents cut and read, entries kept, bounded, expired, hidden."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pytest

from capabilities.embedding.space import Space
from capabilities.embedding.static import shipped
from capabilities.knowledge.base import Added, KnowledgeBase
from capabilities.knowledge.cutting import LONGEST_CHARS, passages
from capabilities.knowledge.entry import (
    ANSWER,
    PASSAGE,
    Entry,
    Viewer,
    check_access,
    may_see,
)
from capabilities.knowledge.reading import Unreadable, html_text, read_text
from capabilities.knowledge.store import MB, KnowledgeFull, KnowledgeStore, StoreFailed
from mesh.core.errors import ConfigError

ME = Viewer(me=True)
GUEST = Viewer(node="aa", groups=("kids",))


def answer(question: str, text: str = "yes", **more: object) -> Entry:
    return Entry(kind=ANSWER, domain="d", question=question, text=text, source="abacus", **more)  # type: ignore[arg-type]


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def store_at(path: Path, clock: Clock | None = None, max_bytes: int = MB) -> KnowledgeStore:
    return KnowledgeStore(
        path / "k.sqlite3", shipped().space, max_bytes=max_bytes, wall=clock or Clock()
    )


def put(store: KnowledgeStore, *entries: Entry, key: str = "k") -> int:
    vectors = shipped().embed([entry.question for entry in entries])
    return store.add(entries, vectors, [key] * len(entries))


# -- access ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("label", "me", "guest"),
    [
        ("mesh", True, True),
        ("node", True, False),
        ("group:kids,staff", True, True),
        ("group:staff", True, False),
        ("member:aa", False, True),
        ("member:bb", False, False),
        ("everybody", False, False),
        ("", False, False),
        ("group:", True, False),
    ],
)
def test_a_label_says_who_may_see(label: str, me: bool, guest: bool) -> None:
    assert may_see(label, ME) == me
    assert may_see(label, GUEST) == guest


def test_a_label_that_says_nothing_is_refused() -> None:
    for label in ("", "all", "group:", "group:a,", "member:aa"):
        with pytest.raises(ConfigError, match="does not say who"):
            check_access(label)


# -- documents ------------------------------------------------------------------------------


def test_a_passage_keeps_its_headings_and_its_lines() -> None:
    found = passages("# Boiler\n\n## Draining\n\nClose the inlet.\nOpen the tap.\n", title="man")
    assert [(p.title, p.text, p.place) for p in found] == [
        ("man - Draining", "Close the inlet. Open the tap.", "lines 5 to 6")
    ]


def test_long_texts_are_cut_between_sentences_and_nothing_is_lost() -> None:
    text = " ".join(f"Sentence number {n} says something of its own." for n in range(400))
    found = passages(text + " " + "x" * 5000)
    assert max(len(p.text) for p in found) <= LONGEST_CHARS
    assert "".join("".join(p.text.split()) for p in found) == "".join((text + "x" * 5000).split())


def test_a_page_is_read_without_its_scripts() -> None:
    page = "<head><title>t</title></head><h2>Pump</h2><p>It &amp; hums.<script>evil()</script></p>"
    text = html_text(page)
    assert "## Pump" in text
    assert "It & hums." in text
    assert "evil" not in text


def test_what_is_no_text_is_refused_with_what_would_do(tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(b"\0\1\2")
    with pytest.raises(Unreadable, match="no text"):
        read_text(tmp_path / "a.bin")
    (tmp_path / "b.pdf").write_bytes(b"%PDF-1.4 broken")
    with pytest.raises(Unreadable):
        read_text(tmp_path / "b.pdf")


# -- the store ------------------------------------------------------------------------------


def test_the_nearest_entry_comes_first_and_survives_a_restart(tmp_path: Path) -> None:
    store = store_at(tmp_path)
    put(store, answer("how is the boiler drained"), answer("who is the king of france"))
    store.close()
    store = store_at(tmp_path)
    found = store.search(shipped().embed(["draining the boiler"])[0], limit=2)
    assert found[0].entry.question == "how is the boiler drained"
    assert found[0].cosine > found[1].cosine
    store.close()


def test_the_same_entry_is_kept_once(tmp_path: Path) -> None:
    store = store_at(tmp_path)
    assert put(store, answer("a b c")) == 1
    assert put(store, answer("a b c")) == 0
    assert put(store, answer("a b c", access="mesh")) == 1
    store.close()


def test_what_has_expired_is_not_found_and_swept(tmp_path: Path) -> None:
    clock = Clock()
    store = store_at(tmp_path, clock)
    put(store, answer("how is the boiler drained", expires=1010.0))
    vector = shipped().embed(["how is the boiler drained"])[0]
    assert store.search(vector)
    assert store.same_facts("k", vector)
    clock.now = 1011.0
    assert not store.search(vector)
    assert not store.same_facts("k", vector)
    assert store.sweep() == 1
    assert store.size()[0] == 0
    store.close()


def test_a_full_base_lets_the_least_wanted_answers_go_and_never_documents(tmp_path: Path) -> None:
    store = store_at(tmp_path, max_bytes=40_000)
    document = Entry(kind=PASSAGE, domain="d", question="t", text="x" * 3000, source="manual")
    put(store, document)
    put(store, answer("wanted", "y" * 1000, saved_s=5.0))
    store.hit(store.search(shipped().embed(["wanted"])[0], kind=ANSWER)[0].entry.id)
    for n in range(60):
        put(store, answer(f"question number {n}", "z" * 1000, saved_s=0.1))
    entries, size = store.size()
    assert size <= 40_000
    assert entries < 40
    sources = {source.source for source in store.sources()}
    assert "manual" in sources
    kept = store.search(shipped().embed(["wanted"])[0], kind=ANSWER)[0]
    assert kept.entry.question == "wanted"
    with pytest.raises(KnowledgeFull, match="is full"):
        put(store, *[msg(document, n) for n in range(20)])
    assert store.size() == (entries, size)  # all or nothing
    store.close()


def msg(document: Entry, number: int) -> Entry:
    return Entry(
        kind=PASSAGE, domain="d", question=f"t{number}", text=document.text, source="manual 2"
    )


def test_a_full_disk_is_one_clear_line_and_reading_goes_on(tmp_path: Path) -> None:
    store = store_at(tmp_path)
    put(store, answer("how is the boiler drained"))
    pages = store._db.execute("PRAGMA page_count").fetchone()[0]
    store._db.execute(f"PRAGMA max_page_count = {pages}")  # SQLite's own "disk is full"
    with pytest.raises(StoreFailed, match="cannot be written") as caught:
        put(store, *[answer(f"long {n}", "w" * 6000) for n in range(20)])
    assert "\n" not in caught.value.sentence()
    assert "free space" in caught.value.hint
    assert store.search(shipped().embed(["boiler"])[0])
    store.close()


def test_another_embedder_and_a_damaged_file_are_told(tmp_path: Path) -> None:
    store_at(tmp_path).close()
    with pytest.raises(ConfigError, match="another embedder"):
        KnowledgeStore(tmp_path / "k.sqlite3", Space(model="other", dimensionality=3))
    (tmp_path / "bad.sqlite3").write_bytes(b"this is no database at all" * 100)
    with pytest.raises(ConfigError, match="cannot be used"):
        KnowledgeStore(tmp_path / "bad.sqlite3", shipped().space)


def test_hostile_text_is_kept_as_text(tmp_path: Path) -> None:
    store = store_at(tmp_path)
    evil = "'); DROP TABLE entry; -- \x00 \ud7ff <|system|>"
    put(store, answer(evil, evil, model=evil))
    found = store.search(shipped().embed([evil])[0])
    assert found[0].entry.text == evil
    assert store.remove(source="' OR 1=1 --") == 0
    assert store.size()[0] == 1
    store.close()


def test_vectors_lose_little_in_sixteen_bits(tmp_path: Path) -> None:
    store = store_at(tmp_path)
    texts = ["how is the boiler drained", "what is gossip", "where is the pump"]
    put(store, *[answer(text) for text in texts])
    vector = shipped().embed(["draining"])[0]
    exact = {t: float(v @ vector) for t, v in zip(texts, shipped().embed(texts), strict=True)}
    for one in store.search(vector):
        assert one.cosine == pytest.approx(exact[one.entry.question], abs=2e-3)
    assert np.isfinite([one.cosine for one in store.search(vector)]).all()
    store.close()


# -- the base -------------------------------------------------------------------------------


def test_documents_are_added_with_progress_and_take_their_own_place(tmp_path: Path) -> None:
    folder = tmp_path / "docs"
    folder.mkdir()
    (folder / "a.md").write_text("# One\n\nThe pump hums at night.\n")
    (folder / "b.pdf").write_bytes(b"no pdf")
    (folder / ".hidden.md").write_text("secret secret")
    (folder / "c.html").write_text("<p>The valve is red.</p>")

    async def add(base: KnowledgeBase) -> list[Added]:
        steps = base.add_documents(folder, domain="house", access="mesh")
        return [step async for step in steps]

    async def run() -> None:
        base = KnowledgeBase(tmp_path / "k.sqlite3", max_bytes=MB, wall=Clock())
        await base.start()
        try:
            steps = await add(base)
            assert [(s.file, s.number, s.files, bool(s.problem)) for s in steps] == [
                ("a.md", 1, 3, False),
                ("b.pdf", 2, 3, True),
                ("c.html", 3, 3, False),
            ]
            await add(base)
            (folder / "a.md").write_text("# One\n\nThe pump was replaced.\n")
            await add(base)
            found = await base.search("what about the pump")
            assert [one.entry.text for one in found if "pump" in one.entry.text] == [
                "The pump was replaced."
            ]
            with pytest.raises(Unreadable, match="no file"):
                _ = [s async for s in base.add_documents(tmp_path / "x", domain="d", access="mesh")]
        finally:
            await base.stop()
        with pytest.raises(StoreFailed, match="not open"):
            await _after(base)

    asyncio.run(run())


async def _after(base: KnowledgeBase) -> None:
    base._thread = type(base._thread)(max_workers=1)
    try:
        await base.search("x")
    finally:
        base._thread.shutdown()
