"""Replaceable parts: a name in the configuration becomes the part that decides.

A part is found, in this order, as one of Gossamer's own, as ``package.module:attribute``, or
as an entry point of the group ``gossamer.<kind>`` of an installed distribution. Names come
from the node's own configuration, never from a peer: loading a part runs its code.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from importlib import metadata
from typing import Any, Generic, TypeVar

from mesh.core.errors import ConfigError

T = TypeVar("T")


class Registry(Generic[T]):
    """The parts of one kind. ``builtins`` maps a name to ``module:attribute``, loaded late."""

    def __init__(self, kind: str, builtins: Mapping[str, str]) -> None:
        self.kind = kind
        self._builtins = dict(builtins)
        self._added: dict[str, Callable[..., T]] = {}

    @property
    def group(self) -> str:
        """The entry point group that a distribution announces its parts under."""
        return f"gossamer.{self.kind}"

    def add(self, name: str, factory: Callable[..., T]) -> None:
        """Make ``factory`` available as ``name``; a later one takes the place of an earlier."""
        self._added[name] = factory

    def names(self) -> list[str]:
        """What a configuration may say, without dotted paths."""
        announced = {point.name for point in metadata.entry_points(group=self.group)}
        return sorted({*self._builtins, *self._added, *announced})

    def create(self, name: str, options: Mapping[str, Any] | None = None) -> T:
        """The part called ``name``, made with ``options``; raises :class:`ConfigError`."""
        factory = self.find(name)
        try:
            return factory(**(options or {}))
        except TypeError as error:
            raise ConfigError(
                f"the {self.kind} {name!r} does not take these options: {error}",
                hint=f"look at the fields of {name!r}",
            ) from error

    def find(self, name: str) -> Callable[..., T]:
        """What makes the part called ``name``; raises :class:`ConfigError`."""
        if name in self._added:
            return self._added[name]
        path = self._builtins.get(name) or (name if ":" in name else "")
        if path:
            return self._load(name, path)
        for point in metadata.entry_points(group=self.group):
            if point.name == name:
                return self._load(name, point.value)
        raise ConfigError(
            f"there is no {self.kind} called {name!r}",
            hint=f"one of {', '.join(self.names())}, or package.module:attribute",
        )

    def _load(self, name: str, path: str) -> Callable[..., T]:
        module, _, attribute = path.partition(":")
        try:
            factory: Callable[..., T] = getattr(importlib.import_module(module), attribute)
        except (ImportError, AttributeError) as error:
            raise ConfigError(
                f"the {self.kind} {name!r} cannot be loaded from {path!r}: {error}",
                hint="is the distribution that holds it installed in this environment?",
            ) from error
        if not callable(factory):
            raise ConfigError(f"the {self.kind} {name!r} at {path!r} is not callable")
        return factory
