"""What a fresh machine meets first: scripts/setup.py and the Makefile's promises."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def setup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script as a module, with a cache of its own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("CMAKE_ARGS", raising=False)
    spec = importlib.util.spec_from_file_location("gossamer_setup", ROOT / "scripts/setup.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "BUILD_FREE_BYTES", 0)
    return module


def keep_a_wheel(setup: ModuleType) -> Path:
    folder: Path = setup.wheel_folder()
    folder.mkdir(parents=True, exist_ok=True)
    wheel = folder / "llama_cpp_python-0.3.99-py3-none-linux_x86_64.whl"
    wheel.write_bytes(b"whole")
    return wheel


def test_a_missing_compiler_is_one_line_that_says_what_to_install(
    setup: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(setup.shutil, "which", lambda _: None)
    with pytest.raises(setup.SetupFailed, match="sudo apt install build-essential") as caught:
        setup.check_prerequisites()
    assert "\n" not in str(caught.value)
    keep_a_wheel(setup)
    setup.check_prerequisites()  # nothing is to be compiled any more


def test_a_missing_venv_module_is_one_line_that_says_what_to_install(
    setup: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ensurepip", None)
    with pytest.raises(setup.SetupFailed, match=r"sudo apt install python3\S*-venv"):
        setup.check_prerequisites()


@pytest.mark.parametrize("version", ["3.9.2", ""])
def test_a_python_too_old_or_missing_is_one_line(tmp_path: Path, version: str) -> None:
    for tool in ("sh", "dirname"):
        found = next(Path(x) / tool for x in ("/bin", "/usr/bin") if (Path(x) / tool).exists())
        (tmp_path / tool).symlink_to(found)
    if version:
        fake = tmp_path / "python3"
        fake.write_text(f'#!/bin/sh\ncase "$2" in *exit*) exit 1;; *) echo {version};; esac\n')
        fake.chmod(0o755)
    done = subprocess.run(
        ["sh", "scripts/setup.sh", "run"],
        cwd=ROOT,
        env={"PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "needs Python 3.11" in done.stderr
    assert (version or "apt install python3") in done.stderr


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("  [12/180] /usr/bin/c++ -O3 -c /x/ggml-quants.c -o y.o\n", "[12/180] ggml-quants.c"),
        ("[ 45%] Building CXX object src/llama.cpp.o\n", "[ 45%] llama.cpp"),
        ("Downloading https://a.b/c/llama_cpp_python-0.3.36.tar.gz (76.6 MB)", None),
        ("warning: unused variable\n", ""),
    ],
)
def test_of_a_builds_output_the_progress_is_shown(
    setup: ModuleType, line: str, shown: str | None
) -> None:
    if shown is None:
        assert setup.interesting(line) == "Downloading llama_cpp_python-0.3.36.tar.gz (76.6 MB)"
    else:
        assert setup.interesting(line) == shown


def test_the_kept_build_belongs_to_machine_options_and_requirement(
    setup: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = setup.machine_key()
    assert setup.machine_key() == plain
    monkeypatch.setenv("CMAKE_ARGS", "-DGGML_BLAS=ON")
    assert setup.machine_key() != plain
    assert "-DLLAVA_BUILD=OFF" in setup.cmake_args()
    monkeypatch.delenv("CMAKE_ARGS")
    monkeypatch.setattr(setup, "requirement", lambda: "llama-cpp-python>=9")
    assert setup.machine_key() != plain


def fake_pip(setup: ModuleType, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """Let the build run ``script`` with the wheel's folder as its argument."""
    real = setup.watch

    def watch(label: str, command: list[str], log: Path, env: dict[str, str]) -> None:
        folder = next(x for x in command if x.startswith("--wheel-dir=")).split("=", 1)[1]
        real(label, [sys.executable, "-c", script, folder], log, env)

    monkeypatch.setattr(setup, "watch", watch)


BUILD = (
    "import sys, pathlib; "
    "pathlib.Path(sys.argv[1], 'llama_cpp_python-0.3.99-py3-none-any.whl').write_bytes(b'whole')"
)


def test_a_build_is_kept_and_used_by_the_next_clone(
    setup: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_pip(setup, monkeypatch, BUILD)
    wheel = setup.build_wheel()
    assert wheel == setup.kept_wheel()
    fake_pip(setup, monkeypatch, "raise SystemExit('built twice')")
    assert setup.build_wheel() == wheel


def test_a_failed_build_leaves_no_wheel_and_says_what_to_do(
    setup: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fake_pip(setup, monkeypatch, f"{BUILD}; raise SystemExit('c++: fatal error: Killed signal')")
    with pytest.raises(setup.SetupFailed, match="CMAKE_BUILD_PARALLEL_LEVEL=1"):
        setup.build_wheel()
    assert setup.kept_wheel() is None
    assert not list(setup.wheel_folder().glob("building-*"))
    assert "Killed signal" in capsys.readouterr().err


def test_an_interrupted_build_leaves_no_wheel_and_no_compiler(
    setup: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    born = tmp_path / "born"
    fake_pip(
        setup,
        monkeypatch,
        "import os, pathlib, subprocess, sys, time; "
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)']); "
        f"pathlib.Path({str(born)!r}).write_text(f'{{os.getpid()}} {{child.pid}}'); "
        "time.sleep(600)",
    )

    def press() -> None:
        while not (born.exists() and born.read_text()):
            pause.wait(0.01)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    pause = threading.Event()
    threading.Thread(target=press, daemon=True).start()
    with pytest.raises(KeyboardInterrupt):
        setup.build_wheel()
    assert setup.kept_wheel() is None
    assert not list(setup.wheel_folder().glob("building-*"))
    for process in map(int, born.read_text().split()):
        for _ in range(1000):  # the kernel takes a moment to end what was killed
            if _gone(process):
                break
            pause.wait(0.01)
        assert _gone(process), f"process {process} still runs"


def _gone(process: int) -> bool:
    """Whether a process ended; a zombie that its new parent has not reaped yet did."""
    try:
        state = Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return True
    return state in {"Z", "X"}


def test_a_full_disk_is_said_before_the_compile(
    setup: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(setup, "BUILD_FREE_BYTES", 10**18)
    with pytest.raises(setup.SetupFailed, match="disk"):
        setup.build_wheel()


def test_make_without_a_target_explains_itself_and_builds_nothing(tmp_path: Path) -> None:
    done = subprocess.run(
        ["make", "-C", str(ROOT)],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        env={**os.environ, "XDG_CACHE_HOME": str(tmp_path)},
    )
    for target in ("demo", "test", "lint", "bench", "clean"):
        assert f"make {target}" in done.stdout
    assert not list(tmp_path.iterdir())
