"""``computation.gpt/embed`` as a caller sees it."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from capabilities.base import Request
from capabilities.embedding.backends import Gguf, Static, Transformers, make_embedder
from capabilities.embedding.capability import SLOTS, EmbeddingCapability
from capabilities.embedding.messages import EMBED, MAX_TEXTS, Embed, Vectors, vectors
from capabilities.embedding.space import Space, SpaceMismatch
from capabilities.messages import decode, encode
from capabilities.slm.embedded import embedded_models
from mesh.core.errors import ConfigError, ModelError, WireError


def request(texts, space=None):
    return Request(name=EMBED, body=encode(Embed(texts=texts, space=space)), timeout_s=20.0)


async def collect(capability, asked):
    return [decode(body, Vectors) async for body in capability.serve(asked)]


def run(work):
    return asyncio.run(work)


async def with_capability(use, embedder=None):
    capability = EmbeddingCapability(embedder or Static())
    await capability.start()
    try:
        return await use(capability)
    finally:
        await capability.stop()


def test_many_texts_come_in_pieces_and_in_order():
    texts = [f"sensor number {n}" for n in range(MAX_TEXTS)]

    async def use(capability):
        pieces = await collect(capability, request(texts))
        assert len(pieces) > 1
        assert all(len(piece.data) < 32 * 1024 for piece in pieces)
        whole = np.concatenate([piece.matrix() for piece in pieces])
        assert [piece.first for piece in pieces] == list(
            np.cumsum([0] + [piece.rows for piece in pieces[:-1]])
        )
        alone = (await collect(capability, request([texts[200]])))[0].matrix()
        assert np.allclose(whole[200], alone[0])

    run(with_capability(use))


def test_the_profile_states_the_space():
    async def use(capability):
        (model,) = capability.models
        piece = (await collect(capability, request(["a cold day"])))[0]
        assert (model.name, model.embedding_dim) == (piece.space.model, piece.space.dimensionality)
        assert model.file_sha256 == piece.space.digest

    run(with_capability(use))


def test_a_caller_of_another_space_is_refused_and_told():
    async def use(capability):
        other = Space(model="somebody's", dimensionality=384)
        with pytest.raises(SpaceMismatch, match="somebody's"):
            await collect(capability, request(["a"], other))

    run(with_capability(use))


@pytest.mark.parametrize("texts", [[], ["a"] * (MAX_TEXTS + 1), ["a" * 20_000]])
def test_a_request_out_of_bounds_is_refused(texts):
    async def use(capability):
        with pytest.raises(WireError):
            await collect(capability, request(texts))
        assert capability.occupancy().inflight == 0

    run(with_capability(use))


def test_no_more_than_the_slots_are_taken():
    async def use(capability):
        running = [capability.serve(request(["a"])) for _ in range(SLOTS)]
        for stream in running:
            await anext(stream)
        refused = capability.admit(request(["a"]))
        assert not refused.accepted
        assert refused.retry_after_s > 0
        await running[0].aclose()
        assert capability.admit(request(["a"])).accepted
        for stream in running[1:]:
            await stream.aclose()

    run(with_capability(use))


def test_vectors_whose_bytes_do_not_fit_are_refused():
    space = Space(model="m", dimensionality=4)
    good = vectors(space, np.ones((2, 4), np.float32))
    assert good.matrix().shape == (2, 4)
    with pytest.raises(WireError, match="32 bytes"):
        Vectors(space=space, rows=2, data=good.data[:-1]).matrix()
    with pytest.raises(WireError, match="finite"):
        vectors(space, np.full((1, 4), np.nan, np.float32)).matrix()


def test_any_gguf_embeds_in_a_space_of_its_own():
    path = embedded_models()["general"].path

    async def use(capability):
        pieces = await collect(capability, request(["hello", "the mesh", ""]))
        rows = np.concatenate([piece.matrix() for piece in pieces])
        assert np.allclose(np.linalg.norm(rows[:2], axis=1), 1.0, atol=1e-4)
        assert pieces[0].space.dimensionality == rows.shape[1]

    run(with_capability(use, Gguf(path)))


def test_what_is_no_embedder_is_refused_with_the_choices(tmp_path):
    with pytest.raises(ConfigError, match="no embedder is called") as told:
        make_embedder(str(tmp_path / "nothing"))
    assert "GGUF" in told.value.hint
    assert isinstance(make_embedder("sentence-transformers:x"), Transformers)


def test_an_embedder_that_was_not_started_says_so():
    with pytest.raises(ModelError, match="not started"):
        _ = Static().space
