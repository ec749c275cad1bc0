"""One thing that a node knows, and who may see it. Pure: no file, no clock."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from mesh.core.errors import ConfigError
from mesh.core.names import check_name

ANSWER = "answer"  # a question with its answer, learnt from an exchange
PASSAGE = "passage"  # a piece of a document

NODE = "node"  # only this node
MESH = "mesh"  # every member
GROUP = "group:"  # members of one of these groups, separated by commas
MEMBER = "member:"  # one node, by its id

MAX_TEXT_CHARS = 8 * 1024
MAX_SOURCE_CHARS = 200
MAX_CITATIONS = 8
SEEN_CHARS = 400  # of a citation's quotation


class Citation(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Where something stands: ``source`` is a document or node, ``place`` where in it."""

    source: str
    quote: str = ""
    place: str = ""


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """An answer or a passage as it is kept.

    ``question`` is what was asked, or the passage's title. ``quality`` is a calibrated
    probability of being right, ``created`` and ``expires`` wall seconds (0: never),
    ``saved_s`` the seconds that answering it took. ``access`` is a label as in
    :func:`may_see`. ``name`` is the capability name that answered, ``maker`` the id of the node
    that did, in hexadecimal.
    """

    kind: str
    domain: str
    question: str
    text: str
    source: str
    access: str = NODE
    name: str = ""
    model: str = ""
    quality: float = 1.0
    created: float = 0.0
    expires: float = 0.0
    saved_s: float = 0.0
    citations: tuple[Citation, ...] = ()
    id: int = 0
    hits: int = 0
    maker: str = ""

    def bytes(self) -> int:
        """About what it takes on disk, without its vector."""
        cited = sum(len(c.source) + len(c.quote) + len(c.place) for c in self.citations)
        return 2 * (len(self.question) + len(self.text)) + cited + len(self.source) + 100

    def fresh(self, wall: float) -> bool:
        """Whether it has not expired."""
        return self.expires <= 0 or wall < self.expires


class Viewer(msgspec.Struct, frozen=True, kw_only=True):
    """Who wants to see: a node's id in hexadecimal and its groups by certificate; ``me``: this
    node itself, for its own user."""

    node: str = ""
    groups: tuple[str, ...] = ()
    me: bool = False


def may_see(label: str, viewer: Viewer) -> bool:
    """Whether an entry with this access label may be shown; an unknown label shows nothing.

    This node's own user sees all that was learnt for this node, but not what was learnt in
    another member's name.
    """
    if label.startswith(MEMBER):
        return bool(viewer.node) and label == MEMBER + viewer.node and not viewer.me
    if viewer.me or label == MESH:
        return label in {NODE, MESH} or label.startswith(GROUP)
    if label.startswith(GROUP):
        return not set(_groups(label)).isdisjoint(viewer.groups)
    return False


def check_access(label: str) -> str:
    """``label`` itself; raises :class:`ConfigError` when it is none."""
    if label in {NODE, MESH}:
        return label
    if label.startswith(GROUP) and all(_groups(label)):
        return label
    raise ConfigError(
        f"{label[:60]!r} does not say who may see it",
        hint="mesh (every member), node (this node alone), or group:NAME,NAME",
    )


def check_domain(domain: str) -> str:
    """``domain`` itself; raises :class:`~mesh.core.errors.NameInvalid`."""
    check_name(f"knowledge.gpt/{domain}")
    return domain


def shared(labels: Iterable[str]) -> bool:
    """Whether other nodes may see anything of this."""
    return any(label != NODE and not label.startswith(MEMBER) for label in labels)


def _groups(label: str) -> list[str]:
    return label.removeprefix(GROUP).split(",")
