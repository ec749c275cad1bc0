"""The ladder: from what is known here to the cloud, each rung with a score and a line.

Asked before the first call of a step and after each failed one, it goes through the rungs from
the cheapest and names the first that may help. A rung is skipped when its score says that it
will not help; the line says why. What is not built yet (shared memory, token-level help, the
cloud) has its rung, so that the trace already reads as the whole ladder.
"""

from __future__ import annotations

from typing import Protocol

import msgspec

from mesh.core.wire import Reach

# Below this a call over the mesh cannot even carry its request (a Wi-Fi round trip and a token).
MIN_TIME_LEFT_S = 0.05


class Situation(msgspec.Struct, frozen=True, kw_only=True):
    """Where a step stands. Counts are of nodes that fit and were not tried yet."""

    name: str
    local_fit: int
    remote_fit: int
    chose_me: bool = False  # the policy's first choice is this node
    attempts: int = 0
    attempts_allowed: int = 2
    time_left_s: float
    reach: int = Reach.MESH
    last: str = ""  # why the last attempt did not do, empty before the first
    hopeless: bool = False  # the others run the model that already declined


class Rung(msgspec.Struct, frozen=True, kw_only=True):
    """One rung as decided: ``action`` is take, skip or stop, ``why`` one plain sentence."""

    rung: str
    score: float
    threshold: float
    action: str
    why: str


class Escalation(Protocol):
    """An escalation rule, chosen by name in the configuration."""

    def climb(self, situation: Situation) -> list[Rung]:
        """The rungs looked at; the last one is taken, or says ``stop``. Must not do I/O."""


class Ladder:
    """The default ladder of the design. ``cloud`` names a cloud capability, empty for none."""

    def __init__(self, cloud: str = "") -> None:
        self.cloud = cloud

    def climb(self, situation: Situation) -> list[Rung]:
        """The rungs up to the one that is taken."""
        rungs: list[Rung] = []
        for rung in (
            _rung("memory", 0.0, False, "this node has no shared memory to look in"),
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
            return _rung("cloud", 0.0, False, "the task may not leave the mesh")
        if not self.cloud:
            return _rung("cloud", 0.0, False, "no cloud configured")
        return _rung("cloud", 0.0, False, f"the cloud {self.cloud} has no capability here yet")


class MeshOnly:
    """Never looks beyond the mesh: own model, peers, then an honest stop."""

    def climb(self, situation: Situation) -> list[Rung]:
        """The rungs of the mesh only."""
        return [rung for rung in Ladder().climb(situation) if rung.rung != "cloud"]


def _rung(rung: str, score: float, ok: bool, why: str, threshold: float = 1.0) -> Rung:
    action = "take" if ok else "skip"
    return Rung(rung=rung, score=score, threshold=threshold, action=action, why=why)
