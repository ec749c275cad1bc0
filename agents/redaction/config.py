"""How redaction is configured, and a redactor made of it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

import msgspec

from agents.redaction.masking import Redactor
from agents.redaction.rules import KIND, Detector, Listed, Pattern, residues, shapes
from mesh.core.errors import ConfigError

if TYPE_CHECKING:
    from agents.registry import Registry


class PatternSettings(Protocol):
    """A pattern of the user's; see :class:`OwnPattern`."""

    @property
    def kind(self) -> str: ...
    @property
    def pattern(self) -> str: ...
    @property
    def ignore_case(self) -> bool: ...


class RedactionSettings(Protocol):
    """What :func:`make_redactor` reads: :class:`RedactionConfig`, or ``[redaction]`` of the
    agent's configuration."""

    @property
    def enabled(self) -> bool: ...
    @property
    def required(self) -> bool: ...
    @property
    def people(self) -> Sequence[str]: ...
    @property
    def places(self) -> Sequence[str]: ...
    @property
    def regions(self) -> Sequence[str]: ...
    @property
    def words(self) -> Mapping[str, Sequence[str]]: ...
    @property
    def patterns(self) -> Sequence[PatternSettings]: ...
    @property
    def detectors(self) -> Sequence[str]: ...
    @property
    def keep(self) -> Sequence[str]: ...


class OwnPattern(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A pattern of the user's: what ``pattern`` matches (or its group ``value``) is of ``kind``,
    a word in capitals. A pattern that backtracks without bound makes every masking slow."""

    kind: str
    pattern: str
    ignore_case: bool = True


class RedactionConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What to mask besides the rules that are always on.

    ``enabled``: mask at all. ``required``: refuse a text in which personal data seems to be
    left after masking. ``people`` and ``places``: names to mask wherever they stand; for a
    person with several names also each alone is masked (not particles and initials).
    ``regions``: countries whose national telephone numbers are recognised ("DE", "US").
    ``words``: lists of your own by kind, such as ``{"PROJECT": ["Bluebird"]}``. ``patterns``:
    your own. ``detectors``: plug-ins by name (entry points of the group ``gossamer.redaction``,
    or ``package.module:attribute``). ``keep``: texts never masked, such as a public hotline;
    they do not leave a residue either.
    """

    enabled: bool = True
    required: bool = True
    people: tuple[str, ...] = ()
    places: tuple[str, ...] = ()
    regions: tuple[str, ...] = ()
    words: dict[str, tuple[str, ...]] = {}
    patterns: tuple[OwnPattern, ...] = ()
    detectors: tuple[str, ...] = ()
    keep: tuple[str, ...] = ()


def make_redactor(
    config: RedactionSettings | None = None, registry: Registry[Detector] | None = None
) -> Redactor:
    """The redactor of a configuration; raises :class:`ConfigError` naming what is wrong.

    ``registry`` finds the plug-ins; :func:`agents.configure.build_redactor` brings it.

        masking = make_redactor(config.redaction).begin()    # one per conversation
        outgoing = masking.outgoing(question)                # masked, or PersonalDataLeft
        answer = masking.unmask(await cloud(outgoing))       # or masking.stream(), in pieces
    """
    config = config or RedactionConfig()
    own: list[Detector] = []
    for entry in config.patterns:
        _check_kind(entry.kind)
        try:
            own.append(Pattern(entry.kind, entry.pattern, re.I if entry.ignore_case else 0))
        except re.error as error:
            raise ConfigError(f"redaction: the pattern of {entry.kind}: {error}") from error
    for kind, words in config.words.items():
        _check_kind(kind)
        own.append(Listed(kind, words))
    if config.detectors and registry is None:
        raise ConfigError("redaction: plug-ins are named, but nothing can load them here")
    if registry is not None:
        own += [registry.create(name) for name in config.detectors]
    if not config.enabled:
        return Redactor((), required=False)
    detectors = [
        Listed("PERSON", _each(config.people)),
        Listed("PLACE", config.places),
        *own,
        *shapes(config.regions),
    ]
    return Redactor(detectors, residues(), config.keep, required=config.required)


def _check_kind(kind: str) -> None:
    if not KIND.fullmatch(kind):
        raise ConfigError(
            f"redaction: the kind {kind!r} must be 2 to 16 capital letters",
            hint='such as kind = "PROJECT"',
        )


def _each(people: Sequence[str]) -> list[str]:
    parts = [
        part for name in people for part in name.split() if len(part) > 2 and part[0].isupper()
    ]
    return [*people, *parts]
