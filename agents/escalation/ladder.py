"""The ladder: from what is known here to the cloud, each rung with a score and a line.

Asked before the first call of a step and after each failed one, it goes through the rungs from
the cheapest and names the first that may help. A rung is skipped when its score says that it
will not help; the line says why. Token-level help is not built yet and has its rung, so that
the trace already reads as the whole ladder.

The cloud is the last rung. It is taken when the task may leave the mesh and no node of the mesh
can meet the deadline or the quality floor: nobody fits, all were full after one redirect, the
time would not do, or the answer at hand is too unsure and the cloud is likely to do better.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import msgspec

from agents.escalation.cascade import Cascade
from mesh.core.errors import ConfigError
from mesh.core.wire import Reach

# Below this a call over the mesh cannot even carry its request (a Wi-Fi round trip and a token).
MIN_TIME_LEFT_S = 0.05


class Situation(msgspec.Struct, frozen=True, kw_only=True):
    """Where a step stands. Counts are of nodes that fit and were not tried yet.

    ``predicted_s``: when the quickest of them would be done, 0 where nothing is known.
    ``confidence``: of the best answer so far, -1 before the first. ``cloud_fit`` counts nodes
    that offer the cloud; ``cloud_why`` is why those that were asked did not do.
    """

    name: str
    local_fit: int
    remote_fit: int
    chose_me: bool = False  # the policy's first choice is this node
    attempts: int = 0  # in the mesh
    attempts_allowed: int = 2
    time_left_s: float
    reach: int = Reach.MESH
    last: str = ""  # why the last attempt did not do, empty before the first
    hopeless: bool = False  # the others run the model that already declined
    rejections: int = 0
    predicted_s: float = 0.0
    confidence: float = -1.0
    cloud_fit: int = 0
    cloud_why: str = ""
    memory: str = ""  # reuse, context or nothing; empty where it was not asked
    memory_score: float = 0.0
    memory_threshold: float = 1.0
    memory_why: str = "this node has no shared memory to look in"


class Rung(msgspec.Struct, frozen=True, kw_only=True):
    """One rung as decided: ``action`` is take, skip or stop, ``why`` one plain sentence."""

    rung: str
    score: float
    threshold: float
    action: str
    why: str


CLOUD_RUNG = "cloud"
MEMORY_RUNG = "memory"


class Escalation(Protocol):
    """An escalation rule, chosen by name in the configuration."""

    def climb(self, situation: Situation) -> list[Rung]:
        """The rungs looked at; the last one is taken, or says ``stop``. Must not do I/O."""

    def floor(self, default: float, reach: int, attempt: int) -> float:
        """How sure an answer of attempt 0, 1, ... must be to be believed."""


class Ladder:
    """The default ladder of the design.

    ``redirects``: how many nodes are asked after a full one before the cloud is. More saves
    money and costs a round trip each; one already halves what stale load figures cost.
    ``cascade``: thresholds fitted by ``gossamer escalation fit``, as plain values.
    """

    def __init__(self, redirects: int = 1, cascade: Mapping[str, Any] | None = None) -> None:
        if redirects < 0:
            raise ConfigError("the ladder's redirects cannot be below 0")
        self.redirects = redirects
        self.cascade: Cascade | None = None
        if cascade is not None:
            try:
                self.cascade = msgspec.convert(dict(cascade), Cascade)
            except msgspec.ValidationError as error:
                raise ConfigError(
                    f"this is no fitted cascade: {error}", hint="make one: gossamer escalation fit"
                ) from error
            if not self.cascade.thresholds or not self.cascade.gains:
                raise ConfigError("the fitted cascade is empty")

    def floor(self, default: float, reach: int, attempt: int) -> float:
        """The fitted threshold where the cloud may be asked, else the configured floor: with
        nobody better to ask, an unsure answer is better than none."""
        if self.cascade is None or reach < Reach.CLOUD:
            return default
        return max(default, self.cascade.threshold(attempt))

    def climb(self, situation: Situation) -> list[Rung]:
        """The rungs up to the one that is taken."""
        rungs: list[Rung] = []
        for rung in (
            _rung(
                MEMORY_RUNG,
                situation.memory_score,
                situation.memory == "reuse",
                situation.memory_why,
                situation.memory_threshold,
            ),
            *self._mesh_rungs(situation),
            _rung("token_help", 0.0, False, "no node offers token-level help"),
            self._cloud_rung(situation),
        ):
            rungs.append(rung)
            if rung.action != "skip":
                return rungs
        why = situation.last or f"nobody who fits offers {situation.name}"
        rungs.append(Rung(rung="none", score=0.0, threshold=0.0, action="stop", why=why))
        return rungs

    def _mesh_rungs(self, now: Situation) -> list[Rung]:
        if now.time_left_s < MIN_TIME_LEFT_S:
            return [_rung("mesh", now.time_left_s, False, "no time is left", MIN_TIME_LEFT_S)]
        if now.attempts >= now.attempts_allowed:
            why = f"{now.attempts} attempts were made, {now.attempts_allowed} are allowed"
            return [_rung("mesh", 0.0, False, why)]
        if now.hopeless:
            return [_rung("mesh", 0.0, False, "the other nodes run the same model")]
        if now.reach >= Reach.CLOUD and now.cloud_fit:
            if now.rejections > self.redirects:
                why = f"{now.rejections} nodes were full, {self.redirects} redirects are made"
                return [_rung("mesh", now.rejections, False, why, self.redirects)]
            if now.predicted_s > now.time_left_s:
                why = "no node that fits would be done in time"
                return [_rung("mesh", now.predicted_s, False, why, now.time_left_s)]
        if now.reach <= Reach.NODE:
            peers_why = "the task may not leave this node"
        else:
            peers_why = f"{now.remote_fit} other nodes may serve it"
        own_why = "this node may serve it" if now.local_fit else "this node does not offer it"
        if now.local_fit and not now.chose_me:
            own_why = "the policy puts a peer first"
        peer_rung = "another_peer" if now.attempts else "expert"
        return [
            _rung("own_model", float(now.local_fit), now.local_fit > 0 and now.chose_me, own_why),
            _rung(peer_rung, float(now.remote_fit), now.remote_fit > 0, peers_why),
        ]

    def _cloud_rung(self, now: Situation) -> Rung:
        if now.reach < Reach.CLOUD:
            return _rung(CLOUD_RUNG, 0.0, False, "the task may not leave the mesh")
        if not now.cloud_fit:
            why = now.cloud_why or "no node that this one may use offers a cloud"
            return _rung(CLOUD_RUNG, 0.0, False, why)
        if now.time_left_s < MIN_TIME_LEFT_S:
            return _rung(CLOUD_RUNG, now.time_left_s, False, "no time is left", MIN_TIME_LEFT_S)
        if now.confidence >= 0 and self.cascade is not None:
            gain = self.cascade.gain(now.confidence)
            worth = self.cascade.worth
            if gain <= worth:
                why = "hopeless: answers as unsure as this one the cloud did not better"
                return _rung(CLOUD_RUNG, gain, False, why, worth)
            return _rung(CLOUD_RUNG, gain, True, f"the answer is unsure: {now.last}", worth)
        return _rung(CLOUD_RUNG, 1.0, True, _because(now))


class MeshOnly:
    """Never looks beyond the mesh: own model, peers, then an honest stop."""

    def climb(self, situation: Situation) -> list[Rung]:
        """The rungs of the mesh only."""
        within = msgspec.structs.replace(situation, reach=min(situation.reach, Reach.MESH))
        return [rung for rung in Ladder().climb(within) if rung.rung != CLOUD_RUNG]

    def floor(self, default: float, reach: int, attempt: int) -> float:
        """The configured one."""
        return default


def _because(now: Situation) -> str:
    if now.last:
        return f"the mesh could not: {now.last}"
    if now.predicted_s > now.time_left_s:
        return "no node of the mesh would be done in time"
    return f"nobody in the mesh who fits offers {now.name}"


def _rung(rung: str, score: float, ok: bool, why: str, threshold: float = 1.0) -> Rung:
    action = "take" if ok else "skip"
    return Rung(rung=rung, score=score, threshold=threshold, action=action, why=why)
