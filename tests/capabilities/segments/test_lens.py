"""The arithmetic of exits for a model that was trained without."""

from __future__ import annotations

import math

import numpy as np
import pytest

from capabilities.segments import questions
from capabilities.segments.calibration import RISKS, allowed, fewest_answers
from capabilities.segments.lens import (
    MOST_ODDS,
    RIDGES,
    Best,
    Lens,
    Read,
    Sums,
    fitted,
    head_piece,
    measured,
    normed,
    solved,
)
from mesh.core.errors import ModelError

WIDTH, VOCABULARY = 12, 50


def rows(count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, WIDTH)).astype(np.float32)


def sums(given: np.ndarray, wanted: np.ndarray) -> Sums:
    """In three pieces, as they come."""
    found = Sums(WIDTH)
    for u, z in zip(np.array_split(given, 3), np.array_split(wanted, 3), strict=True):
        found.add(u, z)
    return found


def said(head: np.ndarray, given: np.ndarray, pieces: int = 4) -> Best:
    """Over a vocabulary in pieces."""
    best, first = Best(len(given)), 0
    for piece in np.array_split(head, pieces):
        best.add(first, given @ piece.T)
        first += len(piece)
    return best


def test_a_linear_map_is_found_again() -> None:
    known = rows(WIDTH, 1)
    learnt, held = (normed(rows(count, count), 1e-5) for count in (400, 60))
    lens = fitted(sums(learnt, learnt @ known), sums(held, held @ known), np.ones(WIDTH))
    assert lens.ridge == min(RIDGES)
    assert lens.explained == pytest.approx(1.0, abs=1e-4)
    np.testing.assert_allclose(lens.matrix, known, atol=1e-2)


def test_layers_that_do_nothing_give_an_exit_that_always_agrees() -> None:
    weights = np.linspace(0.5, 1.5, WIDTH)
    output = rows(VOCABULARY, 2)
    u = normed(rows(300, 3), 1e-5)
    z = (u * weights).astype(np.float32)
    lens = fitted(sums(u[:250], z[:250]), sums(u[250:], z[250:]), weights)
    np.testing.assert_allclose(lens.matrix, np.diag(weights), atol=1e-6)
    mine, whole = said(head_piece(output, lens), u), said(output, z)
    assert (mine.token == whole.token).all()
    np.testing.assert_allclose(mine.odds, whole.odds, atol=1e-4)


def test_what_too_few_rows_cannot_tell_stays_as_the_logit_lens_has_it() -> None:
    u = np.zeros((5, WIDTH), dtype=np.float32)
    u[:, 0] = 1.0  # only one direction was ever seen
    found = solved(sums(u, 3.0 * u), np.full(WIDTH, 2.0), 1e-4)
    assert found[0, 0] == pytest.approx(3.0, abs=1e-3)
    np.testing.assert_allclose(found[1:, 1:], 2.0 * np.eye(WIDTH - 1), atol=1e-9)


def test_noise_is_answered_with_a_stronger_ridge() -> None:
    u = normed(rows(WIDTH + 4, 5), 1e-5)
    z = (u + 3.0 * rows(WIDTH + 4, 6)).astype(np.float32)
    held = normed(rows(200, 7), 1e-5)
    lens = fitted(sums(u, z), sums(held, held), np.ones(WIDTH))
    assert lens.ridge == max(RIDGES)


def test_without_anything_held_the_ridge_is_the_strongest() -> None:
    u = normed(rows(40, 8), 1e-5)
    lens = fitted(sums(u, u), Sums(WIDTH), np.ones(WIDTH))
    assert (lens.ridge, lens.explained) == (max(RIDGES), 0.0)


def test_the_error_of_sums_is_the_error_of_their_rows() -> None:
    u, z, matrix = rows(30, 9), rows(30, 10), rows(WIDTH, 11).astype(np.float64)
    expected = float(np.square(u @ matrix - z).sum())
    assert sums(u, z).error(matrix) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("pieces", [1, 3, VOCABULARY])
def test_pieces_of_a_vocabulary_say_what_all_of_it_says(pieces: int) -> None:
    head, u = rows(VOCABULARY, 12), rows(20, 13)
    logits = (u @ head.T).astype(np.float64)
    logits -= np.log(np.exp(logits).sum(1, keepdims=True))
    best = said(head, u, pieces)
    assert (best.token == logits.argmax(1)).all()
    top = logits.max(1)
    np.testing.assert_allclose(best.odds, top - np.log1p(-np.exp(top)), atol=1e-3)


def test_odds_end_where_numbers_of_32_bits_do() -> None:
    best = Best(1)
    best.add(0, np.array([[200.0, 0.0, -5.0]], dtype=np.float32))
    assert best.odds[0] == MOST_ODDS


def test_equal_tokens_are_told_apart_by_their_number() -> None:
    best = Best(1)
    best.add(0, np.array([[1.0, 2.0]], dtype=np.float32))
    best.add(2, np.array([[2.0, 0.0]], dtype=np.float32))
    assert best.token[0] == 1


def test_rows_are_normed_as_the_model_norms_them() -> None:
    row = np.array([[3.0, -4.0]], dtype=np.float32)
    np.testing.assert_allclose(normed(row, 0.5), row / math.sqrt(12.5 + 0.5), rtol=1e-6)


def test_a_head_is_made_a_few_rows_at_a_time() -> None:
    output, lens = rows(VOCABULARY, 14), Lens(rows(WIDTH, 15), 1.0, 0.0)
    whole = head_piece(output, lens)
    parts = [head_piece(piece, lens) for piece in np.array_split(output, 7)]
    np.testing.assert_allclose(np.concatenate(parts), whole, atol=1e-6)


def test_an_exit_is_believed_above_its_wrong_tokens_and_its_figures_are_told() -> None:
    answers = 300
    odds = np.concatenate([np.full(answers, 6.0), np.full(30, 2.0)])
    wrong = np.concatenate([np.zeros(answers, dtype=bool), np.ones(30, dtype=bool)])
    answer = np.concatenate([np.arange(answers), np.arange(30)])
    found = measured({3: Read(odds, wrong, answer)}, answers)[3]
    assert found.confidence(-math.log1p(math.exp(-6.0))) >= 0.8
    assert found.confidence(-math.log1p(math.exp(-2.0))) < 0.8
    assert (found.answers, found.tokens) == (answers, 330)
    assert (found.sure, found.wrong, found.parted) == (pytest.approx(300 / 330), 0.0, 0.0)


def test_an_exit_with_too_few_answers_is_never_sure() -> None:
    least = fewest_answers(1)[0]
    odds, wrong = np.full(least - 1, 9.0), np.zeros(least - 1, dtype=bool)
    found = measured({3: Read(odds, wrong, np.arange(least - 1))}, least - 1)[3]
    assert found.probability(0.8) == 1.0


@pytest.mark.parametrize("exits", [1, 2, 4])
def test_so_many_answers_are_enough_and_one_less_is_not(exits: int) -> None:
    risk = dict(RISKS)[0.8]
    for rank, count in enumerate(fewest_answers(exits), 1):
        share = 1.0 if rank == exits else 0.25 * rank / (exits - 1)
        assert allowed(count, risk * share) == 0
        assert allowed(count - 1, risk * share) == -1


def test_questions_of_the_three_parts_never_meet() -> None:
    parts = [set(questions.drawn(part, 10_000, 1)) for part in questions.SHARES]
    assert sum(map(len, parts)) == len(set.union(*parts)) > 2000
    assert len(parts[1]) >= fewest_answers(2)[0]


def test_a_seed_draws_its_own_questions_again() -> None:
    one, again, other = (questions.drawn(questions.FITTING, 50, seed) for seed in (1, 1, 2))
    assert one == again != other
    assert len(set(one)) == 50


def test_odd_lines_of_a_file_are_fitted_on_and_even_ones_calibrated_on() -> None:
    fit, calibrate = questions.of_file("a\n\n b \nc\na\nd\n", "mine.txt")
    assert (fit, calibrate) == (["a", "c"], ["b", "d"])


@pytest.mark.parametrize("text", ["", "\n \n", "one\none\n", "a\n" + "b" * 5000])
def test_a_file_without_questions_is_refused(text: str) -> None:
    with pytest.raises(ModelError, match=r"mine\.txt"):
        questions.of_file(text, "mine.txt")
