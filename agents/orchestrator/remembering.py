"""What a step asks of the shared memory: before the first call, and of what came back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from agents.classifier.gap import ACCEPT, ASK_OTHER, Verdict
from agents.escalation import Rung, Situation
from agents.escalation.ladder import MEMORY_RUNG
from agents.memory import Finding, Memory, Recall
from agents.orchestrator.progress import Kept, Run, StepState
from agents.orchestrator.verify import Answer
from agents.parts import Parts
from agents.port import MeshPort, Offer
from capabilities.messages import Done, Generate
from mesh.core.records import ServedName

INCORRECT = "incorrect"
# Names whose answers stay true: what a sensor says now is not one of them.
KEPT_ROOTS = ("knowledge.gpt/", "computation.gpt/generate")


class Remembering:
    """The memory of one executor; without one every method does nothing."""

    def __init__(self, port: MeshPort, parts: Parts) -> None:
        self.memory: Memory | None = None
        self._port = port
        self._parts = parts

    async def recalled(self, state: StepState, run: Run) -> bool:
        """True when the step has its answer from memory; else its examples stay in the state."""
        if self.memory is None or not _rememberable(state, run):
            return False
        found = await self.memory.recall(state.question, state.name, run.task)
        state.recall = found
        taken = self._rung(state, run, found)
        if taken is None or taken.rung != MEMORY_RUNG:
            return False
        run.note(
            self._port,
            state.step.id,
            f"escalation.{taken.rung}",
            f"{taken.action}: {taken.why}",
            score=taken.score,
            threshold=taken.threshold,
            inputs={"entry": found.entry, "source": found.source, "cites": list(found.citations)},
        )
        text = found.text
        if found.citations:
            text = f"{text}\n({'; '.join(found.citations)})"
        state.kept = Kept(
            Answer(text=text, done=Done(text=text, finish="stop", model=found.model), tokens=0),
            Verdict(action=ACCEPT, confidence=found.quality, why=found.why),
            self._me(state.name),
            state.name,
        )
        return True

    async def verified(self, state: StepState, run: Run) -> bool:
        """Check, integrate and learn an accepted answer of somebody else; False: it is about
        something else, ask another node."""
        kept = state.kept
        if self.memory is None or kept is None or kept.offer.me or not _rememberable(state, run):
            return True
        if kept.verdict.action != ACCEPT:
            return True
        finding = Finding(
            question=state.question,
            text=kept.answer.text,
            name=kept.name,
            node=kept.offer.node,
            node_name=kept.offer.node_name,
            model=kept.answer.done.model,
            quality=kept.verdict.confidence,
            took_s=kept.answer.done.usage.total_s,
        )
        check = await self.memory.check(finding)
        self._say(run, state, "knowledge.relevance", check.outcome, check.score, check.threshold)
        if check.outcome == INCORRECT:
            self.memory.doubt(kept.offer.node, kept.name)
            why = f"what {kept.offer.node_name} said is about something else ({check.why})"
            state.last, state.last_node = why, kept.offer.node_name
            verdict = msgspec.structs.replace(
                kept.verdict, action=ASK_OTHER, why=why, confidence=min(0.1, check.score)
            )
            state.kept = kept._replace(verdict=verdict)
            return False
        made = await self.memory.integrate(finding, run.task)
        self._say(run, state, "knowledge.integrate", made.how)
        if made.text != kept.answer.text:
            answer = msgspec.structs.replace(kept.answer, text=made.text)
            state.kept = kept._replace(answer=answer)
        learnt = await self.memory.learn(finding, check, run.task)
        self._say(run, state, "knowledge.learn", learnt, finding.quality)
        return True

    def doubted(self, state: StepState, offer: Offer) -> None:
        """An answer of this node did not do: trust it a little less for this name."""
        if self.memory is not None and not offer.me:
            self.memory.doubt(offer.node, state.name)

    def with_examples(self, request: Generate, offer: Offer, state: StepState) -> Generate:
        """The request with what is known as examples, for this node's own model only: what is
        remembered may be nobody else's business."""
        found = state.recall
        if found is None or not found.examples or not offer.me:
            return request
        *before, question = request.messages
        return msgspec.structs.replace(request, messages=[*before, *found.examples, question])

    def ranked(self, name: str, order: tuple[Offer, ...]) -> tuple[Offer, ...]:
        """The policy's order, with those that were often wrong behind the others."""
        return order if self.memory is None else tuple(self.memory.ranked(name, order))

    def _rung(self, state: StepState, run: Run, found: Recall) -> Rung | None:
        situation = Situation(
            name=state.name,
            local_fit=0,
            remote_fit=0,
            time_left_s=state.deadline - self._port.now(),
            reach=run.task.reach,
            **memory_of(state),
        )
        rungs = self._parts.escalation.climb(situation)
        return next((rung for rung in rungs if rung.action == "take"), None)

    def _me(self, name: str) -> Offer:
        return Offer(
            node=b"",
            node_name=self._port.node_name,
            served=ServedName(name=name),
            me=True,
            healthy=True,
            load=0.0,
        )

    def _say(
        self,
        run: Run,
        state: StepState,
        rule: str,
        action: str,
        score: float = 0.0,
        threshold: float = 0.0,
    ) -> None:
        run.note(self._port, state.step.id, rule, action, score=score, threshold=threshold)


def memory_of(state: StepState) -> Mapping[str, Any]:
    """What the ladder is told of the memory."""
    found = state.recall
    if found is None:
        return {}
    return {
        "memory": found.action,
        "memory_score": found.score,
        "memory_threshold": found.threshold,
        "memory_why": found.why,
    }


def _rememberable(state: StepState, run: Run) -> bool:
    """Only a question that stands alone, asked for the likeliest answer."""
    options = run.options
    alone = not (options.history and not state.step.depends) and not options.system
    return (
        alone and not state.node and options.temperature == 0 and state.name.startswith(KEPT_ROOTS)
    )
