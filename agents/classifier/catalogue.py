"""The names that this node knows of: advertised now, advertised once, or well known.

A question must find its name also when nobody offers that name any more: only then can the
answer say so, instead of another model pretending. The well-known names carry a description
and examples of their own; what nodes advertise is added to them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from agents.port import Offer
from mesh.core.records import ServedName

ARITHMETIC = "knowledge.gpt/arithmetic"
MESH = "knowledge.gpt/mesh"
GENERATE = "computation.gpt/generate"
MACHINE = "data.gpt/machine/summary"

# A peer's text is a claim (law 3): bounded, so that no peer can buy all questions with examples.
MAX_EXAMPLES = 12
MAX_TEXT_CHARS = 200
MAX_REMEMBERED = 256

# What cannot answer a question in words, whatever it is about.
WORDLESS_KINDS = frozenset({"embed", "draft", "verify", "segment", "extract", "cache"})
# What no question is led to by its meaning: a feed tells its latest to who asks it by name.
UNROUTED_KINDS = WORDLESS_KINDS | {"subscribe"}


class KnownName(msgspec.Struct, frozen=True):
    """A name as the classifier sees it, whoever offers it."""

    name: str
    domain: str = ""
    description: str = ""
    examples: tuple[str, ...] = ()


WELL_KNOWN: tuple[KnownName, ...] = (
    KnownName(
        ARITHMETIC,
        "arithmetic",
        "adds, subtracts and multiplies whole numbers",
        (
            "What is 48 * 27?",
            "add 12 and 30",
            "subtract 17 from 90",
            "forty-eight times twenty-seven",
            "what is the sum of 310 and 45",
            "7 minus 12",
        ),
    ),
    KnownName(
        MESH,
        "mesh",
        "explains Gossamer itself: the mesh, its nodes, names, gossip, certificates, privacy",
        (
            "What is Gossamer?",
            "How do the nodes find each other?",
            "what is a capability name",
            "Is the traffic between nodes encrypted?",
            "how does gossip spread records",
            "what happens when a node dies",
        ),
    ),
    KnownName(
        GENERATE,
        "general",
        "chats and says who it is and what it can do",
        (
            "Hello!",
            "Who are you?",
            "what can you do",
            "thank you very much",
            "good morning, how are you",
            "can you help me",
        ),
    ),
    KnownName(
        MACHINE,
        "machine",
        "how busy this machine is: processor, memory, disk, temperature, uptime",
        (
            "how busy is this machine?",
            "how much memory is free",
            "what is the cpu load",
            "is the disk full",
            "how warm is the processor",
            "how long has this computer been up",
        ),
    ),
)


def known_names(
    offers: Iterable[Offer],
    remembered: Mapping[str, KnownName] | None = None,
    well_known: Iterable[KnownName] = WELL_KNOWN,
) -> list[KnownName]:
    """Every name a question may belong to, each once, texts of all its sources together."""
    merged: dict[str, KnownName] = {known.name: known for known in well_known}
    for known in (remembered or {}).values():
        merged[known.name] = _merge(merged.get(known.name), known)
    for offer in offers:
        if offer.served.kind not in UNROUTED_KINDS:
            merged[offer.served.name] = _merge(
                merged.get(offer.served.name), from_served(offer.served)
            )
    return [merged[name] for name in sorted(merged)]


def from_served(served: ServedName) -> KnownName:
    """What a node advertises, cut to its bounds."""
    return KnownName(
        served.name,
        served.domain[:MAX_TEXT_CHARS],
        served.description[:MAX_TEXT_CHARS],
        tuple(example[:MAX_TEXT_CHARS] for example in served.examples[:MAX_EXAMPLES]),
    )


def remember(memory: dict[str, KnownName], offers: Iterable[Offer]) -> None:
    """Keep the names of ``offers`` in ``memory``, the longest unseen leave when it is full."""
    for offer in offers:
        if offer.served.kind in UNROUTED_KINDS:
            continue
        memory.pop(offer.served.name, None)
        memory[offer.served.name] = from_served(offer.served)
    while len(memory) > MAX_REMEMBERED:
        del memory[next(iter(memory))]


def _merge(first: KnownName | None, second: KnownName) -> KnownName:
    if first is None or first == second:
        return second
    examples = tuple(dict.fromkeys((*first.examples, *second.examples)))[:MAX_EXAMPLES]
    description = first.description
    if second.description and second.description not in description:
        description = f"{description}; {second.description}" if description else second.description
    return KnownName(first.name, first.domain or second.domain, description[:400], examples)
