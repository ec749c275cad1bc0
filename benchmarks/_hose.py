"""A connection that stops before the end of what is said over it."""

from __future__ import annotations

import contextlib
import socket
import threading


class Hose:
    """Passes a connection on until ``most`` bytes went to the server, and then keeps it open.

    A sender's libzmq as well keeps the parts of a message until the last one: so a message
    that has an end becomes one without, as a hostile peer's own code would send it.
    """

    def __init__(self, address: str, most: int) -> None:
        host, _, port = address.removeprefix("tcp://").rpartition(":")
        self.place, self.most = (host, int(port)), most
        self.server = socket.create_server(("127.0.0.1", 0))
        self.address = f"tcp://127.0.0.1:{self.server.getsockname()[1]}"
        self.open = [self.server]
        self.cut = False
        threading.Thread(target=self.run, daemon=True).start()

    def run(self) -> None:
        client, _ = self.server.accept()
        server = socket.create_connection(self.place)
        self.open += [client, server]
        threading.Thread(target=self.back, args=(server, client), daemon=True).start()
        with contextlib.suppress(OSError):
            while self.most > 0 and (data := client.recv(min(65536, self.most))):
                self.most -= len(data)
                server.sendall(data)

    def back(self, server: socket.socket, client: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := server.recv(65536):
                client.sendall(data)
        self.cut = True

    def close(self) -> None:
        for one in self.open:
            one.close()
