"""One agent with HTTP for all tests of this folder: its start takes seconds."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from openai import OpenAI

from tests.e2e.serving import Served, serving


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A running agent."""
    with serving(tmp_path_factory.mktemp("http")) as found:
        yield found


@pytest.fixture
def client(served: Served) -> Iterator[OpenAI]:
    """openai-python, as anybody would point it here."""
    with OpenAI(base_url=f"{served.url}/v1", api_key="none", max_retries=0) as found:
        yield found
