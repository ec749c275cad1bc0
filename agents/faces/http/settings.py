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
    admin_keys: list[str] = []  # whose holders may also administer; empty: nobody may, here
    hosts: list[str] = []
    origins: list[str] = []
    max_requests: int = 256
    max_body_bytes: int = 240 * 1024
    certificate: str = ""
    private_key: str = ""
    shown: str = ""  # the address to tell people, where ``host`` means every address
    page: bool = True  # whether the web page may be shown: on loopback, and over TLS
    mcp: bool = False  # whether the Model Context Protocol is served at /mcp
    log_level: str = "WARNING"
    log_format: str = "text"

    def known(self, key: str) -> bool:
        """Whether a client's key is one of ours; takes the same time for each."""
        return _among(key, [*self.keys, *self.admin_keys])

    def administers(self, key: str) -> bool:
        """Whether its holder may also drain and resume nodes."""
        return _among(key, self.admin_keys)


def _among(key: str, keys: list[str]) -> bool:
    given = key.encode(errors="replace")
    return sum(hmac.compare_digest(given, one.encode()) for one in keys) > 0
