"""MQTT topics with named places, and the texts that are made of what stood there. Pure.

``city/{station}/air`` subscribes to ``city/+/air`` and knows the station of each message;
``{rest}`` at the end is ``#``. A bare ``+`` is called 1, 2, ... Source of the rules: MQTT 5.0,
section 4.7.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from mesh.core.errors import ConfigError

MAX_TOPIC_CHARS = 512  # a peer's topic ends up as a key of at most 120
REST = "rest"
_PLACE = re.compile(r"\{([a-z0-9_]+)\}")
_NOT_IN_A_NAME = re.compile(r"[^a-z0-9_.-]+")


class TopicPattern:
    """What a mapping listens to. Raises :class:`ConfigError` for what is no filter."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.places: list[str] = []
        levels, parts = [], text.split("/")
        anonymous = 0
        for number, part in enumerate(parts):
            last = number == len(parts) - 1
            if part in {"#", f"{{{REST}}}"}:
                if not last:
                    raise ConfigError(f"{text!r}: # and {{rest}} stand at the end")
                self.places.append(REST)
                levels.append("#")
            elif part == "+":
                anonymous += 1
                self.places.append(str(anonymous))
                levels.append("+")
            elif (found := _PLACE.fullmatch(part)) is not None:
                self.places.append(found[1])
                levels.append("+")
            elif any(sign in part for sign in "+#{}\0"):
                raise ConfigError(
                    f"{text!r}: a wildcard is a whole level", hint="such as city/{station}/air"
                )
            else:
                levels.append(part)
        if not text or len(text) > MAX_TOPIC_CHARS:
            raise ConfigError(f"a topic has 1 to {MAX_TOPIC_CHARS} characters")
        if len(set(self.places)) != len(self.places):
            raise ConfigError(f"{text!r} names a place twice")
        self._levels = levels
        self.filter = "/".join(levels)

    def match(self, topic: str) -> dict[str, str] | None:
        """What stands in each place, or None for a topic of somebody else.

        A filter that begins with a wildcard does not match topics of the broker ($SYS).
        """
        parts, levels = topic.split("/"), self._levels
        if topic.startswith("$") and levels[0] in {"+", "#"}:
            return None
        found: list[str] = []
        for number, level in enumerate(levels):
            if level == "#":
                found.append("/".join(parts[number:]))
                return dict(zip(self.places, found, strict=True))
            if number >= len(parts) or (level not in {"+", parts[number]}):
                return None
            if level == "+":
                found.append(parts[number])
        return dict(zip(self.places, found, strict=True)) if len(parts) == len(levels) else None


def places_of(template: str) -> set[str]:
    """The places that a template names."""
    return set(_PLACE.findall(template))


def fill(template: str, words: Mapping[str, str]) -> str:
    """The template with the words in their places; one that is not known stays empty."""
    if "{" not in template:
        return template
    return _PLACE.sub(lambda found: words.get(found[1], ""), template)


def name_part(word: str) -> str:
    """A word as it may stand in a ``data.gpt`` name or be the name of a reading."""
    return _NOT_IN_A_NAME.sub("-", word.lower()).strip("-._") or "unnamed"


def fill_name(template: str, words: Mapping[str, str]) -> str:
    """A ``data.gpt`` name: what stood in a topic is brought into the grammar of names."""
    return fill(template, {place: name_part(word) for place, word in words.items()})
