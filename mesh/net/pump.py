"""A ZeroMQ socket on the event loop, without a task per socket.

libzmq signals readiness by an edge-triggered file descriptor: after any send or receive the
EVENTS option must be looked at again, or a message can lie there unseen. Reading by
``add_reader`` with a non-blocking drain is several times faster than awaiting each message.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import zmq

# Messages taken from one socket before others get their turn: a flood on one socket must not
# starve the probes on another.
BURST = 128
READABLE = int(zmq.POLLIN)  # a plain number: the enumeration's "&" costs microseconds
# The longest message of libzmq's own sockets, ZAP's, has 9 parts. Parts beyond the cap are
# dropped as they come: one message can have millions.
MAX_PARTS = 16


class Pump:
    """Calls ``on_message`` with the parts of each message received, at most ``MAX_PARTS``."""

    def __init__(self, socket: zmq.Socket[bytes], on_message: Callable[[list[zmq.Frame]], None]):
        self.socket = socket
        self._on_message = on_message
        self._loop = asyncio.get_running_loop()
        self._fd = int(socket.getsockopt(zmq.FD))
        self._scheduled = False
        self._closed = False
        self._loop.add_reader(self._fd, self._drain)
        self.poke()

    def poke(self) -> None:
        """Look at the socket soon; called after a send."""
        if not self._scheduled and not self._closed:
            self._scheduled = True
            self._loop.call_soon(self._drain)

    def sent(self) -> None:
        """Something was sent: what came in the meantime is no longer told by the descriptor."""
        if not int(self.socket.getsockopt(zmq.EVENTS)) & READABLE:
            return
        self.poke()

    def _receive(self) -> list[zmq.Frame]:
        frame = self.socket.recv(zmq.NOBLOCK, copy=False)
        frames = [frame]
        while frame.more:
            frame = self.socket.recv(copy=False)
            if len(frames) < MAX_PARTS:
                frames.append(frame)
        return frames

    def _drain(self) -> None:
        self._scheduled = False
        for taken in range(BURST):
            if self._closed:
                return
            if taken < 2 and not int(self.socket.getsockopt(zmq.EVENTS)) & READABLE:
                return  # cheaper than an exception, and most of the time nothing more is there
            try:
                frames = self._receive()
            except zmq.Again:
                return
            except zmq.ZMQError as error:
                if error.errno in {zmq.ENOTSOCK, zmq.ETERM}:
                    return
                raise
            self._on_message(frames)
        self.poke()

    def close(self) -> None:
        """Stop reading and close the socket; what is unsent is dropped."""
        if not self._closed:
            self._closed = True
            self._loop.remove_reader(self._fd)
            self.socket.close(linger=0)
