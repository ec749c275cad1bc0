"""Signals become a probability of being right: bounded whatever a peer claims, fitted per model."""

from __future__ import annotations

import random
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.classifier import shipped
from agents.classifier.doubt import LIKENESS, SIGNALS, Curve, Signal, signals
from agents.classifier.gap import ASK_OTHER, Draft, EvidenceGap
from agents.classifier.known import Graded
from agents.classifier.regression import TooFewExamples, auroc, isotonic_fit
from agents.classifier.shipped import fitted_gap
from agents.classifier.training.gap import Seen, fit
from capabilities.messages import Evidence
from mesh.core.errors import ConfigError

ANY = st.floats(allow_nan=True, allow_infinity=True)


def drawn(count: int, seed: int) -> list[Seen]:
    """Answers whose scratchpad wavers when they are wrong, mostly."""
    rng = random.Random(seed)
    made = []
    for _ in range(count):
        right = rng.random() < 0.6
        low = rng.betavariate(8, 2) if right else rng.betavariate(3, 4)
        evidence = Evidence(working_min_probability=low)
        made.append(Seen(signals(evidence), right))
    return made


@given(st.tuples(*[ANY] * 8))
def test_whatever_a_peer_claims_the_signals_are_finite(claims: tuple[float, ...]) -> None:
    mean, low, spread, epistemic, aleatoric, working, lowest, known = claims
    found = signals(
        Evidence(
            mean_logprob=mean,
            min_probability=low,
            mean_entropy=spread,
            epistemic=epistemic,
            aleatoric=aleatoric,
            working_mean_logprob=working,
            working_min_probability=lowest,
        ),
        question="7 * 8",
        answer="7 * 8 = 56",
        known=known,
    )
    assert set(found) <= set(SIGNALS)
    assert all(np.isfinite(value) for value in found.values())


def test_an_answer_about_other_numbers_is_seen() -> None:
    own = signals(Evidence(), question="add 12 and 30", answer="12 + 30 = 42")
    other = signals(Evidence(), question="add 12 and 30", answer="12 + 90 = 102")
    assert own["all_numbers_supported"] == 1.0
    assert other["all_numbers_supported"] == 0.0
    assert other["numbers_unused"] == 1.0


def test_a_fitted_curve_tells_right_from_wrong_on_new_answers() -> None:
    curve, new = fit("m", drawn(400, 1)), drawn(400, 2)
    scores = [(curve.probability(seen.found), seen.right) for seen in new]
    right = [score for score, ok in scores if ok]
    assert auroc(right, [score for score, ok in scores if not ok]) > 0.85
    assert np.mean([score for score, _ in scores]) == pytest.approx(0.6, abs=0.06)


def test_too_few_or_only_right_answers_are_refused() -> None:
    with pytest.raises(TooFewExamples):
        fit("m", drawn(10, 1))
    with pytest.raises(TooFewExamples):
        fit("m", [seen for seen in drawn(400, 1) if seen.right])


def test_a_signal_that_a_draft_lacks_counts_as_usual() -> None:
    curve = Curve(model="m", signals={"known": Signal(3.0, 0.5, 0.1)}, bias=0.0)
    assert curve.probability({}) == curve.probability({"known": 0.5}) == 0.5
    assert curve.probability({"known": 0.9}) > 0.99


def test_the_isotonic_step_never_falls() -> None:
    curve = fit("m", drawn(300, 3))
    found = [
        curve.probability(signals(Evidence(working_min_probability=n / 100))) for n in range(1, 101)
    ]
    assert found == sorted(found)


def test_neighbouring_violators_are_pooled() -> None:
    scores, shares = isotonic_fit([0.1, 0.2, 0.3, 0.4], [0.0, 1.0, 0.0, 1.0])
    assert shares == [0.0, 0.5, 1.0]
    assert scores == pytest.approx([0.1, 0.25, 0.4])


@pytest.mark.parametrize(
    "bad",
    [
        {"signals": {"mood": [1.0, 0.0, 1.0]}},
        {"signals": {"known": [1.0, 0.0, 0.0]}},
        {"signals": {}, "scores": [0.5, 0.1], "shares": [0.1, 0.5]},
        {"signals": {}, "scores": [0.5]},
    ],
)
def test_a_curve_that_cannot_be_is_refused(bad: dict[str, object]) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"model": "m", "bias": 0.0, **bad}, Curve)


def test_a_file_of_curves_is_used_and_a_broken_one_named(tmp_path: Path) -> None:
    good, broken = tmp_path / "curves.json", tmp_path / "broken.json"
    curve = Curve(model="m", signals={}, bias=-5.0)
    good.write_bytes(msgspec.json.encode([curve]))
    broken.write_text("[{")
    gap = fitted_gap(str(good))
    doubted = gap.judge(Draft(text="yes", finish="stop", model="m"), floor=0.3)
    assert doubted.action == ASK_OTHER
    assert gap.judge(Draft(text="yes", finish="stop", model="n"), floor=0.3).action != ASK_OTHER
    for path in (broken, tmp_path / "none.json"):
        with pytest.raises(ConfigError, match=path.name):
            fitted_gap(str(path))


def test_a_curve_judges_only_drafts_of_the_file_that_it_was_fitted_on() -> None:
    gap = EvidenceGap(curves=[Curve(model="m", signals={}, bias=-5.0, file_sha256="aa")])
    drafts = [
        Draft(text="yes", finish="stop", model="m", file_sha256=file) for file in ("aa", "bb", "")
    ]
    assert [gap.judge(draft, 0.3).action == ASK_OTHER for draft in drafts] == [True, False, False]
    assert gap.judge(drafts[1], 0.3).judged_by == "no curve of its own"


def test_the_curve_that_uses_most_of_what_is_known_judges() -> None:
    rich = Curve(model="m", signals={LIKENESS: Signal(1.0, 0.0, 1.0)}, bias=-5.0)
    gap = EvidenceGap(curves=[Curve(model="m", signals={}, bias=5.0), rich])
    plain = Draft(text="yes", finish="stop", model="m")
    assert gap.judge(plain, 0.3).action != ASK_OTHER
    assert gap.judge(msgspec.structs.replace(plain, likeness=0.2), 0.3).action == ASK_OTHER
    assert EvidenceGap(curves=[rich]).judge(plain, 0.3).action == ASK_OTHER  # better than none


def test_one_stray_signal_does_not_decide() -> None:
    curve = Curve(model="m", signals={"numbers_unused": Signal(1.0, 0.0, 1e-6)}, bias=2.0)
    assert curve.probability({"numbers_unused": 8.0}) == curve.probability({"numbers_unused": 1.0})


def test_curves_of_other_files_are_left_out_and_told(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(shipped.header, "file_sha256", lambda path: f"changed {path.name}")
    shipped.shipped_curves.cache_clear()
    try:
        assert shipped.shipped_curves() == ()
        assert shipped.shipped_curves() == ()
        assert len(caplog.records) == 1
        assert "training.gap" in caplog.text
    finally:
        shipped.shipped_curves.cache_clear()


def test_every_shipped_curve_names_a_file() -> None:
    made = msgspec.json.decode(
        Path(shipped.__file__).with_name(shipped.CURVES_FILE).read_bytes(), type=list[Curve]
    )
    assert {curve.model for curve in made} >= {"gossamer-arithmetic", "gossamer-general"}
    assert all(len(curve.file_sha256) == 64 for curve in made)


def test_an_unsure_scratchpad_lowers_the_default_confidence() -> None:
    gap = EvidenceGap()
    assert gap.confidence(Evidence(working_min_probability=0.1)) < gap.confidence(Evidence())


NEAR, FAR = np.eye(4, dtype=np.float32)[0], np.eye(4, dtype=np.float32)[1]


def test_the_nearest_graded_questions_vote() -> None:
    memory = Graded(nearest=3)
    assert memory.known("m", NEAR) is None
    for _ in range(5):
        memory.add("m", NEAR, right=True)
        memory.add("m", FAR, right=False)
    assert memory.known("m", NEAR) > 0.7  # type: ignore[operator]
    assert memory.known("m", FAR) < 0.3  # type: ignore[operator]
    assert memory.known("m", np.eye(4)[2]) is None
    assert memory.known("n", NEAR) is None


def test_the_memory_of_graded_questions_is_bounded_and_the_oldest_leave() -> None:
    memory = Graded(size=4)
    for _ in range(10):
        memory.add("m", NEAR, right=False)
    for _ in range(4):
        memory.add("m", NEAR, right=True)
    assert memory.known("m", NEAR) == pytest.approx(0.9)


@pytest.mark.parametrize("row", [np.zeros((2, 4)), np.array([np.nan, 0, 0, 0]), np.zeros(3)])
def test_a_row_that_is_no_embedding_of_this_space_is_refused(row: object) -> None:
    memory = Graded()
    memory.add("m", NEAR, right=True)
    with pytest.raises(ValueError, match=r"embedding|dimensions"):
        memory.add("m", row, right=True)
