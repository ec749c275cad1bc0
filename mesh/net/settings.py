"""What a node is told when it starts."""

from __future__ import annotations

from dataclasses import dataclass, field

from mesh.core.node import NodeCoreConfig


@dataclass(frozen=True)
class NodeConfig:
    """Where a node listens and whom it asks first."""

    host: str = "127.0.0.1"
    """The address to bind. 127.0.0.1 keeps the mesh on this machine; 0.0.0.0 opens it to the
    network (links are encrypted and admit members only, either way)."""

    advertise: str = ""
    """The host name or address that others dial; empty: the bound one, and where every
    address is bound, the one that faces the world."""

    control_port: int = 0
    """Ports of the three sockets; 0 lets the system choose."""

    bulk_port: int = 0
    admission_port: int = 0

    seeds: tuple[str, ...] = ()
    """Nodes to knock at when starting: ``tcp://HOST:PORT#KEY``. One that is up is enough."""

    discovery: bool = True
    """Find, and be found by, nodes of this mesh on the LAN by mDNS. It tells the LAN the mesh's
    id, this node's public key and a port. Never on a node that listens on loopback only."""

    dialable: bool = True
    """False for a node behind NAT: it listens on loopback only, advertises no address, and
    keeps a link open to every other, over which they call it."""

    core: NodeCoreConfig = field(default_factory=NodeCoreConfig)
