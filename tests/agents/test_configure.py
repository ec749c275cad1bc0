"""Parts are chosen by name; a wrong name or option is one sentence that says what to do."""

from __future__ import annotations

import pytest

from agents.configure import POLICIES, PartsConfig, build, from_mapping
from agents.escalation import MeshOnly
from agents.orchestrator.plan import Whole
from agents.parts import Thresholds
from agents.registry import Registry
from agents.scheduling.policies import LoadAware, Random
from mesh.core.errors import ConfigError


def test_every_part_can_be_swapped_by_its_name() -> None:
    parts = build(PartsConfig(planner="whole", policy="random", escalation="mesh_only"))
    assert isinstance(parts.planner, Whole)
    assert isinstance(parts.policy, Random)
    assert isinstance(parts.escalation, MeshOnly)


def test_a_users_own_part_is_named_by_its_path() -> None:
    parts = build(PartsConfig(policy="agents.scheduling.policies:LoadAware"))
    assert isinstance(parts.policy, LoadAware)


def test_a_part_that_was_added_is_found_before_the_built_in_ones() -> None:
    registry: Registry[object] = Registry("thing", {"a": "agents.escalation:Ladder"})
    registry.add("a", dict)
    assert registry.create("a") == {}


def test_options_reach_the_part() -> None:
    parts = build(PartsConfig(escalation="ladder", options={"escalation": {"redirects": 3}}))
    assert getattr(parts.escalation, "redirects", 0) == 3


def test_an_unknown_part_names_the_known_ones() -> None:
    with pytest.raises(ConfigError) as caught:
        POLICIES.create("fastest")
    assert "load_aware" in caught.value.sentence()


@pytest.mark.parametrize("path", ["no_such_package:Part", "agents.escalation:NoSuchPart"])
def test_a_part_that_cannot_be_loaded_says_from_where(path: str) -> None:
    with pytest.raises(ConfigError, match="cannot be loaded"):
        POLICIES.create(path)


@pytest.mark.parametrize(
    "values",
    [
        {"polcy": "random"},
        {"thresholds": {"name": "high"}},
        {"thresholds": {"name": 1.5}},
        {"limits": {"attempts": 0}},
        {"limits": {"first_share": 0.0}},
        {"options": {"planer": {}}},
        {"options": {"policy": {"speed": 1}}},
    ],
)
def test_a_configuration_that_cannot_work_is_refused(values: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        from_mapping(values)


def test_a_table_becomes_parts() -> None:
    parts = from_mapping({"policy": "weighted", "thresholds": {"name": 0.7}})
    assert parts.thresholds == Thresholds(name=0.7)
