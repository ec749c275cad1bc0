"""What a node knew of the mesh, on disk: a MessagePack stream of signed profiles.

A restarted node reads it before it hears anybody. A torn tail (a power cut while it was
written) is ignored; every record is verified again when it is read.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgpack

from mesh.core.records import MAX_PROFILE_BYTES
from mesh.net.statedir import write_private

MAX_JOURNAL_BYTES = 64 << 20  # a damaged or hostile file must not fill the memory at boot


def write_journal(path: Path, records: Sequence[bytes]) -> None:
    """Replace the journal; runs off the event loop. Raises ConfigError when it cannot."""
    packer = msgpack.Packer(use_bin_type=True)
    write_private(path, b"".join(packer.pack(record) for record in records))


def read_journal(path: Path) -> list[bytes]:
    """The records in the journal, as far as it can be read; no file gives none."""
    try:
        if path.stat().st_size > MAX_JOURNAL_BYTES:
            return []
        data = path.read_bytes()
    except OSError:
        return []
    unpacker = msgpack.Unpacker(
        max_buffer_size=MAX_JOURNAL_BYTES, max_bin_len=MAX_PROFILE_BYTES + 256, raw=False
    )
    records: list[bytes] = []
    try:
        unpacker.feed(data)
        for item in unpacker:
            if not isinstance(item, bytes):
                break
            records.append(item)
    except (msgpack.UnpackException, ValueError):
        pass  # the tail is torn: what came before it is whole
    return records
