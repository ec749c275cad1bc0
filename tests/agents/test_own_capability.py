"""What a user's own code offers is named in the configuration."""

from __future__ import annotations

from pathlib import Path

import pytest

from agents.config import make_config
from agents.hosting import make_capabilities
from capabilities.sensors.machine import MachineCapability
from mesh.core.errors import ConfigError


def test_a_capability_of_ones_own_is_made_with_its_options(tmp_path: Path) -> None:
    use = "capabilities.sensors.machine:MachineCapability"
    raw = {"capability": [{"use": use, "options": {"node": "me", "period_s": 5.0}}]}
    config = make_config({"node": {"state": "s"}, **raw}, base=tmp_path)
    (made,) = make_capabilities(config, "me")
    assert isinstance(made, MachineCapability)


@pytest.mark.parametrize(
    ("section", "why"),
    [
        ({"use": "nowhere"}, "no capability called"),
        ({"use": "no.such.module:Thing"}, "cannot be loaded"),
        ({"use": "capabilities.sensors.machine:MachineCapability", "options": {"x": 1}}, "options"),
    ],
)
def test_one_that_cannot_be_made_is_a_sentence(
    tmp_path: Path, section: dict[str, object], why: str
) -> None:
    config = make_config({"node": {"state": "s"}, "capability": [section]}, base=tmp_path)
    with pytest.raises(ConfigError, match=why):
        make_capabilities(config, "me")
