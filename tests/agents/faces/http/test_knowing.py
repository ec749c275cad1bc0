"""Documents and knowledge over HTTP: asked, cited, kept, found; what is wrong is named."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from tests.e2e.serving import Served, serving

pytestmark = pytest.mark.e2e

LOG = "\n".join(f"At {n % 24:02}:10 pump-{n} ran at {n}.5 bar." for n in range(200))
LOG += "\nAt 13:10 valve-9 in hall 4 was repaired by Anna because of a leak.\n"
BOILER = (
    "# Draining the boiler\n\nTo drain the boiler, open the tap at the bottom.\n\n"
    "# Filling the boiler\n\nTo fill the boiler, open the inlet valve slowly.\n"
)


@pytest.fixture(scope="module")
def http(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    folder = tmp_path_factory.mktemp("knowing")
    with (
        serving(folder, more="[knowledge]") as served,
        httpx.Client(base_url=served.url, timeout=60) as client,
    ):
        yield client


def test_a_question_about_a_text_is_answered_with_a_citation(http: httpx.Client) -> None:
    asked = {"text": LOG, "question": "Who saw to valve-9?"}
    found = http.post("/v1/documents/ask", json=asked)
    assert found.status_code == 200
    (statement,) = found.json()["answer"]["statements"]
    assert statement["text"] == "Anna"
    assert statement["citation"] in LOG


def test_a_document_may_come_in_pieces_and_is_forgotten_once_asked(http: httpx.Client) -> None:
    half = len(LOG) // 2
    name = http.post("/v1/documents", json={"text": LOG[:half]}).json()["document"]
    held = http.post("/v1/documents", json={"text": LOG[half:], "document": name}).json()
    assert held == {"document": name, "chars": len(LOG)}
    asked = {"document": name, "question": "Who saw to valve-9?"}
    assert http.post("/v1/documents/ask", json=asked).json()["answer"]["text"]
    again = http.post("/v1/documents/ask", json=asked)
    assert again.status_code == 400
    assert "send it again" in again.text


def test_a_document_that_is_added_answers_questions_and_is_found(http: httpx.Client) -> None:
    added = http.post(
        "/v1/knowledge", json={"name": "boiler.md", "text": BOILER, "domain": "heating"}
    )
    assert (added.status_code, added.json()["passages"]) == (200, 2)
    found = http.post("/v1/knowledge/search", json={"text": "draining", "limit": 1}).json()["data"]
    assert found[0]["source"] == "boiler.md"
    listed = http.get("/v1/knowledge").json()
    assert [(s["source"], s["domain"]) for s in listed["sources"]] == [("boiler.md", "heating")]
    said = http.post(
        "/v1/chat/completions",
        json={
            "model": "mesh",
            "messages": [{"role": "user", "content": "how do I fill the boiler?"}],
        },
    ).json()["choices"][0]["message"]["content"]
    assert "inlet valve" in said
    assert "boiler.md, line 7" in said


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("/v1/documents/ask", {"question": "who?"}, "document"),
        ("/v1/documents/ask", {"question": "", "text": "a"}, "question"),
        ("/v1/documents", {"text": ""}, "text"),
        ("/v1/knowledge", {"name": "../boiler.md", "text": "a"}, "name"),
        ("/v1/knowledge", {"name": "boiler.exe", "text": "a"}, "name"),
        ("/v1/knowledge/search", {"text": "a", "limit": 0}, "limit"),
    ],
)
def test_what_cannot_be_is_refused_with_the_field_at_fault(
    http: httpx.Client, path: str, body: dict[str, object], param: str
) -> None:
    found = http.post(path, json=body)
    assert (found.status_code, found.json()["error"]["param"]) == (400, param)


def test_a_label_that_is_none_keeps_nothing(http: httpx.Client) -> None:
    before = http.get("/v1/knowledge").json()["entries"]
    body = {"name": "a.txt", "text": "A text.", "access": "everybody"}
    found = http.post("/v1/knowledge", json=body)
    assert found.status_code == 400
    assert "who may see it" in found.text
    assert http.get("/v1/knowledge").json()["entries"] == before


def test_an_agent_without_a_knowledge_base_says_how_to_get_one(served: Served) -> None:
    found = httpx.get(f"{served.url}/v1/knowledge")
    assert found.status_code == 400
    assert "[knowledge]" in found.text
