"""Models from a hub: chosen, resumed, checked."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from capabilities.slm import hub, store
from mesh.core.errors import ModelError
from tests.capabilities.slm.hub_server import Hub, serving

REPO = "someone/some-model"
FILE = f"{REPO}:m-q4_k_m.gguf"


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """No token of whoever runs the tests."""
    monkeypatch.delenv(hub.TOKEN, raising=False)


@pytest.fixture
def site(spoken: Path) -> Iterator[Hub]:
    files = {
        "README.md": b"hello",
        "m-f16.gguf": b"GGUF but not really",
        "m-q4_k_m.gguf": spoken.read_bytes(),
        "text.gguf": b"no model",
    }
    with serving(Hub(REPO, files)) as it:
        yield it


def test_the_small_file_of_a_repository_is_chosen_checked_and_kept(
    site: Hub, tmp_path: Path, spoken: Path
) -> None:
    made = hub.pull(REPO, tmp_path, endpoint=site.endpoint)
    assert made.name == "m-q4_k_m"
    assert made.path.read_bytes() == spoken.read_bytes()
    assert [m.name for m in store.models(tmp_path) if not m.embedded] == ["m-q4_k_m"]
    assert [p.name for p in tmp_path.iterdir()] == ["m-q4_k_m.gguf"]


def test_a_broken_line_is_taken_up_again(site: Hub, tmp_path: Path) -> None:
    site.cut = 45_000
    heard: list[tuple[int, int]] = []
    made = hub.pull(FILE, tmp_path, endpoint=site.endpoint, report=lambda *one: heard.append(one))
    whole = site.files["m-q4_k_m.gguf"]
    assert made.path.read_bytes() == whole
    assert site.ranges == ["", "bytes=45000-"]
    assert heard[-1] == (len(whole), len(whole))


def test_an_interrupted_download_goes_on_where_it_stopped(site: Hub, tmp_path: Path) -> None:
    site.cut, site.refuses_after_cut = 45_000, True
    with pytest.raises(ModelError):
        hub.pull(FILE, tmp_path, endpoint=site.endpoint)
    assert [m.name for m in store.models(tmp_path) if not m.embedded] == []
    site.refuses_after_cut = False
    made = hub.pull(FILE, tmp_path, endpoint=site.endpoint)
    assert made.path.read_bytes() == site.files["m-q4_k_m.gguf"]
    assert site.ranges[-1] == "bytes=45000-"


def test_a_hub_that_sends_more_than_it_announced_is_not_believed(site: Hub, tmp_path: Path) -> None:
    site.extra = 10_000
    with pytest.raises(ModelError, match="announced"):
        hub.pull(FILE, tmp_path, endpoint=site.endpoint)


def test_a_token_goes_to_the_hub(
    site: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(hub.TOKEN, "secret")
    hub.pull(FILE, tmp_path, endpoint=site.endpoint)
    assert set(site.tokens) == {"Bearer secret"}


def test_a_damaged_file_is_thrown_away(site: Hub, tmp_path: Path) -> None:
    site.wrong = True
    with pytest.raises(ModelError, match="checksum"):
        hub.pull(FILE, tmp_path, endpoint=site.endpoint)
    assert not list(tmp_path.iterdir())


def test_what_is_no_model_is_refused(site: Hub, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="not a GGUF"):
        hub.pull(f"{REPO}:text.gguf", tmp_path, endpoint=site.endpoint)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("reference", "word"),
    [
        ("nonsense", "names no file"),
        ("../../etc/passwd", "names no file"),
        (f"{REPO}:../x.gguf", "names no file"),
        (f"{REPO}:none.gguf", "the hub has no"),
        ("nobody/nothing:x.gguf", "the hub has no"),
    ],
)
def test_what_is_not_there_is_said(site: Hub, tmp_path: Path, reference: str, word: str) -> None:
    with pytest.raises(ModelError, match=word):
        hub.pull(reference, tmp_path, endpoint=site.endpoint)


def test_a_name_that_is_taken_is_not_overwritten(site: Hub, tmp_path: Path, spoken: Path) -> None:
    store.add(spoken, "mine", tmp_path)
    with pytest.raises(ModelError, match="already"):
        hub.pull(FILE, tmp_path, name="mine", endpoint=site.endpoint)


def test_a_hub_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="stopped"):
        hub.pull(f"{REPO}:x.gguf", tmp_path, endpoint="http://127.0.0.1:9")
