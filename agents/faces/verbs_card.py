"""The verb that signs an agent card with the node's key, which stays in the agent.

What is signed begins with base64 of ``{"``; what the mesh signs begins with ``gossamer/1`` and a
null byte (mesh/core/signing.py). So no signature made here can pass as one of the mesh's own, and
nothing is signed but a card that names this node's key.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from agents.faces.control import Handler, unary
from mesh.core.errors import ConfigError
from mesh.core.signing import ED25519, show_id

if TYPE_CHECKING:
    from agents.agent import Agent

MAX_CARD_BYTES = 256 * 1024


class _Header(msgspec.Struct, forbid_unknown_fields=True):
    alg: str
    typ: str
    kid: str
    jku: str


class _Card(msgspec.Struct, rename="camel"):
    name: str
    supported_interfaces: list[dict[str, Any]]


class CardVerbs:
    """The verb of one agent."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent

    def handlers(self) -> Mapping[str, Handler]:
        """Verb to handler, for the control server."""
        return {"sign_card": unary(self._sign_card)}

    async def _sign_card(self, args: dict[str, Any]) -> dict[str, Any]:
        """The node's public key; with ``protected`` and ``payload`` a signature as well."""
        node = self._agent.node
        mine = show_id(node.me.node)
        public = ED25519.public(node.keys.signing)
        found: dict[str, Any] = {
            "node": mine,
            "name": node.me.name,
            # RFC 8037
            "key": {
                "kty": "OKP",
                "crv": "Ed25519",
                "alg": "EdDSA",
                "use": "sig",
                "kid": mine,
                "x": _base64(public),
            },
        }
        if args.get("payload"):
            protected, payload = str(args.get("protected", "")), str(args["payload"])
            check_card(protected, payload, mine)
            signed = ED25519.sign(node.keys.signing, f"{protected}.{payload}".encode())
            found["signature"] = _base64(signed)
        return found


def check_card(protected: str, payload: str, node: str) -> None:
    """Raise :class:`ConfigError` unless it is a card under the node's own key."""
    try:
        if len(payload) > MAX_CARD_BYTES:
            raise ConfigError(f"a card of more than {MAX_CARD_BYTES} bytes")
        header = msgspec.json.decode(_bytes(protected), type=_Header)
        msgspec.json.decode(_bytes(payload), type=_Card)
    except (binascii.Error, ValueError, msgspec.MsgspecError) as error:
        raise ConfigError(f"this is no agent card: {error}") from None
    if (header.alg, header.typ, header.kid) != ("EdDSA", "JOSE", node):
        raise ConfigError("a card is signed as EdDSA, JOSE, by the node's own id")


def _bytes(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
