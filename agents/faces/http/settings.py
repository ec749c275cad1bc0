"""What the agent hands to its HTTP process, through a pipe: no key stands in a command line."""

from __future__ import annotations

import hmac

import msgspec

LOOPBACK_NAMES = ("localhost", "127.0.0.1", "[::1]")


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """How the HTTP process listens, and whom it serves."""

    state: str
    host: str = "127.0.0.1"
    port: int = 0
    keys: list[str] = []
    hosts: list[str] = []
    origins: list[str] = []
    max_requests: int = 256
    max_body_bytes: int = 240 * 1024
    certificate: str = ""
    private_key: str = ""
    shown: str = ""  # the address to tell people, where ``host`` means every address
    page: bool = True  # whether the web page may be shown: on loopback, and over TLS
    log_level: str = "WARNING"
    log_format: str = "text"

    def known(self, key: str) -> bool:
        """Whether a client's key is one of ours; takes the same time for each."""
        given = key.encode(errors="replace")
        return sum(hmac.compare_digest(given, one.encode()) for one in self.keys) > 0
