"""Reads the header of a GGUF file in pure Python, before native code is let near it.

A file that is no GGUF, is cut off, or announces nonsense is refused here with a sentence; a
native parser would answer with a log line at best. Format: the GGUF specification, version 3
(versions 2 and 3 differ in byte order only).
"""

from __future__ import annotations

import hashlib
import mmap
import struct
from dataclasses import dataclass, field
from pathlib import Path

from mesh.core.errors import ModelError

MAGIC = b"GGUF"
VERSIONS = (2, 3)
# Above any real model; a header that announces more is damaged, and reading it would take hours.
MAX_KEYS = 4096
MAX_TENSORS = 65_536
MAX_ARRAY = 4_000_000
MAX_STRING_BYTES = 16 * 1024 * 1024
MAX_DIMENSIONS = 4

_STRING, _ARRAY = 8, 9
_SCALARS = {
    0: "<B",
    1: "<b",
    2: "<H",
    3: "<h",
    4: "<I",
    5: "<i",
    6: "<f",
    7: "<?",
    10: "<Q",
    11: "<q",
    12: "<d",
}
_VOCABULARY = ("tokenizer.ggml.model", "tokenizer.ggml.tokens", "tokenizer.ggml.merges")

Scalar = str | int | float | bool


@dataclass(frozen=True, slots=True)
class Header:
    """Scalars of the metadata, the tensors' names, and a hash that equal vocabularies share."""

    scalars: dict[str, Scalar] = field(default_factory=dict)
    tensors: tuple[str, ...] = ()
    vocab_hash: str = ""
    vocabulary: int = 0  # tokens

    def text(self, key: str, default: str = "") -> str:
        """A string of the metadata."""
        value = self.scalars.get(key, default)
        return value if isinstance(value, str) else default

    @property
    def arch(self) -> str:
        """The architecture, such as llama or qwen2."""
        return self.text("general.architecture")


class _Cursor:
    """Reads forward; every read is checked against the end of the file."""

    def __init__(self, data: mmap.mmap) -> None:
        self._data = data
        self.at = 0

    def take(self, size: int) -> bytes:
        end = self.at + size
        if end > len(self._data):
            raise EOFError
        piece = self._data[self.at : end]
        self.at = end
        return piece

    def number(self, form: str) -> int:
        return int(struct.unpack(form, self.take(struct.calcsize(form)))[0])

    def string(self) -> bytes:
        size = self.number("<Q")
        if size > MAX_STRING_BYTES:
            raise ValueError(f"a string of {size} bytes")
        return self.take(size)

    def scalar(self, kind: int) -> Scalar:
        if kind == _STRING:
            return self.string().decode("utf-8", "replace")
        form = _SCALARS.get(kind)
        if form is None:
            raise ValueError(f"a value of unknown type {kind}")
        value: int | float | bool = struct.unpack(form, self.take(struct.calcsize(form)))[0]
        return value

    def skip_array(self) -> int:
        kind = self.number("<I")
        count = self.number("<Q")
        if count > MAX_ARRAY:
            raise ValueError(f"an array of {count} values")
        if kind in _SCALARS:
            self.take(count * struct.calcsize(_SCALARS[kind]))
        elif kind == _STRING:
            for _ in range(count):
                self.string()
        else:
            raise ValueError(f"an array of unknown type {kind}")
        return count


def read(path: Path) -> Header:
    """The header of the file; raises :class:`~mesh.core.errors.ModelError` with one sentence."""
    hint = "give the path of a GGUF file, and copy or download it again if it should be one"
    try:
        if path.is_dir():
            raise ModelError(f"{path} is a directory, not a GGUF file", hint=hint)
        with path.open("rb") as file:
            if file.read(len(MAGIC)) != MAGIC:
                raise ModelError(f"{path} is not a GGUF file", hint=hint)
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                return _parse(_Cursor(data), len(data))
    except OSError as error:
        reason = error.strerror or str(error)
        raise ModelError(f"cannot read {path}: {reason}", hint=hint) from error
    except EOFError as error:
        raise ModelError(f"{path} is cut off: the file ends too early", hint=hint) from error
    except (ValueError, struct.error) as error:
        raise ModelError(f"{path} is damaged: its header has {error}", hint=hint) from error


def _parse(cursor: _Cursor, size: int) -> Header:
    cursor.take(len(MAGIC))
    version = cursor.number("<I")
    if version not in VERSIONS:
        raise ValueError(f"version {version}, known are 2 and 3, little-endian")
    tensors, keys = cursor.number("<Q"), cursor.number("<Q")
    if keys > MAX_KEYS or tensors > MAX_TENSORS:
        raise ValueError(f"{keys} keys and {tensors} tensors")
    if tensors == 0:
        raise ValueError("no tensors: it holds a vocabulary only")
    scalars: dict[str, Scalar] = {}
    vocabulary, words = hashlib.sha256(), 0
    for _ in range(keys):
        key = cursor.string().decode("utf-8", "replace")
        kind = cursor.number("<I")
        start = cursor.at
        if kind == _ARRAY:
            count = cursor.skip_array()
            words = count if key == "tokenizer.ggml.tokens" else words
        else:
            scalars[key] = cursor.scalar(kind)
        if key in _VOCABULARY:
            end, cursor.at = cursor.at, start
            vocabulary.update(cursor.take(end - start))
    names: list[str] = []
    last = 0
    for _ in range(tensors):
        names.append(cursor.string().decode("utf-8", "replace"))
        dimensions = cursor.number("<I")
        if dimensions > MAX_DIMENSIONS:
            raise ValueError(f"a tensor of {dimensions} dimensions")
        cursor.take(8 * dimensions + 4)  # the extents and the type
        last = max(last, cursor.number("<Q"))
    if cursor.at + last >= size:
        raise EOFError
    return Header(scalars, tuple(names), vocabulary.hexdigest(), words)


def file_sha256(path: Path) -> str:
    """The hash of the whole file, in hexadecimal; a second or so per gigabyte."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
