"""What a wheelhouse is made of, without fetching anything."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from agents.boards.wheelhouse import installer, make, needs_of
from mesh.core.errors import ConfigError


def test_the_requirements_are_those_of_the_wheel_that_is_packed(tmp_path: Path) -> None:
    wheel = tmp_path / "x-1-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as packed:
        packed.writestr(
            "x-1.dist-info/METADATA",
            "Name: x\nRequires-Dist: a>=1,<2\nRequires-Dist: b; extra == 'dev'\n",
        )
    assert needs_of(wheel) == ["a>=1,<2"]


def test_another_processor_needs_a_llama_of_its_own_or_none(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="compiled on the machine that it runs on") as caught:
        make(tmp_path / "stick", lambda _: None, arch="aarch64", python="3.9")
    assert "--without-llama" in caught.value.hint
    assert not (tmp_path / "stick").exists()
    with pytest.raises(ConfigError, match="riscv64 is not supported"):
        make(tmp_path / "stick", lambda _: None, arch="riscv64")


def test_the_installer_that_is_handed_on_is_the_projects() -> None:
    assert installer().read_text().startswith("#!/bin/sh\n# Installs Gossamer")
