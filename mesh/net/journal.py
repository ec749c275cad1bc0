"""What a node knew of the mesh, on disk: a MessagePack stream of signed profiles.

A restarted node reads it before it hears anybody. A torn tail (a power cut while it was
written) is ignored; every record is verified again when it is read.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgpack

from mesh.core.identity import Signed
from mesh.core.records import MAX_PROFILE_BYTES
from mesh.net.statedir import write_private

MAX_RECORDS = 10_000  # a damaged or hostile file must not fill the memory at boot


def write_journal(path: Path, records: Sequence[Signed]) -> None:
    """Replace the journal; runs off the event loop. Raises ConfigError when it cannot."""
    packer = msgpack.Packer(use_bin_type=True)
    data = b"".join(packer.pack([record.payload, record.signature]) for record in records)
    write_private(path, data)


def read_journal(path: Path) -> list[Signed]:
    """The records in the journal, as far as it can be read; no file gives none."""
    try:
        data = path.read_bytes()
    except OSError:
        return []
    unpacker = msgpack.Unpacker(
        max_buffer_size=0, max_bin_len=MAX_PROFILE_BYTES, max_array_len=8, raw=False
    )
    records: list[Signed] = []
    try:
        unpacker.feed(data)
        for item in unpacker:
            match item:
                case [bytes() as payload, bytes() as signature, *_]:
                    records.append(Signed(payload, signature))
                case _:
                    break
            if len(records) >= MAX_RECORDS:
                break
    except (msgpack.UnpackException, ValueError):
        pass  # the tail is torn: what came before it is whole
    return records
