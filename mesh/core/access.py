"""Who may do what with which name.

Rules are read from top to bottom, the first that fits decides. Where none fits, `data.gpt`
is denied and the rest is allowed to members. A node may do everything with its own names.
Publishing is decided by the certificate, never by a rule here.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence

import msgspec

from mesh.core.errors import AccessDenied, ConfigError, NameInvalid
from mesh.core.identity import Member
from mesh.core.names import check_pattern, matches
from mesh.core.wire import CallHeader, Op, Reach


class Operation(enum.StrEnum):
    """What can be allowed or denied."""

    RESOLVE = "resolve"
    QUERY = "query"
    PUBLISH = "publish"
    SUBSCRIBE = "subscribe"
    DELEGATE = "delegate"
    ESCALATE = "escalate"
    STATES = "states"  # at the sender: whether hidden rows may go to that node
    ADMIN = "admin"  # drain, load, unload, change a policy


OPERATION_OF = {
    Op.QUERY: Operation.QUERY,
    Op.SUBSCRIBE: Operation.SUBSCRIBE,
    Op.DELEGATE: Operation.DELEGATE,
}


SPECIAL = frozenset({Operation.PUBLISH, Operation.STATES, Operation.ADMIN})  # not by rules alone

CLOUD = "computation.gpt/cloud"
# Every node answers it and none advertises it. A certificate that grants this very name, and not
# only a pattern over it, is the right to administer other nodes.
ADMIN = "computation.gpt/admin"
SEGMENT = "computation.gpt/segment/"  # calls of these names carry hidden rows


def operations_on(name: str, op: Op) -> tuple[Operation, ...]:
    """Everything that a call needs to be allowed: asking the cloud is also an escalation,
    whichever node pays for it. Administration is a thing of its own."""
    if name == ADMIN:
        return (Operation.ADMIN,)
    asked = OPERATION_OF[op]
    return (asked, Operation.ESCALATE) if name == CLOUD else (asked,)


def carries_states(name: str) -> bool:
    """Whether calls of ``name`` carry what a model made of a text, such as hidden rows."""
    return name.startswith(SEGMENT)


class Rule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One line of policy. Empty ``groups`` and ``nodes`` mean everybody; ``ops`` all of
    them, but a rule that allows ``states`` or ``admin`` has to name it."""

    allow: bool
    names: str
    groups: tuple[str, ...] = ()
    nodes: tuple[str, ...] = ()
    ops: tuple[Operation, ...] = ()

    def fits(self, member: Member, name: str, operation: Operation) -> bool:
        """Whether this rule speaks of the case."""
        return not self.misfit(member, name, operation)

    def misfit(self, member: Member, name: str, operation: Operation) -> str:
        """Why this rule does not speak of the case; empty when it does."""
        if self.ops and operation not in self.ops:
            return f"it does not speak of {operation}"
        if operation is Operation.STATES and self.allow and not self.ops:
            return "it does not name states"
        if operation is Operation.ADMIN and self.allow and not self.ops:
            return "it does not name admin"
        if self.groups or self.nodes:
            named = member.name in self.nodes
            grouped = not set(self.groups).isdisjoint(member.groups)
            if not (named or grouped):
                return f"{member.name} is not among them"
        return "" if matches(self.names, name) else f"{name} is not under it"

    def sentence(self) -> str:
        """The rule in words, for explanations."""
        who = ", ".join([f"group {g}" for g in self.groups] + [f"node {n}" for n in self.nodes])
        what = ", ".join(self.ops) or "everything"
        verb = "may" if self.allow else "may not"
        return f"{who or 'every member'} {verb} {what} on {self.names}"


class Decision(msgspec.Struct, frozen=True):
    """What was decided, and by which rule, in words."""

    allowed: bool
    rule: str


class Explanation(msgspec.Struct, frozen=True):
    """A decision with its reasons. ``number`` is the rule's line, counted from 1; 0 where no
    rule spoke. ``passed_over`` are the lines above it, and why each does not fit."""

    allowed: bool
    rule: str
    number: int
    passed_over: tuple[tuple[int, str, str], ...] = ()


class Policy:
    """The rules of one node; they are checked where the work is done."""

    def __init__(self, rules: Sequence[Rule] = ()) -> None:
        for rule in rules:
            try:
                check_pattern(rule.names)
            except NameInvalid as error:
                raise ConfigError(f"access rule: {error.message}", hint=error.hint) from error
        self.rules = tuple(rules)

    def first(self, member: Member, name: str, operation: Operation) -> Rule | None:
        """The first rule that speaks of the case."""
        return next((rule for rule in self.rules if rule.fits(member, name, operation)), None)

    def decide(self, member: Member, name: str, operation: Operation, *, own: bool) -> Decision:
        """Whether ``member`` may do ``operation`` on ``name``; ``own``: it asks itself."""
        if operation is Operation.PUBLISH:
            allowed = member.may_publish(name)
            grants = ", ".join(member.publish) or "nothing"
            return Decision(allowed, f"the certificate of {member.name} grants {grants}")
        if own:
            return Decision(True, "a node may use its own names")
        rule = self.first(member, name, operation)
        if rule is not None:
            return Decision(rule.allow, rule.sentence())
        if operation is Operation.STATES:
            return Decision(False, "hidden rows go only where a rule with states allows it")
        if operation is Operation.ADMIN:
            words = "grants" if ADMIN in member.publish else "does not grant"
            return Decision(
                ADMIN in member.publish, f"the certificate of {member.name} {words} {ADMIN}"
            )
        if name.startswith("data.gpt/"):
            return Decision(False, "data.gpt is denied where no rule allows it")
        return Decision(True, "members may use computation.gpt and knowledge.gpt")

    def explain(self, member: Member, name: str, operation: Operation, *, own: bool) -> Explanation:
        """What :meth:`decide` decides, and which rules it passed over on the way."""
        decision = self.decide(member, name, operation, own=own)
        if own or operation is Operation.PUBLISH:
            return Explanation(decision.allowed, decision.rule, 0)
        passed: list[tuple[int, str, str]] = []
        for number, rule in enumerate(self.rules, 1):
            why = rule.misfit(member, name, operation)
            if not why:
                return Explanation(decision.allowed, decision.rule, number, tuple(passed))
            passed.append((number, rule.sentence(), why))
        return Explanation(decision.allowed, decision.rule, 0, tuple(passed))

    def require(self, member: Member, name: str, operation: Operation, *, own: bool) -> None:
        """Raises :class:`AccessDenied` with the rule that decided."""
        # The common case, without the words that explain it.
        if not own and operation not in SPECIAL:
            rule = self.first(member, name, operation) if self.rules else None
            if rule.allow if rule is not None else not name.startswith("data.gpt/"):
                return
        decision = self.decide(member, name, operation, own=own)
        if not decision.allowed:
            raise AccessDenied(
                f"{member.name} may not {operation} {name}: {decision.rule}",
                hint="the owner of the node that offers it can add an access rule",
            )


def check_reach(header: CallHeader, callee: Member, *, own: bool) -> None:
    """Whether a task that limits its reach may be worked on here; raises AccessDenied.

    Source: the task's own limits in the call header; a delegate cannot widen them because
    every callee checks them again.
    """
    if own or header.reach >= Reach.MESH:
        return
    if header.reach == Reach.NODE:
        raise AccessDenied("this task may not leave the node that it was given to")
    if set(header.groups).isdisjoint(callee.groups):
        allowed = ", ".join(header.groups) or "none"
        raise AccessDenied(f"this task may not leave its group ({allowed})")
