"""What an attempt came to: an answer that will do, one that is kept for want of better, or none."""

from __future__ import annotations

from collections import Counter

import msgspec

from agents.classifier.gap import ACCEPT
from agents.halves import halves_line
from agents.orchestrator import climbing
from agents.orchestrator.progress import Kept, Outcome, Run, StepState
from agents.orchestrator.verify import Answer, Assembly, better, drafted
from agents.parts import Parts
from agents.port import MeshPort, Offer
from capabilities.messages import Paid
from mesh.core.access import CLOUD
from mesh.core.errors import GossamerError, Rejected

MIN_COME_BACK_S = 1.0  # of a REJECT that names no time: whoever asks again at once adds to it


class Judge:
    """Judges the attempts of an executor, and says what a step came to."""

    def __init__(self, port: MeshPort, parts: Parts, counters: Counter[str]) -> None:
        self._port = port
        self._parts = parts
        self.counters = counters

    def failed(
        self, state: StepState, run: Run, offer: Offer, assembly: Assembly, error: GossamerError
    ) -> None:
        self.counters[f"failed.{error.code}"] += 1
        if isinstance(error, Rejected):
            state.come_back_s = max(error.retry_after_s, MIN_COME_BACK_S)
        if offer.served.name == CLOUD:
            self._cloud_failed(state, run, offer, assembly, error)
            return
        if isinstance(error, Rejected):
            state.rejections += 1
            state.tried.update(other.node for other in state.line)  # all of them said no
            state.retry_after_s = max(state.retry_after_s, error.retry_after_s)
        else:
            state.retry_after_s = -1.0
        state.last = f"{offer.node_name}: {error.sentence()}"
        state.last_node, state.last_chars = offer.node_name, assembly.chars
        self.counters["discarded_chars"] += assembly.chars
        run.note(
            self._port,
            state.step.id,
            "execute.attempt",
            f"failed: {error.sentence()}",
            inputs={"node": offer.node_name, "code": error.code, "chars": assembly.chars},
        )

    def _cloud_failed(
        self, state: StepState, run: Run, offer: Offer, assembly: Assembly, error: GossamerError
    ) -> None:
        """The cloud is one rung: that it failed says nothing about the nodes of the mesh."""
        state.cloud.why_not = f"the cloud by way of {offer.node_name}: {error.sentence()}"
        if not state.last:
            state.last = state.nobody or state.cloud.why_not
        state.last_node, state.last_chars = offer.node_name, assembly.chars
        self.counters["cloud_failed"] += 1
        self.counters["discarded_chars"] += assembly.chars
        run.note(
            self._port,
            state.step.id,
            "escalation.cloud_attempt",
            f"failed: {error.sentence()}",
            inputs={"node": offer.node_name, "code": error.code, "chars": assembly.chars},
        )

    def judged(
        self, state: StepState, run: Run, offer: Offer, answer: Answer, assembly: Assembly
    ) -> bool:
        """Keep the better answer; True when it will do."""
        floor = climbing.floor_of(self._parts, state, run.task, offer)
        expert = state.route.expert or state.switched
        draft = drafted(
            answer,
            question=state.question,
            expert=expert,
            file_sha256=offer.model.file_sha256 if offer.model else "",
        )
        verdict = self._parts.gap.judge(draft, floor)
        run.note(
            self._port,
            state.step.id,
            "verify",
            f"{verdict.action}: {verdict.why}",
            score=verdict.confidence,
            threshold=floor,
            inputs={
                "node": offer.node_name,
                "finish": answer.done.finish,
                "judged_by": verdict.judged_by,
            },
        )
        if answer.done.paid is not None:
            self._note_paid(run, state, offer, answer.done.paid)
        if answer.done.halves is not None:
            halves = answer.done.halves
            facts = dict(msgspec.to_builtins(halves), node=offer.node_name)
            run.note(self._port, state.step.id, "two machines", halves_line(halves), inputs=facts)
        kept = Kept(answer, verdict, offer, offer.served.name)
        if state.kept is None or better(state.kept.verdict, verdict):
            state.kept = kept
        if verdict.action == ACCEPT:
            return True
        self.counters["doubted"] += 1
        state.last = f"{offer.node_name}: {verdict.why}"
        state.last_node, state.last_chars = offer.node_name, assembly.chars
        state.model = offer.served.model or answer.done.model
        state.retry_after_s = -1.0
        if verdict.declined:
            self._switch(state, run)
        return False

    def _note_paid(self, run: Run, state: StepState, offer: Offer, paid: Paid) -> None:
        self.counters["cloud_answers"] += 1
        state.cloud.spent += paid.cost
        run.note(
            self._port,
            state.step.id,
            "escalation.paid",
            f"{paid.provider} answered with {paid.model}: {state.cloud.because}",
            score=paid.cost,
            inputs={
                "node": offer.node_name,
                "currency": paid.currency,
                "estimated": paid.estimated,
                "attempts": paid.attempts,
            },
        )

    def _switch(self, state: StepState, run: Run) -> None:
        """A model declined: the classifier's next name is asked. To decline is cheap, so that it
        takes none of the step's attempts away."""
        if state.node or run.options.name:
            return  # this one was asked for
        if state.route.expert and self._others(state, run):
            return  # a larger model of the same name may well do
        state.declined.append(state.name)
        for name in state.route.others:
            if name in state.declined:
                continue
            try:
                found = self._port.resolve(name, run.task)
            except GossamerError:
                continue
            if found:
                run.note(
                    self._port,
                    state.step.id,
                    "relevance.second",
                    f"{state.name} declined: ask {name}",
                )
                state.name, state.switched, state.model = name, True, ""
                state.tried.clear()
                return

    def _others(self, state: StepState, run: Run) -> bool:
        """Whether another model than this one answers for the name as well."""
        try:
            found = self._port.resolve(state.name, run.task, frozenset(state.tried))
        except GossamerError:
            return False
        return any(offer.served.model != state.model for offer in found if offer.healthy)

    def conclude(self, state: StepState, run: Run) -> Outcome:
        kept = state.kept
        if kept is None:
            self.counters["steps_failed"] += 1
            error = state.nobody or state.last or "there was no time to ask anybody"
            if state.last:
                error = f"no node gave an answer for {state.name}; the last was {state.last}"
            if state.cloud.why_not and state.cloud.why_not not in error:
                error = f"{error}; {state.cloud.why_not}"
            if state.come_back_s >= 0:
                error = f"{error}; ask again in {state.come_back_s:.0f} s"
            view = state.view(run, self._port.now(), "failed", error=error)
            return Outcome(view, usable=False)
        accepted = kept.verdict.action == ACCEPT
        confidence = kept.verdict.confidence
        if not state.switched and kept.answer.done.paid is None:
            confidence *= state.route.trust
        error = "" if accepted else f"{kept.verdict.why} (on {kept.offer.node_name})"
        if accepted and confidence < self._parts.thresholds.floor:
            error = "no name in the mesh fits this question; the general model answered"
        if not state.note and state.last and kept.offer.node_name != state.last_node:
            state.note = f"asked again elsewhere: {state.last}"
        view = state.view(run, self._port.now(), "ok", error=error, confidence=confidence)
        return Outcome(view, usable=not (kept.verdict.declined or kept.verdict.cut))
