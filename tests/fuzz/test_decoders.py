"""Every decoder of bytes from outside raises its own errors and nothing else."""

from __future__ import annotations

import contextlib

import pytest

from benchmarks import _corpus
from benchmarks.fuzz import BOMBS, NAMES, TARGETS, fuzz
from mesh.core.errors import GossamerError

INPUTS = 2500  # per decoder: a second or so; benchmarks.fuzz runs for as long as one likes
# What runs of benchmarks.fuzz found, or came close to: kept so that it stays found.
CORPUS = (
    b"",
    b"\x00",
    b"\x01",
    b"\xc1",
    bytes.fromhex("7b226964223a22616261ddffffffff637573226c6c7d7d"),  # JSON with broken UTF-8
    bytes.fromhex("7b226964223a22c3cfffffffffffffffff6162227d"),
    *BOMBS,
    *(b"\x01" + bomb for bomb in BOMBS),
    *NAMES,
)


@pytest.mark.parametrize("name", TARGETS)
def test_mutated_messages_raise_the_decoders_own_errors_only(name: str) -> None:
    result = fuzz(TARGETS[name], seconds=60.0, seed=20_260, most=INPUTS)
    assert result["tried"] >= INPUTS
    assert not result["found"]


@pytest.mark.parametrize("name", TARGETS)
def test_every_decoder_has_a_corpus_that_reaches_more_than_one_way_through_it(name: str) -> None:
    kept = _corpus.read(name)
    ways = {frozenset(_corpus.arcs_of(TARGETS[name].decode, data)) for data in kept}
    assert len(ways) > 1


@pytest.mark.parametrize("name", TARGETS)
def test_what_was_found_once_stays_refused(name: str) -> None:
    for data in (*CORPUS, *_corpus.read(name)):
        with contextlib.suppress(GossamerError):
            TARGETS[name].decode(data)
