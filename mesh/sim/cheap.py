"""A signature scheme for simulations: a keyed hash, a hundred times cheaper than Ed25519.

It keeps what protocols rely on (who does not hold the private key cannot have signed, as far
as simulated nodes go) and nothing more: the verifier derives the same hash from the public
key, so it is worthless outside a simulation.
"""

from __future__ import annotations

import hashlib

from mesh.core.identity import ED25519


class CheapScheme:
    """64 bytes of BLAKE2b keyed with the public key."""

    def __init__(self) -> None:
        self._public: dict[bytes, bytes] = {}

    def public(self, private: bytes) -> bytes:
        public = self._public.get(private)
        if public is None:
            public = self._public[private] = ED25519.public(private)
        return public

    def sign(self, private: bytes, message: bytes) -> bytes:
        return hashlib.blake2b(message, key=self.public(private)).digest()

    def verify(self, public: bytes, signature: bytes, message: bytes) -> bool:
        return hashlib.blake2b(message, key=public[:64]).digest() == signature
