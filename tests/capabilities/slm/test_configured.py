"""From [[model]] in a configuration to a model host."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from agents.config import make_config
from agents.hosting import make_capabilities
from capabilities.slm.capability import SlmCapability
from mesh.core.errors import ConfigError
from tests.capabilities.slm.test_adapters import write_adapter


def configured(base: Path, **model: object) -> list[SlmCapability]:
    raw = {"node": {"state": "state"}, "model": [model]}
    made = make_capabilities(make_config(raw, base=base), "here")
    return [one for one in made if isinstance(one, SlmCapability)]


def test_a_model_is_loaded_with_its_adapters_by_paths_beside_the_configuration(
    random_model: Path, tmp_path: Path, no_orphans: None
) -> None:
    (tmp_path / "m.gguf").symlink_to(random_model)
    write_adapter(tmp_path / "fish.gguf", 1)
    (it,) = configured(
        tmp_path,
        path="m.gguf",
        name=[{"name": "knowledge.gpt/fish"}],
        adapters={"fish": "fish.gguf"},
        idle_unload_s=60,
        prefix_tokens=128,
        threads=1,
        context=64,
    )

    async def main() -> None:
        try:
            await it.start()
            assert it.host.health().healthy
            assert await it.host.remove_adapter("fish") == []
        finally:
            await it.stop()

    asyncio.run(main())


def test_a_model_above_its_memory_limit_is_refused_at_start(
    random_model: Path, no_orphans: None
) -> None:
    name = {"name": "knowledge.gpt/fish"}
    (it,) = configured(Path("/"), path=str(random_model), name=[name], memory_mb=1)

    async def main() -> None:
        try:
            with pytest.raises(Exception, match="needs about"):
                await it.start()
        finally:
            await it.stop()

    asyncio.run(main())


@pytest.mark.parametrize(
    "wrong",
    [{"prefix_tokens": -2}, {"memory_mb": -1}, {"idle_unload_s": -1}, {"adapters": {"a": 3}}],
)
def test_wrong_settings_are_named(tmp_path: Path, wrong: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        configured(tmp_path, path="m.gguf", name=[{"name": "knowledge.gpt/x"}], **wrong)
