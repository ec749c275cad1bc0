"""What this node says of itself: when it is worth a signature, and the signing of it."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from mesh.core.announcing import AnnounceConfig, StatusGate, Vitals
from mesh.core.clock import Now
from mesh.core.cms import Store
from mesh.core.gossip import RumourMill
from mesh.core.identity import LocalIdentity
from mesh.core.records import Kind, Profile, Status, seal


class Publisher:
    """Signs this node's profile and status, keeps them and sets them going as news.

    ``incarnation`` is asked for each time: the mesh may know a later boot than the disk did.
    """

    def __init__(
        self,
        identity: LocalIdentity,
        config: AnnounceConfig,
        store: Store,
        mill: RumourMill,
        incarnation: Callable[[], int],
    ) -> None:
        self._identity = identity
        self._config = config
        self._store = store
        self._mill = mill
        self._incarnation = incarnation
        self._gate = StatusGate(config)
        self._sequence = 0
        self._latest: Profile | None = None
        self._vitals: Vitals | None = None

    def profile(self, profile: Profile, now: Now) -> None:
        """Publish; version and times are filled in. Raises as :meth:`Store.keep_own`."""
        self._sequence += 1
        fresh = msgspec.structs.replace(
            profile,
            incarnation=self._incarnation(),
            sequence=self._sequence,
            issued=now.wall,
            expires=now.wall + self._config.profile_life_s,
        )
        self._publish(fresh, now)
        self._latest = fresh

    def vitals(self, vitals: Vitals, now: Now) -> None:
        """How the node is now; it is published when the change means something."""
        self._gate.set(vitals, now)

    def tick(self, present: int, now: Now) -> None:
        """Publish the status that is due."""
        vitals = self._gate.due(now, present)
        if vitals is not None:
            self._status(vitals, now)
            self._gate.sent(vitals, now)

    def _status(self, vitals: Vitals, now: Now) -> None:
        self._sequence += 1
        self._vitals = vitals
        status = Status(
            kind=Kind.STATUS,
            node=self._identity.node,
            incarnation=self._incarnation(),
            sequence=self._sequence,
            issued=now.wall,
            expires=now.wall + self._config.status_life_s,
            **vitals._asdict(),
        )
        self._publish(status, now)

    def _publish(self, record: Profile | Status, now: Now) -> None:
        trust = self._identity.trust
        signed = seal(self._identity.seal_key(), trust.mesh, record, trust.scheme)
        self._store.keep_own(signed, record, now)
        version = (record.incarnation, record.sequence)
        self._mill.add((record.node, record.kind, b""), signed, version)

    def renew(self, now: Now) -> None:
        """Sign the profile again once half of its life is over."""
        latest = self._latest
        if latest is not None and now.wall > (latest.issued + latest.expires) / 2:
            self.profile(latest, now)

    def again(self, now: Now) -> None:
        """Sign everything again: this node lives in a later incarnation than it thought."""
        if self._latest is not None:
            self.profile(self._latest, now)
        if self._vitals is not None:
            self._status(self._vitals, now)

    def next_deadline(self, present: int) -> float:
        """Monotonic seconds."""
        return self._gate.next_deadline(present)
