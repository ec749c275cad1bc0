"""Keys come from safe places and are shown nowhere."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path

import pytest

from capabilities.cloud.keys import Secret, read_key
from mesh.core.errors import ConfigError


def test_a_key_file_that_others_may_read_is_refused_with_the_command_that_mends_it(
    tmp_path: Path,
) -> None:
    file = tmp_path / "key"
    file.write_text("sk-1234\n")
    file.chmod(0o644)
    with pytest.raises(ConfigError) as caught:
        read_key("p", file=file)
    assert caught.value.hint == f"chmod 600 {file}"
    assert "sk-1234" not in caught.value.sentence()
    file.chmod(0o600)
    key = read_key("p", file=file)
    assert key is not None
    assert key.reveal() == "sk-1234"


def test_a_key_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_KEY", "sk-env")
    key = read_key("p", env="SOME_KEY")
    assert key is not None
    assert key.reveal() == "sk-env"
    monkeypatch.setenv("SOME_KEY", "")
    with pytest.raises(ConfigError, match="SOME_KEY is not set"):
        read_key("p", env="SOME_KEY")
    assert read_key("p") is None


@pytest.mark.parametrize("content", [b"", b"two words", b"\xff\xfe", b"a\x00b", b"x" * 5000])
def test_what_is_no_key_is_refused(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "key"
    file.write_bytes(content)
    file.chmod(0o600)
    with pytest.raises(ConfigError):
        read_key("p", file=file)


def test_a_missing_file_and_two_places_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        read_key("p", file=tmp_path / "none")
    with pytest.raises(ConfigError, match="not both"):
        read_key("p", env="A", file=tmp_path / "none")


def test_a_secret_does_not_show_itself() -> None:
    secret = Secret("sk-hidden")
    for shown in (repr(secret), str(secret), f"{secret}", f"{[secret]}", "%s" % secret):  # noqa: UP031
        assert "sk-hidden" not in shown
    with pytest.raises(TypeError):
        pickle.dumps(secret)
    with pytest.raises(TypeError):
        copy.copy(secret)
