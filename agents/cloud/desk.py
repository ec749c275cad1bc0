"""The cloud of one node, made of its configuration: keys, providers, budget, leases."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from agents.budget.lease import Terms
from agents.budget.limits import Limit, Limits
from agents.budget.purse import BudgetPurse
from agents.budget.store import FILE, BudgetStore
from agents.cloud.leaving import Record
from agents.cloud.lending import LEASE, Borrower, LeaseService, keep_giving_back, served_lease
from agents.cloud.service import CloudService
from agents.config import BudgetSection, CloudSection, ProviderSection
from agents.telemetry.observer import Observer
from capabilities.base import Admission, Capability, Occupancy, Request
from capabilities.cloud.provider import NANO, Provider
from mesh.core.errors import ConfigError, GossamerError
from mesh.core.records import ServedName
from mesh.net.calls import Service
from mesh.net.node import MeshNode

if TYPE_CHECKING:
    from capabilities.cloud.capability import CloudCapability

GIVE_BACK_EVERY_S = 20.0
LOOPBACK = ("http://127.", "http://localhost", "http://[::1]")


class CloudDesk(Capability):
    """Serves the cloud while its keys can be read; a capability like any other to the agent."""

    def __init__(self, section: CloudSection, state: Path, node: MeshNode, record: Record) -> None:
        check(section)
        self.section = section
        self._node = node
        self._record = record
        self._inner: CloudCapability | None = None
        self._tasks: list[asyncio.Task[None]] = []
        limits = limits_of(section)
        self.purse = BudgetPurse(
            lambda: BudgetStore(
                state / FILE,
                limits,
                borrowing=bool(section.lease_from),
                wall=lambda: node.now().wall,
            )
        )
        self._borrower = None
        if section.lease_from:
            self._borrower = Borrower(node, section.lease_from, self.purse, lambda: node.now().wall)
            self.purse.lender = self._borrower

    @property
    def names(self) -> Sequence[ServedName]:
        """The cloud, once its keys are read."""
        return self._inner.names if self._inner is not None else ()

    async def start(self) -> None:
        """Read the keys, open the book; raises :class:`ConfigError` with what mends it."""
        # Late, for nodes without a cloud: the HTTP library takes 10 MB.
        from capabilities.cloud.capability import CloudCapability
        from capabilities.cloud.client import Endpoint
        from capabilities.cloud.failover import Cloud
        from capabilities.cloud.keys import read_key

        def endpoints() -> list[Endpoint]:
            return [
                Endpoint(provider_of(p), read_key(p.name, env=p.key_env, file=p.key_file))
                for p in self.section.provider
            ]

        made = await asyncio.to_thread(endpoints)
        await self.purse.start()
        cloud = Cloud(made, self.purse, currency=self.section.currency)
        self._inner = CloudCapability(cloud, self.purse, at_once=self.section.at_once)
        self._tasks.append(asyncio.create_task(self.purse.keep()))
        if self._borrower is not None:
            self._tasks.append(
                asyncio.create_task(keep_giving_back(self.purse, self._borrower, GIVE_BACK_EVERY_S))
            )

    async def stop(self) -> None:
        """Give leases back, close the book and the connections."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()
        inner, self._inner = self._inner, None
        if inner is None:
            return
        await inner.stop()
        if self._borrower is not None:
            for lease in await self.purse.use(lambda store: store.held()):
                with contextlib.suppress(GossamerError):
                    await self._borrower.give_back(lease)
        await self.purse.stop()

    def services(self, observer: Observer) -> list[tuple[ServedName, Service]]:
        """What it offers to the mesh: the cloud, and leases if this node lends and may."""
        cloud = CloudService(self, observer, self._node.core.member, self._record)
        found: list[tuple[ServedName, Service]] = [(served, cloud) for served in self.names]
        if found and not self.section.lease_from and self._node.me.may_publish(LEASE):
            terms = Terms(share=self.section.lease_share, seconds=self.section.lease_s)
            found.append(
                (
                    served_lease(),
                    LeaseService(self.purse, terms, self._record, self._node.core.member),
                )
            )
        return found

    def admit(self, request: Request) -> Admission:
        """As the cloud capability does."""
        if self._inner is None:
            return Admission(accepted=False, reason="the cloud is not ready")
        return self._inner.admit(request)

    def serve(self, request: Request) -> AsyncIterator[bytes]:
        """As the cloud capability does."""
        if self._inner is None:
            raise ConfigError("the cloud is not ready")
        return self._inner.serve(request)

    def occupancy(self) -> Occupancy:
        """How full it is."""
        idle = Occupancy(slots=0, inflight=0)
        return self._inner.occupancy() if self._inner is not None else idle

    def counters(self) -> dict[str, int]:
        """What became of the calls, and of each try of a provider."""
        if self._inner is None:
            return {}
        return {f"cloud_{key}": value for key, value in self._inner.cloud.counters.items()}

    def status(self) -> dict[str, object]:
        """For people: circuits and counters, no keys."""
        if self._inner is None:
            return {}
        cloud = self._inner.cloud
        return {
            "providers": {name: str(state) for name, state in cloud.states().items()},
            "counters": dict(cloud.counters),
        }


def check(section: CloudSection) -> None:
    """Raises :class:`ConfigError` for a cloud that could leak a key or has no limit."""
    names = [p.name for p in section.provider]
    if len(set(names)) != len(names):
        raise ConfigError("two [[cloud.provider]] have the same name")
    for provider in section.provider:
        address = provider.base_url
        keyed = provider.key_env or provider.key_file
        plain = not address.startswith("https://")
        if plain and not address.startswith("http://"):
            raise ConfigError(f"cloud {provider.name}: base_url begins with https://")
        if plain and not address.startswith(LOOPBACK) and not provider.plain_http:
            what = "the key and what is asked" if keyed else "what is asked"
            raise ConfigError(
                f"cloud {provider.name}: {what} would travel readable for everybody",
                hint="use https://, or plain_http = true for a server of your own",
            )
    limit = section.budget
    if not section.lease_from and limit.per_hour is None and limit.per_day is None:
        raise ConfigError(
            "the cloud has no budget",
            hint="say how much may be spent: [cloud.budget] per_day = 1.0",
        )


def limits_of(section: CloudSection) -> Limits:
    """The limits as the book counts them."""
    return Limits(
        node=_limit(section.budget),
        groups={name: _limit(group) for name, group in section.budget.groups.items()},
    )


def _limit(section: BudgetSection) -> Limit:
    def nano(amount: float | None) -> int | None:
        return None if amount is None else int(amount * NANO)

    return Limit(hour=nano(section.per_hour), day=nano(section.per_day))


def provider_of(section: ProviderSection) -> Provider:
    """A provider without anything secret."""
    return Provider(
        name=section.name,
        base_url=section.base_url,
        model=section.model,
        prompt_price=section.prompt_price,
        completion_price=section.completion_price,
        order=section.order,
        max_tokens=section.max_tokens,
        silence_s=section.silence_s,
        length_field=section.length_field,
        stream_usage=section.stream_usage,
    )
