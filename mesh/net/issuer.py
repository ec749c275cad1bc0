"""An issuer's files: its key and paper, the book of its invitations, the owner's ledger.

``issuer.json`` in a state directory makes its node an issuer; ``invitations.json`` beside it is
replaced as a whole with every use, so that a power cut gives none back.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

import msgspec

from mesh.core.errors import ConfigError
from mesh.core.identity import Authority, Signed
from mesh.core.invitations import Book, Issued
from mesh.core.issuing import DAY_S
from mesh.core.signing import ED25519
from mesh.net.statedir import read_private, write_private

ISSUER_FILE = "issuer.json"
BOOK_FILE = "invitations.json"
LEDGER_FILE = "issued.json"


class IssuerFile(msgspec.Struct, frozen=True, kw_only=True):
    """The issuer's secret and what the authority lets it certify."""

    private: bytes
    paper: Signed


def create_issuer(
    state: Path,
    authority: Authority,
    *,
    name: str,
    groups: tuple[str, ...],
    publish: tuple[str, ...],
    max_validity_s: float = 90 * DAY_S,
    valid_s: float = 365 * DAY_S,
    renews: bool = True,
) -> None:
    """Make the node of ``state`` an issuer; takes the place of an earlier appointment.

    Raises :class:`ConfigError` when it cannot be written, IdentityError for limits that are
    too long to travel.
    """
    private, wall = os.urandom(32), time.time()
    paper = authority.appoint(
        key=ED25519.public(private),
        name=name,
        groups=groups,
        publish=publish,
        max_validity_s=max_validity_s,
        not_before=wall,
        not_after=wall + valid_s,
        serial=os.urandom(8),
        renews=renews,
    )
    made = IssuerFile(private=private, paper=paper)
    write_private(state / ISSUER_FILE, msgspec.json.format(msgspec.json.encode(made)))


def open_issuer(state: Path) -> IssuerFile | None:
    """The issuer's key of a state directory, None for a node that is none."""
    path = state / ISSUER_FILE
    if not path.exists():
        return None
    try:
        return msgspec.json.decode(read_private(path), type=IssuerFile)
    except msgspec.MsgspecError as error:
        raise ConfigError(f"{path} is damaged: {error}") from error


def read_book(folder: Path, file: str = BOOK_FILE) -> Book:
    """The book, empty where there is none; raises :class:`ConfigError` for a damaged one.

    A damaged book is not taken for an empty one: uses that were spent would come back.
    """
    path = folder / file
    if not path.exists():
        return Book()
    try:
        return msgspec.json.decode(read_private(path), type=Book)
    except msgspec.MsgspecError as error:
        raise ConfigError(
            f"{path} is damaged: {error}",
            hint="remove it: every open invitation is then void, which is safe",
        ) from error


def write_book(folder: Path, data: bytes, file: str = BOOK_FILE) -> None:
    """Replace the book (of :func:`book_bytes`) as a whole."""
    write_private(folder / file, data)


def book_bytes(book: Book) -> bytes:
    """The book as it lies on disk, taken on the event loop so that nothing changes meanwhile."""
    return msgspec.json.encode(book)


def note_issued(owner: Path, issued: Issued) -> None:
    """Add to the owner's ledger what the authority itself certified."""
    ledger = read_book(owner, LEDGER_FILE)
    ledger.note(issued)
    write_book(owner, book_bytes(ledger), LEDGER_FILE)


def forget_issued(owner: Path, node: bytes) -> None:
    """A node was revoked: its name is free again."""
    ledger = read_book(owner, LEDGER_FILE)
    if ledger.issued.pop(node.hex(), None) is not None:
        write_book(owner, book_bytes(ledger), LEDGER_FILE)


def issued_to(owner: Path, name: str) -> Issued | None:
    """What the owner's ledger knows of a node by its name; the latest where there are more."""
    entries = [i for i in read_book(owner, LEDGER_FILE).issued.values() if i.name == name]
    return max(entries, key=lambda issued: issued.not_after, default=None)


def check_free(owner: Path, name: str) -> None:
    """Raises :class:`ConfigError` when the authority gave the name to another node."""
    issued = issued_to(owner, name)
    if issued is not None and issued.not_after > time.time():
        raise ConfigError(
            f"there is a node named {name!r} in this mesh",
            hint="choose another name, or take the old one out: gossamer mesh revoke",
        )
