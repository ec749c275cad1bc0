"""From a name to the endpoints that serve it, best first, in microseconds.

Order: health (alive before suspect or merely remembered), then the SRV priority of RFC 2782,
then whether there is a free slot, then chance in proportion to weight. Load is compared
coarsely on purpose: the least loaded by some percent is everybody's choice at once, and then
the most loaded. The three ways to fail differ, because their cures do.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Collection, Mapping
from typing import NamedTuple

from mesh.core.cms import Store
from mesh.core.errors import AccessDenied, NobodyHealthy, NoSuchName
from mesh.core.events import PeerState
from mesh.core.identity import Member
from mesh.core.names import parse_address
from mesh.core.records import ServedName

Allowed = Callable[[str, Member], bool]
"""Whether policy lets this node use the name at that member."""

MANY = 32  # above this, a weighted sample stands for all: nobody tries forty endpoints
SAMPLE = 16

# The dead and the departed are not here: they are no choice at all.
TIERS = {PeerState.ALIVE: 0, PeerState.UNKNOWN: 1, PeerState.SUSPECT: 1}


class Choice(NamedTuple):
    """One endpoint for a name."""

    node: bytes
    member: Member
    served: ServedName
    state: PeerState
    load: float  # busy slots over slots as last known, 0 when not known


class Listing(NamedTuple):
    """A name that the mesh offers, and who serves it."""

    name: str
    nodes: tuple[bytes, ...]
    healthy: int


class _Group:
    """The servers of a name at one priority, with their weights summed up."""

    __slots__ = ("cumulative", "nodes")

    def __init__(self, rows: list[tuple[bytes, int]]) -> None:
        self.nodes = [node for node, _ in rows]
        self.cumulative: list[float] = []
        total = 0.0
        for _, weight in rows:
            total += _weight(weight)
            self.cumulative.append(total)


def _weight(weight: int) -> float:
    """RFC 2782 gives weight 0 "a very small chance"; claims are bounded as a port's are."""
    return float(min(weight, 65535)) if weight > 0 else 0.01


class Resolver:
    """Resolution over a store. ``state_of`` and ``load_of`` are asked per endpoint."""

    def __init__(
        self,
        store: Store,
        rng: random.Random,
        state_of: Callable[[bytes], PeerState],
        load_of: Callable[[bytes], float],
    ) -> None:
        self._store = store
        self._rng = rng
        self._state_of = state_of
        self._load_of = load_of
        self._groups: dict[str, list[_Group]] = {}
        self._revision = -1

    def resolve(
        self, address: str, allowed: Allowed | None = None, exclude: Collection[bytes] = ()
    ) -> list[Choice]:
        """The endpoints of ``name`` or ``name@node``, best first, never an empty list.

        Raises :class:`NoSuchName` when nobody advertises it, :class:`AccessDenied` when
        policy forbids every server, :class:`NobodyHealthy` when those allowed are dead, left
        or excluded, and :class:`~mesh.core.errors.NameInvalid` for no address at all.
        """
        name, label = parse_address(address) if "@" in address else (address, "")
        servers = self._store.names.servers(name)
        if not servers:
            parse_address(address)
            raise NoSuchName(
                f"nobody in the mesh offers {name}",
                hint="`gossamer names` lists what is offered",
            )
        if label:
            labelled = self._store.names.labelled(label)
            groups = [_Group([(n, servers[n].weight) for n in servers if n in labelled])]
            if not groups[0].nodes:
                raise NoSuchName(f"no node called {label!r} offers {name}")
        else:
            groups = self._grouped(name, servers)
        choices = self._choose(name, groups, servers, allowed, exclude, sample=True)
        if not choices and any(len(group.nodes) > MANY for group in groups):
            choices = self._choose(name, groups, servers, allowed, exclude, sample=False)
        if not choices:
            self._explain(address, name, groups, allowed)
        return choices

    def _grouped(self, name: str, servers: Mapping[bytes, ServedName]) -> list[_Group]:
        if self._revision != self._store.names.revision:
            self._revision = self._store.names.revision
            self._groups.clear()
        groups = self._groups.get(name)
        if groups is None:
            by_priority: dict[int, list[tuple[bytes, int]]] = {}
            for node, served in servers.items():
                by_priority.setdefault(served.priority, []).append((node, served.weight))
            groups = [_Group(by_priority[priority]) for priority in sorted(by_priority)]
            self._groups[name] = groups
        return groups

    def _choose(
        self,
        name: str,
        groups: list[_Group],
        servers: Mapping[bytes, ServedName],
        allowed: Allowed | None,
        exclude: Collection[bytes],
        *,
        sample: bool,
    ) -> list[Choice]:
        rng = self._rng
        rows: list[tuple[tuple[int, int, int, float], Choice]] = []
        for rank, group in enumerate(groups):
            nodes = group.nodes
            sampled = sample and len(nodes) > MANY
            if sampled:
                picks = rng.choices(nodes, cum_weights=group.cumulative, k=SAMPLE)
                nodes = list(dict.fromkeys(picks))
            for place, node in enumerate(nodes):
                state = self._state_of(node)
                tier = TIERS.get(state)
                member = self._store.member(node)
                if tier is None or node in exclude or member is None:
                    continue
                if allowed is not None and not allowed(name, member):
                    continue
                load = self._load_of(node)
                # The first of n exponential draws with rates w is i with chance w_i / sum w.
                chance = (
                    float(place)
                    if sampled
                    else -math.log(1.0 - rng.random()) / _weight(servers[node].weight)
                )
                key = (tier, rank, int(load >= 1.0), chance)
                rows.append((key, Choice(node, member, servers[node], state, load)))
            if len(rows) >= SAMPLE and rows[-1][0][0] == 0 and sample:
                break
        rows.sort(key=lambda row: row[0])
        return [choice for _, choice in rows]

    def _explain(
        self, address: str, name: str, groups: list[_Group], allowed: Allowed | None
    ) -> None:
        members = [self._store.member(node) for group in groups for node in group.nodes]
        known = [member for member in members if member is not None]
        if allowed is not None and known and not any(allowed(name, m) for m in known):
            raise AccessDenied(
                f"policy does not let this node use {name}",
                hint="ask the owner of the node that offers it, or look at its access rules",
            )
        names = ", ".join(sorted(m.name for m in known)[:5])
        raise NobodyHealthy(
            f"{address} is offered by {names}, but none of them can be used now",
            hint="`gossamer peers` shows who is reachable",
        )

    def names(self, pattern: str = "") -> list[Listing]:
        """What the mesh offers under a pattern (empty: all), in order; raises for a bad one."""
        listings = []
        for name in self._store.names.all(pattern):
            nodes = tuple(self._store.names.servers(name))
            healthy = sum(self._state_of(node) is PeerState.ALIVE for node in nodes)
            listings.append(Listing(name, nodes, healthy))
        return listings
