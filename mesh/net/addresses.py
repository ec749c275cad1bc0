"""This machine's own IPv4 addresses, and which of them to tell others."""

from __future__ import annotations

import ipaddress
import socket

# RFC 5737 documentation address: a connected datagram socket asks the routing table which
# own address faces the world; no packet is sent.
FAR_AWAY = ("198.51.100.1", 9)


def is_loopback(host: str) -> bool:
    """Whether binding to ``host`` keeps a node on this machine."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def is_wildcard(host: str) -> bool:
    """Whether ``host`` means every address of the machine."""
    return host in {"0.0.0.0", "*"}  # noqa: S104  it is compared, not bound


def own_networks(host: str) -> list[str]:
    """The IPv4 addresses that ``host`` binds, as ``10.0.0.2/24``, without loopback's."""
    import ifaddr  # zeroconf brings it; loopback nodes do without

    found = [
        f"{ip.ip}/{ip.network_prefix}"
        for adapter in ifaddr.get_adapters()
        for ip in adapter.ips
        if ip.is_IPv4 and not is_loopback(str(ip.ip))
    ]
    if is_wildcard(host):
        return found
    return [own for own in found if own.partition("/")[0] == host]


def facing_address() -> str:
    """The address to tell others where every address is bound; loopback when there is none."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(FAR_AWAY)
            return str(probe.getsockname()[0])
        except OSError:
            pass  # no route to the world: a LAN of its own
    own = own_networks("0.0.0.0")  # noqa: S104
    return own[0].partition("/")[0] if own else "127.0.0.1"
