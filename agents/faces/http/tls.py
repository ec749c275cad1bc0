"""The TLS certificate of an agent that listens for others, vouched for by its mesh identity.

Browsers know neither the mesh's authority nor its kind of keys (Ed25519), so the certificate that
they see is of a key of its own (P-256). The node signs that key with the identity that the mesh's
authority certified, and the signature stands in the certificate: any member can check it
(``gossamer web --check URL``), and people compare the fingerprint that the agent shows.
"""

from __future__ import annotations

import datetime
import hashlib
import ipaddress
import os
import socket
from collections.abc import Iterable
from pathlib import Path

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from mesh.core.errors import ConfigError, IdentityError
from mesh.core.identity import LocalIdentity, Trust
from mesh.core.signing import Purpose, Signed, read_signed

CERTIFICATE_FILE = "http-cert.pem"
KEY_FILE = "http-key.pem"
LIFE_S = 365 * 86400.0  # a new one means that every phone has to be told once more
RENEW_S = 30 * 86400.0
EARLY_S = 3600.0  # clocks of phones may be behind
# Of the extension that holds the node's signature: ISO's arc for UUIDs (X.667), with one of ours.
VOUCHER = x509.ObjectIdentifier("2.25.221353812254045547252860388243167532291")


class TlsKey(msgspec.Struct, frozen=True, array_like=True):
    """What the node signs: that this key (SHA-256 of its SubjectPublicKeyInfo) speaks for it."""

    node: bytes
    spki: bytes


class OwnCertificate(msgspec.Struct, frozen=True):
    """Files of a certificate and its key, and the fingerprint as browsers show it."""

    certificate: Path
    private_key: Path
    fingerprint: str


def own_certificate(
    state: Path, identity: LocalIdentity, mesh: str, hosts: Iterable[str], wall: float
) -> OwnCertificate:
    """The certificate in ``state``, made or renewed where needed; raises :class:`ConfigError`.

    ``hosts`` are the names and addresses that clients use; ``wall`` is the time in seconds.
    """
    path, key_path = state / CERTIFICATE_FILE, state / KEY_FILE
    wanted = sorted({host.strip("[]").lower() for host in hosts if host})
    try:
        kept = _kept(path, key_path, identity, wanted, wall)
        if kept is None:
            kept = _made(path, key_path, identity, mesh, wanted, wall)
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"the certificate for HTTP cannot be made in {state}: {error}",
            hint=f"is the disk full? or take {KEY_FILE} and {CERTIFICATE_FILE} away",
        ) from error
    return OwnCertificate(path, key_path, fingerprint_of(kept))


def names_of_machine(host: str, facing: str, hosts: Iterable[str]) -> list[str]:
    """What clients may call this machine: loopback, its address, its host name, as configured."""
    own = socket.gethostname().partition(".")[0].lower()
    return ["localhost", "127.0.0.1", facing, host, own, f"{own}.local", *hosts]


def fingerprint_of(certificate: x509.Certificate | bytes) -> str:
    """SHA-256 of a certificate, as browsers show it: AB:CD:..."""
    der = (
        certificate
        if isinstance(certificate, bytes)
        else certificate.public_bytes(serialization.Encoding.DER)
    )
    return hashlib.sha256(der).digest().hex(":").upper()


def voucher_in(der: bytes) -> tuple[TlsKey, Signed]:
    """Which node a certificate says to be of, unchecked; raises :class:`IdentityError`."""
    try:
        extension = x509.load_der_x509_certificate(der).extensions.get_extension_for_oid(VOUCHER)
        value = extension.value
        assert isinstance(value, x509.UnrecognizedExtension)
        signed = msgspec.msgpack.decode(value.value, type=Signed)
    except (ValueError, x509.ExtensionNotFound, msgspec.MsgspecError) as error:
        raise IdentityError(
            "this certificate does not say that it is of a node of a mesh",
            hint="its owner may have given it to the server; compare the fingerprint instead",
        ) from error
    return read_signed(signed, TlsKey, "TLS key"), signed


def check_voucher(der: bytes, key: bytes, trust: Trust) -> None:
    """Whether the node with this identity key signed the certificate's key; raises
    :class:`IdentityError`."""
    said, signed = voucher_in(der)
    shown = _spki(x509.load_der_x509_certificate(der).public_key())
    if said.spki != shown or not trust.verify(key, Purpose.TLS, signed):
        raise IdentityError(
            "the certificate names a node that did not sign it: somebody may be in between"
        )


def _kept(
    path: Path, key_path: Path, identity: LocalIdentity, hosts: list[str], wall: float
) -> x509.Certificate | None:
    """What lies there, if it is of this node, for these hosts, and lasts."""
    if not (path.exists() and key_path.exists()):
        return None
    try:
        found = x509.load_pem_x509_certificate(path.read_bytes())
        said, _ = voucher_in(found.public_bytes(serialization.Encoding.DER))
        names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (ValueError, IdentityError, x509.ExtensionNotFound):
        return None
    shown = {str(name.value).lower() for name in names}
    lasts = found.not_valid_after_utc.timestamp() - wall > RENEW_S
    return found if said.node == identity.node and lasts and shown >= set(hosts) else None


def _made(
    path: Path, key_path: Path, identity: LocalIdentity, mesh: str, hosts: list[str], wall: float
) -> x509.Certificate:
    private = ec.generate_private_key(ec.SECP256R1())
    spki = _spki(private.public_key())
    voucher = identity.sign(Purpose.TLS, TlsKey(identity.node, spki))
    name = x509.Name(
        [
            x509.NameAttribute(NameOID.COMMON_NAME, identity.name[:64]),
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, f"Gossamer mesh {mesh}"[:64]),
        ]
    )
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(private.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(_at(wall - EARLY_S))
        .not_valid_after(_at(wall + LIFE_S))
        .add_extension(x509.SubjectAlternativeName([_name(host) for host in hosts]), False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False)
        .add_extension(x509.UnrecognizedExtension(VOUCHER, msgspec.msgpack.encode(voucher)), False)
        .sign(private, hashes.SHA256())
    )
    _write(
        key_path,
        private.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ),
    )
    _write(path, made.public_bytes(serialization.Encoding.PEM))
    return made


def _at(wall: float) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(wall, datetime.UTC)


def _name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _spki(key: object) -> bytes:
    assert isinstance(key, ec.EllipticCurvePublicKey)
    return hashlib.sha256(
        key.public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    ).digest()


def _write(path: Path, data: bytes) -> None:
    """Replace the file by one that only its owner reads; a crash leaves the old or the new."""
    new = path.with_suffix(".new")
    new.unlink(missing_ok=True)
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as out:
        out.write(data)
    new.replace(path)
