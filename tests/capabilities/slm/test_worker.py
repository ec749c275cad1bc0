"""The worker process over its raw socket: bad input, crashes and its end."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

import psutil
import pytest

from capabilities.messages import Generate, Message
from capabilities.slm import protocol
from capabilities.slm.worker import Log, rss_bytes

pytestmark = pytest.mark.usefixtures("no_orphans")
ROOT = Path(__file__).parents[3]
T = TypeVar("T")
PACE = protocol.Paced(token_s=0.005, prompt_token_s=0.0)


class Peer:
    """A worker and the agent's end of its socket."""

    def __init__(self) -> None:
        self.socket, theirs = socket.socketpair()
        self.socket.settimeout(30)
        command = [sys.executable, "-P", "-m", "capabilities.slm.worker"]
        command += ["--fd", str(theirs.fileno()), "--parent", str(os.getpid())]
        self.process = subprocess.Popen(
            command,
            pass_fds=(theirs.fileno(),),
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stderr=subprocess.PIPE,
            text=True,
        )
        theirs.close()
        self._deframer = protocol.Deframer()
        self._pending: list[protocol.AnyReply] = []

    def send(self, *messages: protocol.Command) -> None:
        self.socket.sendall(b"".join(protocol.frame(message) for message in messages))

    def next(self) -> protocol.AnyReply | None:
        """The next reply, None at the end of the socket."""
        while not self._pending:
            data = self.socket.recv(65536)
            if not data:
                return None
            self._pending += [protocol.decode_reply(b) for b in self._deframer.feed(data)]
        return self._pending.pop(0)

    def expect(self, kind: type[T]) -> T:
        reply = self.next()
        assert isinstance(reply, kind), reply
        return reply

    def greet(self, load: protocol.Load) -> None:
        self.send(protocol.Hello(version=protocol.VERSION), load)
        self.expect(protocol.HelloReply)


@pytest.fixture
def peer() -> Iterator[Peer]:
    it = Peer()
    yield it
    it.process.kill()
    it.process.communicate(timeout=10)
    it.socket.close()


def submit(key: int, words: str = "one two three") -> protocol.Submit:
    return protocol.Submit(id=key, request=Generate(messages=[Message("user", words)]))


def test_garbage_between_frames_is_answered_and_survived(peer: Peer) -> None:
    peer.greet(protocol.Load(paced=PACE))
    peer.expect(protocol.Ready)
    for body in (b"", b"\xc1garbage", b"\x92\x01\x02", b"\x81\xa4type\xa5dance"):
        peer.socket.sendall(len(body).to_bytes(4, "big") + body)
        assert peer.expect(protocol.Failed).code in ("malformed", "unsupported")
    peer.send(protocol.Ping(nonce=7))
    assert peer.expect(protocol.Pong).nonce == 7


def test_an_oversize_frame_ends_the_worker_with_a_word(peer: Peer) -> None:
    peer.greet(protocol.Load(paced=PACE))
    peer.expect(protocol.Ready)
    peer.socket.sendall(b"\xff\xff\xff\xff")
    assert peer.expect(protocol.Failed).code == "too_large"
    assert peer.next() is None
    assert peer.process.wait(10) == 4


def test_another_version_is_refused(peer: Peer) -> None:
    peer.send(protocol.Hello(version=99))
    failed = peer.expect(protocol.Failed)
    assert failed.code == "unsupported"
    assert "version 99" in failed.message


def test_the_conversation_must_begin_with_hello(peer: Peer) -> None:
    peer.send(submit(1))
    assert peer.expect(protocol.Failed).code == "malformed"


def test_a_ping_is_answered_while_a_step_lasts(peer: Peer) -> None:
    peer.greet(protocol.Load(paced=protocol.Paced(token_s=60.0, prompt_token_s=0.0)))
    peer.expect(protocol.Ready)
    peer.send(submit(1))
    peer.expect(protocol.Output)  # the first word; the step of the second lasts a minute
    peer.send(protocol.Ping(nonce=1))
    pong = peer.expect(protocol.Pong)
    assert pong.running == 1
    assert pong.rss_bytes > 0
    peer.send(protocol.Shutdown())
    assert peer.next() is None


def test_the_end_of_the_socket_ends_the_worker_in_the_middle_of_a_step(peer: Peer) -> None:
    peer.greet(protocol.Load(paced=protocol.Paced(token_s=60.0, prompt_token_s=0.0)))
    peer.expect(protocol.Ready)
    peer.send(submit(1))
    peer.expect(protocol.Output)
    peer.socket.close()
    assert peer.process.wait(10) == 0


def test_it_dies_with_its_agent(tmp_path: Path) -> None:
    script = tmp_path / "agent.py"
    script.write_text(
        "import asyncio\n"
        "from capabilities.slm.host import ModelHost\n"
        "from capabilities.slm.protocol import Paced\n"
        "async def main():\n"
        "    host = ModelHost('', paced=Paced())\n"
        "    await host.start()\n"
        "    print(host.health().pid, flush=True)\n"
        "    await asyncio.sleep(600)\n"
        "asyncio.run(main())\n"
    )
    agent = subprocess.Popen(
        [sys.executable, str(script)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert agent.stdout is not None
    worker = psutil.Process(int(agent.stdout.readline()))
    os.kill(worker.pid, signal.SIGSTOP)  # it cannot even read the end of its socket
    agent.kill()
    agent.wait(10)
    agent.stdout.close()
    worker.wait(10)
    assert not worker.is_running()


def test_an_interrupt_from_the_terminal_is_left_to_the_agent(peer: Peer) -> None:
    peer.greet(protocol.Load(paced=PACE))
    peer.expect(protocol.Ready)
    peer.process.send_signal(signal.SIGINT)
    peer.send(protocol.Ping(nonce=1))
    peer.expect(protocol.Pong)


def test_a_real_model_stays_small(peer: Peer, spoken: Path) -> None:
    peer.greet(protocol.Load(path=str(spoken)))
    ready = peer.expect(protocol.Ready)
    assert ready.rss_bytes < 150 * 1024 * 1024
    peer.send(submit(1))
    events = [*peer.expect(protocol.Output).events]
    while not hasattr(events[-1], "finish"):
        events += peer.expect(protocol.Output).events
    assert events[-1].text == "naïve ok!"
    peer.send(protocol.Ping(nonce=3))
    pong = peer.expect(protocol.Pong)
    assert pong.kept_tokens > 0
    assert pong.threads >= 1


def test_the_log_gives_the_reason_and_not_its_consequence() -> None:
    log = Log(verbose=False)
    log(4, "llama_model_load: error loading model: unknown model architecture: 'x'\n")
    log(4, "llama_model_load_from_file_impl: failed to load model\n")
    assert log.reason() == "unknown model architecture: 'x'"
    assert Log(verbose=False).reason() == ""


def test_memory_is_known() -> None:
    assert rss_bytes() > 1024 * 1024
