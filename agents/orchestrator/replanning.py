"""A failed step as a plan of its own: numbered apart from the first plan, joined to one finding.

Decisions only; :mod:`agents.orchestrator.execute` runs it, once for each failed step.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from agents.orchestrator.modelplan import pointing
from agents.orchestrator.plan import MAX_STEPS, Plan
from agents.orchestrator.progress import Outcome, StepState
from agents.views import StepView

BASE = MAX_STEPS + 2  # step 3 becomes 31, 32, ...: no number of the first plan


def renumbered(plan: Plan, failed: int) -> Plan:
    """The plan with numbers that say which step it stands for."""
    into = {step.id: failed * BASE + step.id for step in plan.steps}
    steps = tuple(
        msgspec.structs.replace(pointing(step, into), id=into[step.id]) for step in plan.steps
    )
    return msgspec.structs.replace(plan, steps=steps)


def joined(failed: StepState, why: str, plan: Plan, outcomes: Mapping[int, Outcome]) -> Outcome:
    """One finding out of those that no other step of the plan builds on; unusable where one of
    them is."""
    used = {parent for step in plan.steps for parent in step.depends}
    ends = [outcomes[step.id] for step in plan.steps if step.id not in used]
    views = [outcomes[step.id].view for step in plan.steps]
    last = ends[-1].view
    view: StepView = msgspec.structs.replace(
        last,
        id=failed.step.id,
        question=failed.question,
        depends=list(failed.step.depends),
        text="\n".join(end.view.text for end in ends),
        tokens=sum(one.tokens for one in views),
        started_s=min(one.started_s for one in views),
        elapsed_s=round(last.started_s + last.elapsed_s - min(v.started_s for v in views), 4),
        attempts=[*failed.attempts, *(node for one in views for node in one.attempts)],
        confidence=min(end.view.confidence for end in ends),
        error=next((end.view.error for end in ends if end.view.error), ""),
        note=(
            f"replanned: {failed.name} failed ({why}), "
            f"then {', '.join(one.name for one in views)} did it"
        ),
    )
    return Outcome(view, usable=all(end.usable for end in ends))
