"""Where a request and its steps stand while they run: plain state, no decisions."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from agents.classifier.gap import Verdict
from agents.memory import Recall
from agents.orchestrator.allocate import Route
from agents.orchestrator.events import AskEvent
from agents.orchestrator.options import AskOptions
from agents.orchestrator.plan import Step
from agents.orchestrator.verify import Answer
from agents.port import MeshPort, Offer, Task
from agents.trace import Trace
from agents.views import CloudView, StepView
from mesh.core.access import CLOUD

Emit = Callable[[AskEvent], Awaitable[None]]


@dataclass(frozen=True)
class Run:
    """One request under way."""

    task: Task
    options: AskOptions
    trace: Trace
    emit: Emit
    begun: float  # monotonic seconds
    replans: bool = True  # a step that fails may be planned anew

    def note(
        self,
        port: MeshPort,
        step: int,
        rule: str,
        action: str,
        *,
        inputs: Mapping[str, object] | None = None,
        score: float = 0.0,
        threshold: float = 0.0,
    ) -> None:
        """A line of the trace, at this moment."""
        self.trace.note(
            rule,
            action,
            inputs=inputs,
            score=score,
            threshold=threshold,
            step=step,
            at_s=port.now() - self.begun,
        )


class Outcome(NamedTuple):
    """A finished step; ``usable`` says whether another step may build on its text."""

    view: StepView
    usable: bool


class Kept(NamedTuple):
    answer: Answer
    verdict: Verdict
    offer: Offer
    name: str


@dataclass
class CloudState:
    """How far one step has gone with the cloud."""

    tried: set[bytes] = field(default_factory=set)
    because: str = ""  # why it was asked
    why_not: str = ""  # why it did not answer
    spent: float = 0.0


@dataclass
class StepState:
    """Where one step stands between its attempts."""

    step: Step
    route: Route
    question: str
    begun: float
    deadline: float
    name: str
    node: str = ""
    tried: set[bytes] = field(default_factory=set)
    attempts: list[str] = field(default_factory=list)
    rejections: int = 0
    line: tuple[Offer, ...] = ()  # of full nodes: those to stand in line at besides the choice
    spare: Offer | None = None  # with a free slot: asked as well where the choice is a straggler
    before: tuple[str, ...] = ()  # nodes that were asked before it was replanned
    hedges: int = 0
    note: str = ""  # what became of the step on its way, for the answer
    retry_after_s: float = -1.0  # above or at 0: the last round met a REJECT
    waits: int = 0
    last: str = ""
    last_node: str = ""
    last_chars: int = 0
    nobody: str = ""
    model: str = ""  # that answered and was not good enough: asking it again is hopeless
    kept: Kept | None = None
    recall: Recall | None = None  # what the shared memory knew
    switched: bool = False
    declined: list[str] = field(default_factory=list)  # names that said: not my field
    cloud: CloudState = field(default_factory=CloudState)
    come_back_s: float = -1.0  # what the last REJECT said, of a node or of the cloud

    @property
    def mesh_attempts(self) -> int:
        """Attempts that were neither the cloud's nor hedges, which have a budget of their own."""
        return len(self.attempts) - len(self.cloud.tried) - self.hedges

    def mark_tried(self, node: bytes, *, cloud: bool) -> None:
        """This node was asked: as a node of the mesh, or for the cloud."""
        if cloud:
            self.cloud.tried.add(node)
        if not cloud or self.name == CLOUD:
            self.tried.add(node)

    def hedge(self, spare: Offer) -> None:
        """This node is asked beside the one that was chosen."""
        self.attempts.append(spare.node_name)
        self.hedges += 1
        self.tried.add(spare.node)
        self.spare = None

    def view(
        self,
        run: Run,
        now: float,
        status: str,
        *,
        error: str = "",
        confidence: float = -1.0,
    ) -> StepView:
        """The step as people are shown it, with the answer that was kept."""
        kept = self.kept if status == "ok" else None
        return StepView(
            id=self.step.id,
            name=kept.name if kept else self.name,
            node=kept.offer.node_name if kept else "",
            question=self.question,
            status=status,
            started_s=round(self.begun - run.begun, 4),
            elapsed_s=round(now - self.begun, 4),
            text=kept.answer.text if kept else "",
            tokens=kept.answer.tokens if kept else 0,
            attempts=[*self.before, *self.attempts],
            depends=list(self.step.depends),
            error=error,
            confidence=round(confidence, 4),
            remote=bool(kept and not kept.offer.me),
            cloud=cloud_view(kept, self.cloud.because) if kept else None,
            spent=self.cloud.spent,
            retry_after_s=self.come_back_s if status == "failed" else -1.0,
            model=kept.answer.done.model if kept else "",
            finish=kept.answer.done.finish if kept else "",
            prompt_tokens=kept.answer.done.usage.prompt_tokens if kept else 0,
            note=self.note,
            halves=kept.answer.done.halves if kept else None,
        )


def cloud_view(kept: Kept, because: str) -> CloudView | None:
    """What an answer that came from a cloud took; None for any other."""
    done = kept.answer.done
    paid = done.paid
    if paid is None:
        return None
    return CloudView(
        provider=paid.provider,
        model=paid.model,
        prompt_tokens=done.usage.prompt_tokens,
        completion_tokens=done.usage.completion_tokens,
        cost=paid.cost,
        currency=paid.currency,
        estimated=paid.estimated,
        why=because,
    )
