"""Where the local door is: state directories, and the control socket within one."""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

from mesh.core.errors import ConfigError

STATE_VARIABLE = "GOSSAMER_STATE"
DEMO_FOLDER = "demo"  # the demo keeps one state directory per node in here
SOCKET_FILE = "control.sock"
POINTER_FILE = "control.path"  # holds the socket's path where the state directory's is too long
MAX_PATH_BYTES = 100  # of the 108 (Linux) or 104 (macOS) that the kernel takes
FOLDER_BYTES = 40  # room for the short folder's own name in a runtime directory


def default_state() -> Path:
    """The state directory of who names none: $GOSSAMER_STATE, or the user's own."""
    if chosen := os.environ.get(STATE_VARIABLE):
        return Path(chosen)
    import platformdirs

    return platformdirs.user_state_path("gossamer")


def socket_path(state: Path) -> Path:
    """Where the agent of ``state`` listens, or would."""
    with contextlib.suppress(OSError, UnicodeDecodeError):
        if recorded := (state / POINTER_FILE).read_text().strip():
            return Path(recorded)
    return state / SOCKET_FILE


def place_socket(state: Path) -> Path:
    """Choose the socket's path; a long one goes to a short private folder, and is recorded.

    Raises :class:`ConfigError` when there is no short folder either.
    """
    path = state / SOCKET_FILE
    pointer = state / POINTER_FILE
    pointer.unlink(missing_ok=True)
    if len(os.fsencode(path.absolute())) <= MAX_PATH_BYTES:
        return path
    for base in (os.environ.get("XDG_RUNTIME_DIR"), tempfile.gettempdir()):
        if not base or len(os.fsencode(base)) > MAX_PATH_BYTES - FOLDER_BYTES:
            continue
        with contextlib.suppress(OSError):
            folder = Path(tempfile.mkdtemp(prefix="gossamer-", dir=base))  # of mode 0700
            pointer.write_text(f"{folder / SOCKET_FILE}\n")
            return folder / SOCKET_FILE
    raise ConfigError(
        f"the state directory's path is too long for a socket: {state}",
        hint="choose a shorter one with --state",
    )


def remove_socket(state: Path, path: Path) -> None:
    """Take away what :func:`place_socket` chose."""
    path.unlink(missing_ok=True)
    if path.parent != state:
        (state / POINTER_FILE).unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            path.parent.rmdir()


def is_socket(path: Path) -> bool:
    """Whether a socket lies there; nobody need listen on it."""
    try:
        return stat.S_ISSOCK(path.stat().st_mode)
    except OSError:
        return False


def candidates(state: Path | None) -> list[Path]:
    """State directories where an agent may run, best first.

    A directory that holds state directories stands for the agents within it, and the demo's
    folder is looked at last: ``gossamer peers`` finds the demo that runs next to it.
    """
    root = state or default_state()
    demo = root / DEMO_FOLDER
    places = [root]
    for folder in (root, demo):
        with contextlib.suppress(OSError):
            places += sorted(x for x in folder.iterdir() if x.is_dir() and x != demo)
        places += [demo] if folder == root else []
    return [place for place in places if is_socket(socket_path(place))]


@contextlib.contextmanager
def announced(state: Path) -> Iterator[None]:
    """Let who names no state directory find the agent of ``state``, until the block is left.

    For a demo in a folder of its own. The latest one to be announced is found; a user's own
    agent comes before it. Where the state directory cannot be written, nothing is announced.
    """
    pointer = default_state() / DEMO_FOLDER / POINTER_FILE
    path = f"{socket_path(state).absolute()}\n"
    with contextlib.suppress(OSError):
        pointer.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        pointer.write_text(path)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            if pointer.read_text() == path:
                pointer.unlink()
