"""A provider's key: from the environment or from a file that only its owner can read."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from mesh.core.errors import ConfigError

MAX_KEY_BYTES = 4096
TOO_OPEN = stat.S_IRWXG | stat.S_IRWXO


class Secret:
    """A key that does not show itself: not in repr, str, format, pickles or exceptions."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """The key itself, for the header that carries it and nothing else."""
        return self._value

    def __repr__(self) -> str:
        return "Secret(...)"

    def __reduce__(self) -> str:
        raise TypeError("a key does not travel")


def read_key(name: str, *, env: str = "", file: Path | None = None) -> Secret | None:
    """The key of provider ``name``; None where the configuration names neither place.

    Raises :class:`ConfigError` with what mends it: an empty variable, a file that is missing or
    that others may read. No message holds any part of a key.
    """
    if env and file is not None:
        raise ConfigError(f"cloud {name}: the key is in key_env or in key_file, not both")
    if env:
        value = os.environ.get(env, "").strip()
        if not value:
            raise ConfigError(
                f"cloud {name}: the environment variable {env} is not set",
                hint=f"export {env}=..., or put the key into a file and say key_file",
            )
    elif file is not None:
        value = _from_file(name, file)
    else:
        return None
    if not value.isascii() or not value.isprintable() or " " in value:
        raise ConfigError(f"cloud {name}: the key holds characters that no key has")
    return Secret(value)


def _from_file(name: str, file: Path) -> str:
    try:
        with file.open("rb") as stream:
            # Of the open file, not of the path: nobody can change it in between.
            status = os.fstat(stream.fileno())
            if status.st_mode & TOO_OPEN:
                raise ConfigError(
                    f"cloud {name}: others may read the key in {file} "
                    f"(mode {stat.S_IMODE(status.st_mode):04o})",
                    hint=f"chmod 600 {file}",
                )
            if status.st_uid not in {os.geteuid(), 0}:
                raise ConfigError(
                    f"cloud {name}: {file} belongs to another user",
                    hint=f"chown {os.geteuid()} {file}",
                )
            value = stream.read(MAX_KEY_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"cloud {name}: {file} cannot be read: {error.strerror}") from error
    if len(value) > MAX_KEY_BYTES:
        raise ConfigError(f"cloud {name}: {file} is no key, it is too long")
    text = value.decode("ascii", "replace").strip()
    if not text:
        raise ConfigError(f"cloud {name}: {file} is empty", hint="write the key into it")
    return text
