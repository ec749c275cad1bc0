"""Who serves which name: the indices that make resolving a matter of microseconds."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType

from mesh.core.names import check_pattern, is_pattern, matches
from mesh.core.records import ServedName

Offer = tuple[bytes, ServedName]
_NOBODY: Mapping[bytes, ServedName] = MappingProxyType({})


class NameIndex:
    """Names to servers, and node names to ids. ``revision`` rises with every change."""

    def __init__(self) -> None:
        self._servers: dict[str, dict[bytes, ServedName]] = {}
        self._labels: dict[str, set[bytes]] = {}
        self.revision = 0

    def servers(self, name: str) -> Mapping[bytes, ServedName]:
        """Who advertises exactly this name (a live view)."""
        return self._servers.get(name, _NOBODY)

    def all(self, pattern: str = "") -> list[str]:
        """The advertised names under a pattern (empty: all), in order; raises for a bad one."""
        if not pattern:
            return sorted(self._servers)
        check_pattern(pattern)
        if not is_pattern(pattern):
            return [pattern] if pattern in self._servers else []
        return sorted(name for name in self._servers if matches(pattern, name))

    def under(self, pattern: str = "") -> Iterator[Offer]:
        """Every offer under a pattern; raises for a bad one."""
        for name in self.all(pattern):
            yield from self._servers[name].items()

    def labelled(self, label: str) -> frozenset[bytes]:
        """The ids of the nodes whose certificate bears this node name."""
        return frozenset(self._labels.get(label, ()))

    def add(self, node: bytes, names: Iterable[ServedName]) -> None:
        """The node serves these."""
        for served in names:
            self._servers.setdefault(served.name, {})[node] = served
        self.revision += 1

    def drop(self, node: bytes, names: Iterable[ServedName]) -> None:
        """The node no longer serves these."""
        for served in names:
            servers = self._servers.get(served.name)
            if servers is not None and servers.pop(node, None) is not None and not servers:
                del self._servers[served.name]
        self.revision += 1

    def label(self, node: bytes, label: str) -> None:
        """The node bears this node name."""
        self._labels.setdefault(label, set()).add(node)

    def unlabel(self, node: bytes, label: str) -> None:
        """It no longer does."""
        nodes = self._labels.get(label)
        if nodes is not None:
            nodes.discard(node)
            if not nodes:
                del self._labels[label]
