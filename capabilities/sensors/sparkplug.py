"""Sparkplug B: payloads in protobuf, and what births and deaths say of later ones. Pure.

Source: Sparkplug 3.0.0, sections 4 (topics), 6.4 (payload: the fields below with their numbers,
and the data types). The messages are built from that table, and protobuf itself decodes them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from typing import Any

from capabilities.sensors.readings import MAX_BATCH, Measured, time_of
from capabilities.sensors.topics import name_part
from mesh.core.errors import WireError

NAMESPACE = "spBv1.0"
ROUND = 256  # sequence numbers come round (6.4.5)
MAX_NODES = 1024
MAX_METRICS = 4096  # of a node and its devices
KINDS = {"NBIRTH", "DBIRTH", "NDATA", "DDATA", "NDEATH", "DDEATH"}
COMMANDS = {"NCMD", "DCMD"}
REBIRTH = "Node Control/Rebirth"  # 6.4.19
_SIGNED = {1: 8, 2: 16, 3: 32, 4: 64}  # Int8 to Int64 travel as unsigned (6.4.16)
_TEXTS = {12, 13, 14, 15, 16, 17, 18, 19}  # texts, times, sets, bytes, files, templates
_BOOLEAN = 11

# (name, number, type, label): the part of the schema that carries numbers.
_METRIC = (
    ("name", 1, "string"),
    ("alias", 2, "uint64"),
    ("timestamp", 3, "uint64"),
    ("datatype", 4, "uint32"),
    ("is_historical", 5, "bool"),
    ("is_transient", 6, "bool"),
    ("is_null", 7, "bool"),
    ("int_value", 10, "uint32"),
    ("long_value", 11, "uint64"),
    ("float_value", 12, "float"),
    ("double_value", 13, "double"),
    ("boolean_value", 14, "bool"),
    ("string_value", 15, "string"),
)
_VALUES = ("int_value", "long_value", "float_value", "double_value", "boolean_value")
_PAYLOAD = (("timestamp", 1, "uint64"), ("seq", 3, "uint64"), ("uuid", 4, "string"))


@cache
def schema() -> tuple[Any, Any]:
    """The classes ``Payload`` and ``Metric``."""
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    file = descriptor_pb2.FileDescriptorProto(
        name="gossamer_sparkplug.proto", package="gossamer.sparkplug", syntax="proto2"
    )
    kinds = descriptor_pb2.FieldDescriptorProto
    for title, fields in (("Metric", _METRIC), ("Payload", _PAYLOAD)):
        message = file.message_type.add(name=title)
        for name, number, kind in fields:
            message.field.add(
                name=name,
                number=number,
                type=getattr(kinds, f"TYPE_{kind.upper()}"),
                label=kinds.LABEL_OPTIONAL,
            )
    file.message_type[1].field.add(
        name="metrics",
        number=2,
        type=kinds.TYPE_MESSAGE,
        label=kinds.LABEL_REPEATED,
        type_name=".gossamer.sparkplug.Metric",
    )
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    made = [
        message_factory.GetMessageClass(pool.FindMessageTypeByName(f"gossamer.sparkplug.{title}"))
        for title in ("Payload", "Metric")
    ]
    return made[0], made[1]


@dataclass
class Told:
    """What one message said. ``node`` is group/edge; ``rebirth`` is the topic to ask on for a new
    birth, where data came that cannot be understood without one."""

    node: str
    measured: list[Measured] = field(default_factory=list)
    sequence: int | None = None
    born: bool = False
    died: bool = False
    unborn: bool = False  # data of a node whose birth was not heard
    rebirth: str = ""


@dataclass
class _Node:
    names: dict[int, tuple[str, int]] = field(default_factory=dict)  # alias to name and type
    types: dict[str, int] = field(default_factory=dict)
    alive: bool = False
    asked: bool = False
    death: int = -1  # bdSeq of the birth: a death of an earlier life says nothing (6.4.20)


class SparkplugBook:
    """The edge nodes that were born, with the names behind their aliases."""

    def __init__(self) -> None:
        self._nodes: dict[str, _Node] = {}

    def hear(self, topic: str, body: bytes) -> Told:
        """What a message says; raises :class:`WireError`."""
        parts = topic.split("/")
        if len(parts) not in {4, 5} or parts[0] != NAMESPACE or parts[2] not in KINDS | COMMANDS:
            raise WireError(
                f"{topic[:80]} is no topic of Sparkplug B",
                hint="map spBv1.0/{group}/{kind}/{node}/{rest} and spBv1.0/{group}/{kind}/{node}",
            )
        kind, name = parts[2], f"{parts[1]}/{parts[3]}"
        if kind in COMMANDS:
            return Told(name)  # to the node, not from it
        device = parts[4] if len(parts) == 5 else ""
        payload = _parse(body)
        node = self._nodes.get(name)
        if node is None:
            if len(self._nodes) >= MAX_NODES:
                raise WireError(f"more than {MAX_NODES} Sparkplug nodes")
            node = self._nodes[name] = _Node()
        told = Told(name, sequence=int(payload.seq) % ROUND if payload.HasField("seq") else None)
        if kind == "NDEATH":
            told.died, told.sequence = self._dies(node, payload), None
            return told
        if kind == "NBIRTH":
            self._nodes[name] = node = _Node(alive=True, death=_death_number(payload))
            told.born = True
        elif not node.alive:
            told.unborn, told.sequence = True, None
            if not node.asked:
                node.asked = True
                told.rebirth = f"{NAMESPACE}/{parts[1]}/NCMD/{parts[3]}"
        if kind in {"NBIRTH", "DBIRTH"}:
            _learn(node, payload)
        if kind == "DDEATH":
            return told
        told.measured = _measured(node, payload, f"{name}/{device}" if device else name)
        return told

    def belongs(self, topic: str, node: str) -> bool:
        """Whether a topic is of this node or of one of its devices."""
        parts = topic.split("/")
        return len(parts) >= 4 and f"{parts[1]}/{parts[3]}" == node

    @staticmethod
    def _dies(node: _Node, payload: Any) -> bool:
        number = _death_number(payload)
        if not node.alive or (number >= 0 and node.death >= 0 and number != node.death):
            return False
        node.alive = False
        return True


def rebirth_command(at_ms: int) -> bytes:
    """The payload that asks a node for its birth certificate."""
    payload_class, _ = schema()
    payload = payload_class(timestamp=at_ms)
    payload.metrics.add(name=REBIRTH, timestamp=at_ms, datatype=_BOOLEAN, boolean_value=True)
    return bytes(payload.SerializeToString())


def _parse(body: bytes) -> Any:
    from google.protobuf.message import DecodeError

    payload_class, _ = schema()
    try:
        payload = payload_class.FromString(body)
    except DecodeError as error:
        raise WireError(f"not a Sparkplug payload: {error}") from error
    if len(payload.metrics) > MAX_BATCH:
        raise WireError(f"more than {MAX_BATCH} metrics in one payload")
    return payload


def _death_number(payload: Any) -> int:
    for metric in payload.metrics:
        if metric.name == "bdSeq":
            return int(metric.long_value or metric.int_value)
    return -1


def _learn(node: _Node, payload: Any) -> None:
    for metric in payload.metrics:
        if len(node.types) >= MAX_METRICS:
            raise WireError(f"a Sparkplug node of more than {MAX_METRICS} metrics")
        node.types[metric.name] = metric.datatype
        if metric.HasField("alias"):
            node.names[metric.alias] = (metric.name, metric.datatype)


def _measured(node: _Node, payload: Any, device: str) -> list[Measured]:
    moments: dict[float, Measured] = {}
    for metric in payload.metrics:
        name, kind = metric.name, metric.datatype
        if not name and metric.HasField("alias"):
            name, kind = node.names.get(metric.alias, ("", 0))
        kind = kind or node.types.get(name, 0)
        if not name or name == "bdSeq" or name.startswith("Node Control/") or kind in _TEXTS:
            continue
        at_ms = metric.timestamp or payload.timestamp
        at = time_of(float(at_ms)) if at_ms else 0.0
        one = moments.setdefault(at, Measured(values={}, at=at, device=device))
        value = None if metric.is_null else _number(metric, kind)
        short = name_part(name.replace("/", "_"))
        if value is None:
            moments[at] = Measured(
                values=one.values, at=at, device=device, missing=(*one.missing, short)
            )
        else:
            one.values[short] = value
    return [moments[at] for at in sorted(moments)]


def _number(metric: Any, kind: int) -> float | None:
    for name in _VALUES:
        if metric.HasField(name):
            value = getattr(metric, name)
            bits = _SIGNED.get(kind, 0)
            if bits and not isinstance(value, float):
                value &= (1 << bits) - 1
                value -= (1 << bits) if value >> (bits - 1) else 0
            number = float(value)
            return number if number - number == 0.0 else None  # neither infinite nor NaN
    return None
