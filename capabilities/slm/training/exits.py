"""Early exits of a shipped model: what its files say, and the model cut at one of its exits.

A model file holds the whole model; NAME.exits.gguf beside it holds a norm and a head for each exit.
The first k blocks with the head of exit k are a model of their own, which llama.cpp runs as any
other. Hidden rows that leave block k are the same in both.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from capabilities.segments.files import EXITS
from capabilities.slm.training.export import TASKS_KEY

if TYPE_CHECKING:
    from pathlib import Path

    import gguf

_HEAD = ("output_norm.weight", "output.weight")


def exits_of(path: Path) -> tuple[int, ...]:
    """The blocks after which the exits of a NAME.exits.gguf stand, counted from one."""
    return tuple(int(number) for number in _value(path, EXITS) or ())


def tasks_of(path: Path) -> tuple[str, ...]:
    """What a model file says that its model was trained to do; empty when it says nothing."""
    return tuple(_value(path, TASKS_KEY) or ())


def cut_at_exit(model: Path, exits: Path, number: int, output: Path) -> None:
    """Write the first `number` blocks of `model` with the head of that exit to `output`.

    Raises KeyError when `exits` has no such exit. Tensors are copied as they are stored.
    """
    import gguf

    source, heads = gguf.GGUFReader(model), gguf.GGUFReader(exits)
    head = {tensor.name: tensor for tensor in heads.tensors}
    architecture = source.fields["general.architecture"].contents()
    writer = gguf.GGUFWriter(output, architecture)
    blocks = f"{architecture}.block_count"
    for key, entry in source.fields.items():
        if key.startswith("GGUF.") or key in ("general.architecture", blocks):
            continue
        kind = entry.types[0]
        inner = entry.types[-1] if kind == gguf.GGUFValueType.ARRAY else None
        writer.add_key_value(key, entry.contents(), kind, sub_type=inner)
    writer.add_block_count(number)
    for tensor in source.tensors:
        part = tensor.name.split(".")
        if tensor.name in _HEAD or (part[0] == "blk" and int(part[1]) >= number):
            continue
        _copy(writer, tensor.name, tensor)
    for name, stored in zip(_HEAD, ("norm", "output"), strict=True):
        _copy(writer, name, head[f"exit.{number}.{stored}.weight"])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _copy(writer: gguf.GGUFWriter, name: str, tensor: Any) -> None:
    writer.add_tensor(name, tensor.data, raw_dtype=tensor.tensor_type)


def _value(path: Path, key: str) -> Any:
    import gguf

    entry = gguf.GGUFReader(path).fields.get(key)
    return entry.contents() if entry else None
