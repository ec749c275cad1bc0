"""What the deciding parts learn from how steps went: which questions a name answered well, and
which ones a model got right or wrong. Decisions and bounded memory only.

A lesson needs evidence from outside the answer that it is about: an answer sure enough under a
name that was itself likely (or that the asker named), a model that declined, an answer that was
found to be about something else, and above all what the asker says of it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import NamedTuple, Protocol, runtime_checkable

from agents.classifier.gap import ACCEPT
from agents.orchestrator.progress import StepState
from agents.parts import Parts
from agents.port import Offer

SURE = 0.7  # calibrated probability of being right from which an answer is a lesson
UNKNOWN = 0.3  # a model foreseen to be right less often than this is asked after the others
MAX_ASKED = 64  # questions that can still be said to have been answered rightly or wrongly


@runtime_checkable
class LearnsNames(Protocol):
    """A relevance classifier that learns from successes."""

    def succeeded(self, question: str, name: str) -> None:
        """``name`` answered the question well."""


@runtime_checkable
class LearnsGrades(Protocol):
    """A gap detector that learns which questions a model gets right."""

    def graded(self, model: str, question: str, *, right: bool) -> None:
        """This model answered the question rightly, or did not."""

    def foreseen(self, model: str, question: str) -> float | None:
        """How probably it will be right; None when that cannot be said."""


class Given(NamedTuple):
    """An answer that was given, as far as a verdict on it teaches something."""

    question: str
    name: str
    node: bytes
    model: str


class Learning:
    """The lessons of one executor."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._names = parts.classifier if isinstance(parts.classifier, LearnsNames) else None
        self._grades = parts.gap if isinstance(parts.gap, LearnsGrades) else None
        self._given: OrderedDict[str, list[Given]] = OrderedDict()
        self.last = ""  # the trace of the newest answer, until something was said of it

    def ranked(self, question: str, order: Sequence[Offer]) -> tuple[tuple[Offer, ...], list[str]]:
        """The order with models that are known to get such questions wrong behind the others,
        and the nodes that this moved."""
        if self._grades is None or len(order) < 2:
            return tuple(order), []
        grades = self._grades

        def doubted(offer: Offer) -> bool:
            seen = grades.foreseen(_model(offer), question) if _model(offer) else None
            return seen is not None and seen < UNKNOWN

        behind = [offer for offer in order if doubted(offer)]
        if not behind or len(behind) == len(order):
            return tuple(order), []
        ahead = [offer for offer in order if offer not in behind]
        return (*ahead, *behind), [offer.node_name for offer in behind]

    def declined(self, state: StepState, offer: Offer, model: str) -> None:
        """The model said that it cannot answer, or said something about another matter."""
        model = model or _model(offer)
        if self._grades is not None and model:
            self._grades.graded(model, state.question, right=False)

    def concluded(self, state: StepState, trace: str) -> None:
        """A step is over; what it came to is kept until the asker may have said something."""
        kept = state.kept
        if kept is None or kept.verdict.action != ACCEPT or not state.attempts:
            return  # nothing, or from memory: nobody was asked
        model = kept.answer.done.model or _model(kept.offer)
        given = Given(state.question, kept.name, kept.offer.node, model)
        self._given.setdefault(trace, []).append(given)
        self._given.move_to_end(trace)
        self.last = trace
        while len(self._given) > MAX_ASKED:
            self._given.popitem(last=False)
        likely = state.route.probability >= self._parts.thresholds.name
        if likely and kept.verdict.confidence >= SURE:
            self._success(given)

    def told(self, trace: str, *, right: bool) -> list[Given]:
        """The asker says whether an answer was right; the answers that it is about, none where
        the trace is not known (any more)."""
        given = self._given.pop(trace, [])
        self.last = "" if trace == self.last else self.last
        for one in given:
            if self._grades is not None and one.model:
                self._grades.graded(one.model, one.question, right=right)
            if right:
                self._success(one)
        return given

    def _success(self, given: Given) -> None:
        if self._names is not None and given.name != self._parts.general_name:
            self._names.succeeded(given.question, given.name)


def _model(offer: Offer) -> str:
    return offer.model.name if offer.model else offer.served.model
