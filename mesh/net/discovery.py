"""Nodes of this mesh on the same LAN, by mDNS and DNS-SD (RFC 6762, RFC 6763).

    announce  <id>._gossamer._tcp.local.  admission port, TXT: v, mesh, key   in the clear
    browse    others of the same mesh id ──▶ found(key, addresses) ──▶ a knock at their door

Nothing that is heard here is believed: it says where to knock, and CURVE and the passport
show who answers. All of it is off on a node that listens on loopback only, and by
configuration. docs/discovery.md says what others on the LAN can see.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import logging
import socket
from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mesh.core.doors import on_link
from mesh.core.identity import show_id

if TYPE_CHECKING:
    from zeroconf import ServiceStateChange, Zeroconf
    from zeroconf.asyncio import AsyncServiceBrowser, AsyncServiceInfo, AsyncZeroconf

log = logging.getLogger("gossamer.mesh")

SERVICE = "_gossamer._tcp.local."
TXT_VERSION = "1"
RESOLVE_MS = 3000.0  # for a service's address and text
RESOLVE_TRIES = 3  # a busy board, or a lossy radio, misses one answer and has the next
MAX_SERVICES = 256  # remembered names: anybody on the LAN can announce thousands
MAX_RESOLVING = 8  # asked about at a time, for the same reason; the others wait
MAX_ADDRESSES = 4  # of one service: each is an address to knock at
CLOSE_S = 2.0  # for the goodbyes

Found = Callable[[bytes, list[str]], None]


def announcement_text(mesh: bytes, curve: bytes) -> dict[str, str]:
    """The TXT record of a node: what a neighbour needs to knock, and no more."""
    key = base64.urlsafe_b64encode(curve).decode().rstrip("=")
    return {"v": TXT_VERSION, "mesh": show_id(mesh), "key": key}


def read_announcement(
    text: Mapping[str, str | None],
    addresses: Sequence[str],
    port: int | None,
    mesh: bytes,
    networks: Sequence[str],
) -> tuple[bytes, list[str]] | str:
    """CURVE key and ``tcp://`` addresses of a neighbour, or the name of what is wrong.

    ``networks`` are this machine's own; addresses outside them are not knocked at.
    """
    if text.get("v") != TXT_VERSION:
        return "mdns_other_version"
    if text.get("mesh") != show_id(mesh):
        return "mdns_other_mesh"
    encoded = text.get("key") or ""
    try:
        curve = base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4))
    except ValueError:
        curve = b""
    if len(curve) != 32 or not port:
        return "mdns_malformed"
    near = [address for address in addresses if on_link(address, networks)]
    if not near:
        return "mdns_off_link"
    return curve, [f"tcp://{address}:{port}" for address in near[:MAX_ADDRESSES]]


class Discovery:
    """Announces this node and listens for others; started anew when addresses change.

    ``port`` is 0 for a node that cannot be dialled: it listens and announces nothing.
    """

    def __init__(
        self,
        node: bytes,
        mesh: bytes,
        curve: bytes,
        port: int,
        found: Found,
        trouble: Callable[[str], None],
    ) -> None:
        self._name = f"{show_id(node)}.{SERVICE}"
        self._mesh = mesh
        self._curve = curve
        self._port = port
        self._found = found
        self._trouble = trouble
        self.counters: Counter[str] = Counter()
        self._networks: list[str] = []
        self._zeroconf: AsyncZeroconf | None = None
        self._browser: AsyncServiceBrowser | None = None
        self._services: OrderedDict[str, None] = OrderedDict()
        self._unresolved: OrderedDict[str, None] = OrderedDict()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def running(self) -> bool:
        """Whether multicast works here."""
        return self._zeroconf is not None

    async def start(self, networks: Sequence[str]) -> None:
        """Announce and browse on the given own addresses (``10.0.0.2/24``).

        Without multicast, or with the name taken, one line says so and the node does without.
        """
        await self.stop()
        self._networks = list(networks)
        if not networks:
            return
        from zeroconf import Error as ZeroconfError
        from zeroconf import IPVersion, NonUniqueNameException
        from zeroconf.asyncio import AsyncServiceBrowser, AsyncZeroconf

        logging.getLogger("zeroconf").setLevel(logging.CRITICAL)  # said here, in one line
        own = [network.partition("/")[0] for network in networks]
        try:
            self._zeroconf = AsyncZeroconf(interfaces=own, ip_version=IPVersion.V4Only)
            # One query more at once: the answer to the first may be on its way to a neighbour.
            self._browser = AsyncServiceBrowser(
                self._zeroconf.zeroconf, SERVICE, handlers=[self._changed]
            )
            if self._port:
                await (await self._zeroconf.async_register_service(self._announcement(own)))
        except NonUniqueNameException:
            self._trouble(
                f"mDNS: the name {self._name} is taken on this network, so this node is not "
                "announced: does a copy of its state directory run elsewhere?"
            )
        except (OSError, ZeroconfError, RuntimeError) as error:
            self._trouble(
                f"mDNS does not work on this network ({error or type(error).__name__}): other "
                "nodes are found by seeds and remembered addresses only"
            )
            await self.stop()

    def _announcement(self, own: Sequence[str]) -> AsyncServiceInfo:
        from zeroconf.asyncio import AsyncServiceInfo

        return AsyncServiceInfo(
            SERVICE,
            self._name,
            addresses=[socket.inet_aton(address) for address in own],
            port=self._port,
            properties=announcement_text(self._mesh, self._curve),
            server=self._name,  # not the machine's host name: it is nobody's business
        )

    def _changed(
        self, zeroconf: Zeroconf, service_type: str, name: str, state_change: ServiceStateChange
    ) -> None:
        """zeroconf's browser: a service came, changed or went."""
        if name == self._name or not name.endswith(SERVICE):
            return
        if state_change.name == "Removed":
            self._services.pop(name, None)  # whether its node lives, membership decides
            return
        self._services[name] = None
        self._services.move_to_end(name)
        if len(self._services) > MAX_SERVICES:
            self._services.popitem(last=False)
            self.counters["mdns_services_dropped"] += 1
        self._resolve_soon(name)

    def look_again(self) -> None:
        """Tell once more of everybody around; what zeroconf still knows costs no packet."""
        for name in list(self._services):
            self._resolve_soon(name)

    def _resolve_soon(self, name: str) -> None:
        self._unresolved[name] = None
        if len(self._unresolved) > MAX_SERVICES:
            self._unresolved.popitem(last=False)
            self.counters["mdns_services_dropped"] += 1
        self._resolve_next()

    def _resolve_next(self) -> None:
        while self._unresolved and len(self._tasks) < MAX_RESOLVING:
            name, _ = self._unresolved.popitem(last=False)
            task = asyncio.ensure_future(self._resolve(name))
            self._tasks.add(task)
            task.add_done_callback(self._resolved)

    def _resolved(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._resolve_next()

    async def _resolve(self, name: str) -> None:
        from zeroconf import Error as ZeroconfError
        from zeroconf import IPVersion
        from zeroconf.asyncio import AsyncServiceInfo

        if self._zeroconf is None:
            return
        try:
            info = AsyncServiceInfo(SERVICE, name)
            for _ in range(RESOLVE_TRIES):
                if await info.async_request(self._zeroconf.zeroconf, RESOLVE_MS):
                    break
            else:
                self.counters["mdns_unresolved"] += 1
                return
            text: dict[str, Any] = info.decoded_properties
            addresses = info.parsed_addresses(IPVersion.V4Only)
        except (OSError, ZeroconfError, UnicodeDecodeError):
            self.counters["mdns_malformed"] += 1
            return
        read = read_announcement(text, addresses, info.port, self._mesh, self._networks)
        if isinstance(read, str):
            self.counters[read] += 1
            return
        curve, doors = read
        if curve != self._curve:
            self._found(curve, doors)

    async def stop(self) -> None:
        """Say goodbye and close; safe to call twice."""
        self._services.clear()
        self._unresolved.clear()
        for task in list(self._tasks):
            task.cancel()
        zeroconf, self._zeroconf = self._zeroconf, None
        browser, self._browser = self._browser, None
        if zeroconf is None:
            return
        with contextlib.suppress(TimeoutError, OSError):
            async with asyncio.timeout(CLOSE_S):
                if browser is not None:
                    await browser.async_cancel()
                await zeroconf.async_unregister_all_services()
                await zeroconf.async_close()
