"""Explaining access, with a running agent or from files alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from agents.config import AgentConfig, RuleSection, load_config
from agents.rules import make_policy
from mesh.core.access import Operation, Policy
from mesh.core.errors import ConfigError, GossamerError
from mesh.core.identity import Member, Signed, Trust, read_certificate
from mesh.core.names import check_name, check_node_name
from mesh.core.records import Profile, decode_record, read_head
from mesh.net.journal import read_journal
from mesh.net.statedir import IDENTITY_FILE, Identity, read_private


def explain(policy: Policy, me: Member, member: Member, name: str, op: str) -> dict[str, Any]:
    """The answer of `gossamer access check`; raises :class:`ConfigError` for a bad operation."""
    check_name(name)
    try:
        operation = Operation(op)
    except ValueError as error:
        raise ConfigError(
            f"{op!r} is no operation", hint=f"operations are {', '.join(Operation)}"
        ) from error
    own = member.node == me.node
    found = policy.explain(member, name, operation, own=own)
    return {
        "allowed": found.allowed,
        "rule": found.rule,
        "number": found.number,
        "passed_over": [list(line) for line in found.passed_over],
        "node": member.name,
        "groups": list(member.groups),
        "name": name,
        "op": op,
        "at": me.name,
    }


def unknown_member(name: str, groups: tuple[str, ...]) -> Member:
    """A node that is not known here, as its owner describes it; it grants nothing."""
    return Member(bytes(16), check_node_name(name), groups, (), b"", b"", 0.0, b"")


def check_offline(
    config: Path, *, node: str, name: str, op: str, groups: list[str]
) -> dict[str, Any]:
    """The same from a configuration file and what its state directory remembers."""
    loaded = load_config(config)
    me, known = _remembered(loaded)
    if groups or node not in known:
        if not groups and me.name != node:
            raise ConfigError(
                f"{node} is not known in {loaded.node.state}", hint="say its groups with --group"
            )
        member = me if node == me.name else unknown_member(node, tuple(groups))
    else:
        member = known[node]
    return explain(make_policy(loaded.access), me, member, name, op)


def _remembered(config: AgentConfig) -> tuple[Member, dict[str, Member]]:
    """This node, and the members in the journal by name; certificates are checked."""
    path = config.node.state / IDENTITY_FILE
    if not path.exists():
        return unknown_member("this-node", ()), {}
    identity = msgspec.json.decode(read_private(path), type=Identity)
    trust = identity.trust
    passport = identity.passport()
    me = trust.check(passport, read_certificate(passport.certificate).not_before)
    known = {me.name: me}
    for raw in read_journal(config.node.state / "journal.mpk"):
        member = _member_in(raw, trust)
        if member is not None:
            known[member.name] = member
    return me, known


def _member_in(raw: bytes, trust: Trust) -> Member | None:
    try:
        signed = msgspec.msgpack.decode(raw, type=Signed)
        record = decode_record(signed, read_head(signed))
        if isinstance(record, Profile):
            body = read_certificate(record.passport.certificate)
            return trust.check(record.passport, body.not_before)
    except (GossamerError, msgspec.MsgspecError, ValueError):
        pass  # a journal also holds farewells
    return None


def rules_of(config: Path) -> list[dict[str, Any]]:
    """The rules of a configuration file as a verb takes them; raises :class:`ConfigError`."""
    loaded = load_config(config)
    make_policy(loaded.access)
    return [rule.model_dump(mode="json") for rule in loaded.access]


def policy_of(rules: list[dict[str, Any]]) -> Policy:
    """The policy of such rules; raises :class:`ConfigError`."""
    try:
        return make_policy(tuple(RuleSection(**rule) for rule in rules))
    except (TypeError, ValueError) as error:
        raise ConfigError(f"access rules: {error}") from error
