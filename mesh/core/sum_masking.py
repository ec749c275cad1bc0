"""The masks of a secure sum: keys agreed on, seeds stretched, secrets shared, noise added.

All arithmetic on inputs is modulo 2^64, where masks cancel exactly. The primitives are the
cryptography library's (X25519, RFC 7748; HKDF-SHA-256, RFC 5869; ChaCha20 and Poly1305, RFC
8439); Shamir's sharing is the shamirs library's, over the prime field of 2^130 - 5. That
library draws the coefficients of its polynomials from the system itself: the one chance here
that is not handed in, and nothing that is decided depends on it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from mesh.core.identity import RandomBytes
from mesh.core.sum_messages import CELL_BYTES, KEY_BYTES, SEED_BYTES, SHARE_BYTES, SumRefused

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Cells = NDArray[np.uint64]

PRIME = 2**130 - 5  # above 2^128, so that every 16-byte seed is an element
NONCE = bytes(16)  # every key here is used once: it is derived for one round, use and pair


def derive(secret: bytes, use: str, digest: bytes, *parts: bytes) -> bytes:
    """A 32-byte key from ``secret`` for one use in one round (HKDF, RFC 5869)."""
    info = b"gossamer/1 sum " + use.encode() + b"\0" + digest + b"".join(parts)
    return HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=None, info=info).derive(secret)


def commitment(seed: bytes, digest: bytes, node: bytes) -> bytes:
    """16 bytes that bind a node to its own mask's seed before anybody opens it."""
    context = b"gossamer/1 sum commitment\0" + digest + node
    return hashlib.sha256(context + seed).digest()[:SEED_BYTES]


class RoundKey:
    """A key pair for one round, grown from a 16-byte seed so that the seed can be shared."""

    def __init__(self, seed: bytes, use: str, digest: bytes) -> None:
        self._private = X25519PrivateKey.from_private_bytes(derive(seed, use, digest))
        self.public = self._private.public_key().public_bytes_raw()

    def agree(self, public: bytes) -> bytes:
        """The secret shared with the holder of ``public``; raises :class:`SumRefused`."""
        try:
            return self._private.exchange(X25519PublicKey.from_public_bytes(public))
        except ValueError as error:  # a point of small order: the secret would be known to all
            raise SumRefused("a public key in this round is not one: drop its node") from error


def pad(key: bytes, cells: int) -> Cells:
    """``cells`` pseudo-random integers modulo 2^64 from a 32-byte key (ChaCha20 keystream)."""
    import numpy as np

    stream = Cipher(ChaCha20(key, NONCE), mode=None).encryptor().update(bytes(cells * CELL_BYTES))
    return np.frombuffer(stream, dtype="<u8").astype(np.uint64, copy=False)


def seal(shared: bytes, digest: bytes, sender: bytes, receiver: bytes, body: bytes) -> bytes:
    """``body`` for ``receiver`` alone."""
    key = derive(shared, "seal", digest, sender, receiver)
    return ChaCha20Poly1305(key).encrypt(NONCE[:12], body, digest + sender + receiver)


def unseal(
    shared: bytes, digest: bytes, sender: bytes, receiver: bytes, box: bytes
) -> bytes | None:
    """What ``sender`` sealed; None where it does not open, or was sealed for another."""
    key = derive(shared, "seal", digest, sender, receiver)
    try:
        return ChaCha20Poly1305(key).decrypt(NONCE[:12], box, digest + sender + receiver)
    except InvalidTag:
        return None


def split(seed: bytes, nodes: int, threshold: int) -> list[bytes]:
    """One 17-byte share of a 16-byte seed per node; any ``threshold`` of them give it back."""
    import shamirs

    parts = shamirs.shares(
        int.from_bytes(seed, "little"), nodes, modulus=PRIME, threshold=threshold
    )
    return [part.value.to_bytes(SHARE_BYTES, "little") for part in parts]


def combine(shares: Sequence[tuple[int, bytes]], threshold: int) -> bytes | None:
    """The seed behind ``threshold`` or more shares ``(place, share)``; None if they fit none.

    ``place`` counts from 0 as :func:`split` returned them. Costs some milliseconds: inversions
    in the field, in Python.
    """
    import shamirs

    values = [(place + 1, int.from_bytes(share, "little")) for place, share in shares]
    if len(values) < threshold or any(value >= PRIME for _, value in values):
        return None
    points = [shamirs.share(place, value, PRIME) for place, value in values[:threshold]]
    number = int(shamirs.interpolate(points, threshold=threshold))
    return number.to_bytes(SEED_BYTES, "little") if number < 1 << (8 * SEED_BYTES) else None


def noise(std: float, nodes: int, fraction_bits: int, cells: int, random: RandomBytes) -> Cells:
    """One node's share of noise: integers whose sum over ``nodes`` has ``std`` (value units).

    Skellam noise, the difference of two Poisson draws: whole numbers whose sums are Skellam
    again, so that the shares of many nodes add up to exactly the noise that was asked for
    (Agarwal, Kairouz and Liu 2021, "The Skellam mechanism for differentially private federated
    learning", section 3). It hides one node's part in the result; what privacy it buys depends
    on the data, and is not accounted for here.
    """
    import numpy as np

    rate = (std * 2.0**fraction_bits) ** 2 / (2.0 * nodes)
    generator = np.random.default_rng(int.from_bytes(random(32), "little"))
    drawn = generator.poisson(rate, cells) - generator.poisson(rate, cells)
    return drawn.astype(np.int64).view(np.uint64)
