"""Chance that outsiders cannot foresee, without asking the operating system for it.

A core may not read the system's randomness (law 1), yet its nonces must not be guessed. So a
node draws from a keyed hash of its own secret, its boot and a counter: repeatable for whoever
has the secret, noise for everybody else.
"""

from __future__ import annotations

import hashlib
import random


class SecretRandom(random.Random):
    """``random.Random`` over BLAKE2b in counter mode."""

    def __init__(self, secret: bytes, boot: int) -> None:
        self._key = hashlib.blake2b(secret, person=b"gossamer-chance").digest()
        self._prefix = boot.to_bytes(8)
        self._counter = 0
        super().__init__(0)  # the base's own generator is never drawn from

    def getrandbits(self, k: int, /) -> int:
        """``k`` bits."""
        out = b""
        while len(out) * 8 < k:
            self._counter += 1
            block = self._prefix + self._counter.to_bytes(8)
            out += hashlib.blake2b(block, key=self._key).digest()
        return int.from_bytes(out) >> (len(out) * 8 - k) if k else 0

    def random(self) -> float:
        """A float in [0, 1) with 53 bits, as the base class has it."""
        return self.getrandbits(53) / (1 << 53)
