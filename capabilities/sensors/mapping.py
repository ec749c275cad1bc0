"""Which messages become which updates of which feed: the rules of ``[[mqtt.map]]``. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from capabilities.data.messages import MAX_KEY_CHARS
from capabilities.sensors.payload import Shape, decode
from capabilities.sensors.readings import Measured
from capabilities.sensors.topics import TopicPattern, fill, fill_name, name_part, places_of
from mesh.core.errors import ConfigError
from mesh.core.names import check_name


@dataclass(frozen=True)
class Rule:
    """One mapping. ``name`` and ``key`` are templates over the places of the topic; ``device`` in
    them is who the payload says measured."""

    pattern: TopicPattern
    name: str
    key: str = ""
    """Empty: the places that neither name nor value use, joined by /, then the device."""
    shape: Shape = field(default_factory=Shape)
    qos: int = 1
    retained: bool = True
    """Take what the broker kept from before; False waits for something new."""
    shared: bool = False
    """Others that are shared may take the same message: entities of one device."""

    def __post_init__(self) -> None:
        known = {*self.pattern.places, "device"}
        for template in (self.name, self.key, self.shape.value):
            if unknown := places_of(template) - known:
                raise ConfigError(
                    f"{template!r} names {{{min(unknown)}}}, which {self.pattern.text!r} has not"
                )
        if not self.name.startswith("data.gpt/"):
            raise ConfigError(f"{self.name} is no feed", hint="feeds are data.gpt/<domain>/<type>")
        if "{" not in self.name:
            check_name(self.name)

    def key_of(self, words: Mapping[str, str], device: str) -> str:
        """The key of a reading, within the bounds of keys."""
        if self.key:
            key = fill(self.key, {**words, "device": device})
        else:
            used = places_of(self.name) | places_of(self.shape.value)
            left = [words[place] for place in self.pattern.places if place not in used]
            key = "/".join([*left, device] if device else left)
        return "".join(sign for sign in key if sign.isprintable())[:MAX_KEY_CHARS]


@dataclass(frozen=True)
class Taken:
    """Readings on their way into a feed."""

    name: str
    key: str
    measured: Measured


class Mapper:
    """All rules; the first that fits a topic decides."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        self.rules = list(rules)

    def filters(self) -> dict[str, Rule]:
        """What to subscribe to."""
        return {rule.pattern.filter: rule for rule in reversed(self.rules)}

    def rules_for(self, topic: str) -> list[tuple[Rule, dict[str, str]]]:
        """The rule of a topic with what stood in its places; several where they share it."""
        found: list[tuple[Rule, dict[str, str]]] = []
        for rule in self.rules:
            if found and not rule.shared:
                continue
            words = rule.pattern.match(topic)
            if words is not None:
                found.append((rule, words))
                if not rule.shared:
                    break
        return found


def taken(rule: Rule, words: Mapping[str, str], body: bytes) -> list[Taken]:
    """What a message means under its rule; raises :class:`~mesh.core.errors.WireError`."""
    shape = rule.shape
    if "{" in shape.value:
        shape = replace(shape, value=name_part(fill(shape.value, words)))
    return place(rule, words, decode(body, shape))


def place(rule: Rule, words: Mapping[str, str], measured: Sequence[Measured]) -> list[Taken]:
    """Readings with the feed and the key that they go to."""
    return [
        Taken(
            fill_name(rule.name, {**words, "device": one.device}),
            rule.key_of(words, one.device),
            one,
        )
        for one in measured
    ]
