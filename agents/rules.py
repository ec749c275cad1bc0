"""From the access rules of a configuration to a policy."""

from __future__ import annotations

from collections.abc import Sequence

from agents.config import RuleSection
from mesh.core.access import Operation, Policy, Rule
from mesh.core.errors import ConfigError


def make_policy(sections: Sequence[RuleSection]) -> Policy:
    """The policy of these rules; raises :class:`ConfigError` that names the rule."""
    rules = []
    for section in sections:
        try:
            operations = tuple(Operation(op) for op in section.ops)
        except ValueError as error:
            raise ConfigError(
                f"access rule for {section.names}: {error}",
                hint=f"operations are {', '.join(Operation)}",
            ) from error
        rules.append(
            Rule(
                allow=section.allow,
                names=section.names,
                groups=section.groups,
                nodes=section.nodes,
                ops=operations,
            )
        )
    return Policy(rules)
