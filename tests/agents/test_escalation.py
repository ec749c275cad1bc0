"""The ladder climbs from what is here to the cloud, and every rung says why."""

from __future__ import annotations

from agents.escalation import Ladder, MeshOnly, Situation
from mesh.core.wire import Reach

NAME = "knowledge.gpt/arithmetic"


def situation(**changes: object) -> Situation:
    values: dict[str, object] = {
        "name": NAME,
        "local_fit": 0,
        "remote_fit": 0,
        "time_left_s": 10.0,
        **changes,
    }
    return Situation(**values)  # type: ignore[arg-type]


def taken(now: Situation) -> str:
    last = Ladder().climb(now)[-1]
    return f"{last.action} {last.rung}"


def test_the_own_model_comes_before_a_peer_when_the_policy_chose_it() -> None:
    assert taken(situation(local_fit=1, remote_fit=2, chose_me=True)) == "take own_model"


def test_a_peer_is_taken_when_the_policy_puts_it_first() -> None:
    assert taken(situation(local_fit=1, remote_fit=2)) == "take expert"


def test_after_a_failed_attempt_another_peer_is_the_rung() -> None:
    assert taken(situation(remote_fit=1, attempts=1, last="a: lost")) == "take another_peer"


def test_with_nobody_left_it_stops_and_the_cloud_rung_says_why() -> None:
    rungs = {rung.rung: rung for rung in Ladder().climb(situation(reach=Reach.CLOUD))}
    assert rungs["none"].action == "stop"
    assert rungs["cloud"].why == "no cloud configured"


def test_a_task_that_may_not_leave_the_mesh_never_reaches_the_cloud() -> None:
    rungs = {rung.rung: rung for rung in Ladder(cloud="x").climb(situation())}
    assert rungs["cloud"].action == "skip"
    assert "may not leave the mesh" in rungs["cloud"].why


def test_spent_attempts_no_time_and_a_hopeless_model_end_the_mesh_rungs() -> None:
    for change in ({"attempts": 2}, {"time_left_s": 0.0}, {"hopeless": True}):
        rungs = Ladder().climb(situation(remote_fit=3, **change))
        assert rungs[-1].action == "stop"


def test_the_last_reason_is_the_reason_to_stop() -> None:
    assert Ladder().climb(situation(attempts=2, last="a: crashed"))[-1].why == "a: crashed"


def test_mesh_only_does_not_know_of_a_cloud() -> None:
    assert all(rung.rung != "cloud" for rung in MeshOnly().climb(situation()))
