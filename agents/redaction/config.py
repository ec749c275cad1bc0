"""How redaction is configured, and a redactor made of it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import msgspec

from agents.redaction.masking import Redactor
from agents.redaction.rules import KIND, Detector, Listed, Pattern, residues, shapes
from mesh.core.errors import ConfigError

if TYPE_CHECKING:
    from agents.registry import Registry


class OwnPattern(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A pattern of the user's: what ``pattern`` matches (or its group ``value``) is of ``kind``,
    a word in capitals. A pattern that backtracks without bound makes every masking slow."""

    kind: str
    pattern: str
    ignore_case: bool = True


class RedactionConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What to mask besides the rules that are always on.

    ``people`` and ``places``: names to mask wherever they stand; for a person with several
    names also each alone is masked (not particles and initials). ``regions``: countries whose
    national telephone numbers are recognised ("DE", "US"). ``patterns``: your own. ``detectors``:
    plug-ins by name (entry points of the group ``gossamer.redaction``, or
    ``package.module:attribute``). ``keep``: texts never masked, such as a public hotline; they
    do not leave a residue either.
    """

    people: tuple[str, ...] = ()
    places: tuple[str, ...] = ()
    regions: tuple[str, ...] = ()
    patterns: tuple[OwnPattern, ...] = ()
    detectors: tuple[str, ...] = ()
    keep: tuple[str, ...] = ()


def make_redactor(
    config: RedactionConfig | None = None, registry: Registry[Detector] | None = None
) -> Redactor:
    """The redactor of a configuration; raises :class:`ConfigError` naming what is wrong.

    ``registry`` finds the plug-ins: ``Registry("redaction", {})`` of :mod:`agents.registry`.
    """
    config = config or RedactionConfig()
    own: list[Detector] = []
    for entry in config.patterns:
        if not KIND.fullmatch(entry.kind):
            raise ConfigError(
                f"redaction: the kind {entry.kind!r} must be 2 to 16 capital letters",
                hint='such as kind = "PROJECT"',
            )
        try:
            own.append(Pattern(entry.kind, entry.pattern, re.I if entry.ignore_case else 0))
        except re.error as error:
            raise ConfigError(f"redaction: the pattern of {entry.kind}: {error}") from error
    if config.detectors and registry is None:
        raise ConfigError("redaction: plug-ins are named, but nothing can load them here")
    if registry is not None:
        own += [registry.create(name) for name in config.detectors]
    detectors = [
        Listed("PERSON", _each(config.people)),
        Listed("PLACE", config.places),
        *own,
        *shapes(config.regions),
    ]
    return Redactor(detectors, residues(), config.keep)


def _each(people: tuple[str, ...]) -> list[str]:
    parts = [
        part for name in people for part in name.split() if len(part) > 2 and part[0].isupper()
    ]
    return [*people, *parts]
