"""After a draft: is it good enough, or should someone else be asked?

The model's own evidence (token probabilities) becomes a probability of being right by a
logistic curve whose coefficients are per model; the defaults are cautious guesses until a
model brings fitted ones. Evidence ranks, it proves nothing (law 3).
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from typing import Protocol

import msgspec

from agents.classifier.doubt import Curve, signals
from capabilities.messages import Evidence

ACCEPT = "accept"
ASK_OTHER = "ask_other"

# How the embedded models, and most others, say that they will not answer. Only looked for in
# short answers: a long text that holds "I cannot" somewhere is an answer.
MAX_REFUSAL_CHARS = 240
_REFUSAL = re.compile(
    r"^(?:sorry|unfortunately|i am sorry|i'm sorry)?[\s,.:]*(?:but\s+)?(?:i only\b"
    r"|that i (?:do not|don't) know\b"
    r"|i (?:do not|don't) (?:know|have|calculate)\b"
    r"|i (?:can ?not|can't|could not|couldn't|have no)\b"
    r"|(?:i am|i'm) (?:unable|not able|not allowed|not sure)\b"
    r"|that is (?:not something i|beyond)|as an? (?:ai|language model))",
    re.I,
)


class Calibration(msgspec.Struct, frozen=True, kw_only=True):
    """Coefficients of the logistic curve, fitted on a model's graded answers."""

    bias: float = 4.0
    mean_logprob: float = 2.0
    log_min_probability: float = 1.0
    log_working_min_probability: float = 1.0
    epistemic: float = 0.0


class Draft(msgspec.Struct, frozen=True, kw_only=True):
    """An answer to be judged. ``expert`` is whether its name is for this domain.

    The rest may be left out; a model's fitted curve uses what is there: the question, a second
    draft, the likeness of question and answer (cosine), and the share of the nearest graded
    questions that the model got right. ``file_sha256`` says which file of the model answered.
    """

    text: str
    finish: str
    evidence: Evidence = Evidence()
    model: str = ""
    expert: bool = True
    question: str = ""
    second: str | None = None
    likeness: float | None = None
    known: float | None = None
    file_sha256: str = ""


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """``confidence`` is the estimated probability of being right; ``why`` is one sentence;
    ``judged_by`` says by which curve."""

    action: str
    confidence: float
    why: str
    declined: bool = False
    cut: bool = False
    judged_by: str = ""


class GapDetector(Protocol):
    """A gap detector, chosen by name in the configuration."""

    def judge(self, draft: Draft, floor: float) -> Verdict:
        """Accept the draft, or ask someone else. Must not do I/O."""


class EvidenceGap:
    """Judges by the evidence that came with the draft, per model when it is calibrated.

    ``curves`` are fitted (:mod:`agents.classifier.doubt`) and win over ``calibrations``, which
    are coefficients written by hand. A model may have several curves: the one that uses most of
    what is known of a draft judges it. A curve that was fitted on one file of a model is not used
    for drafts of another.
    """

    def __init__(
        self,
        calibrations: Mapping[str, Mapping[str, float]] | None = None,
        curves: Iterable[Curve] = (),
    ) -> None:
        self._curves: dict[str, list[Curve]] = {}
        for curve in curves:
            self._curves.setdefault(curve.model, []).append(curve)
        for several in self._curves.values():
            several.sort(key=lambda curve: -len(curve.signals))
        self._by_model = {
            model: msgspec.convert(dict(values), Calibration)
            for model, values in (calibrations or {}).items()
        }
        self._default = Calibration()

    def judge(self, draft: Draft, floor: float) -> Verdict:
        """See :class:`GapDetector`."""
        if not draft.text.strip():
            return Verdict(action=ASK_OTHER, confidence=0.0, why="the answer is empty")
        if refuses(draft.text):
            who = "the expert" if draft.expert else "the model"
            return Verdict(
                action=ASK_OTHER, confidence=0.0, why=f"{who} says that it cannot", declined=True
            )
        curve, found = self._curve(draft)
        if curve is None:
            sure, by = self.confidence(draft.evidence, draft.model), "no curve of its own"
        else:
            sure, by = curve.probability(found), f"a curve of {curve.questions} graded answers"
        if draft.finish != "stop":
            return Verdict(
                action=ASK_OTHER,
                confidence=min(sure, floor / 2),
                why=f"the answer was cut off ({draft.finish})",
                cut=True,
                judged_by=by,
            )
        if sure < floor:
            why = f"the model was unsure of its answer ({sure:.2f})"
            return Verdict(action=ASK_OTHER, confidence=sure, why=why, judged_by=by)
        return Verdict(action=ACCEPT, confidence=sure, why="sure enough", judged_by=by)

    def probability(self, draft: Draft) -> float:
        """The estimated probability that this draft is right."""
        curve, found = self._curve(draft)
        if curve is None:
            return self.confidence(draft.evidence, draft.model)
        return curve.probability(found)

    def _fitting(self, draft: Draft) -> list[Curve]:
        return [
            curve
            for curve in self._curves.get(draft.model, ())
            if not curve.file_sha256 or curve.file_sha256 == draft.file_sha256
        ]

    def _curve(self, draft: Draft) -> tuple[Curve | None, dict[str, float]]:
        """The curve that uses most of what is known of the draft, and what is known."""
        curves = self._fitting(draft)
        if not curves:
            return None, {}
        found = signals(
            draft.evidence,
            question=draft.question,
            answer=draft.text,
            second=draft.second,
            likeness=draft.likeness,
            known=draft.known,
        )
        # Without any that fits, the one that lacks least: a signal that is missing is its mean.
        best = min(curves, key=lambda curve: len(curve.needs - found.keys()))
        return next((c for c in curves if c.needs <= found.keys()), best), found

    def confidence(self, evidence: Evidence, model: str = "") -> float:
        """The estimated probability that an answer with this evidence is right."""
        curve = self._by_model.get(model, self._default)
        # A peer may claim any number: clamped to what the quantity can be.
        low = math.log(min(1.0, max(1e-6, evidence.min_probability)))
        worked = math.log(min(1.0, max(1e-6, evidence.working_min_probability)))
        mean = min(0.0, max(-20.0, evidence.mean_logprob))
        doubt = min(50.0, max(0.0, evidence.epistemic))
        logit = (
            curve.bias
            + curve.mean_logprob * mean
            + curve.log_min_probability * low
            + curve.log_working_min_probability * worked
            - curve.epistemic * doubt
        )
        if math.isnan(logit):
            return 0.0
        return 1.0 / (1.0 + math.exp(-max(-30.0, min(30.0, logit))))


def refuses(text: str) -> bool:
    """Whether a short answer says, at its beginning, that it will not or cannot answer."""
    stripped = text.strip().replace("\u2019", "'")
    return len(stripped) <= MAX_REFUSAL_CHARS and bool(_REFUSAL.match(stripped))
