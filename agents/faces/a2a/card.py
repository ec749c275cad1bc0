"""The agent card: what the mesh can do, where, and signed by the node's own key.

The signature is a JWS (RFC 7515) with a detached payload: the card without its signatures, as
canonical JSON (RFC 8785). The key's id is the node's: the SHA-256 of the public key, cut short,
so that who knows the node knows the key. The key stays in the agent (see verbs_card.py).
"""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from typing import Any

from a2a.types import (
    AgentCapabilities,
    AgentCard,
    AgentCardSignature,
    AgentInterface,
    AgentSkill,
    HTTPAuthSecurityScheme,
    SecurityRequirement,
    SecurityScheme,
    StringList,
)
from google.protobuf.json_format import MessageToDict

from agents.library import NameView

RPC_PATH = "/a2a"
CARD_PATH = "/.well-known/agent-card.json"
KEYS_PATH = "/.well-known/jwks.json"
BINDING = "JSONRPC"
VERSIONS = ("1.0", "0.3")  # of the protocol, at the same place
TEXT = "text/plain"
SCHEME = "key"
MAX_SKILLS = 100  # a card is read whole
# What is no conversation: followed, or work between nodes.
WORDLESS = frozenset({"subscribe", "draft", "verify", "segment", "embed"})


def public_card(base: str, node: str, version: str, *, keys: bool) -> AgentCard:
    """What strangers are told: that there is a mesh, and how to ask it. ``base`` is a URL."""
    card = AgentCard(
        name=f"Gossamer at {node}",
        description="A mesh of small language models; it picks who knows, answers and checks.",
        version=version,
        supported_interfaces=[
            AgentInterface(
                url=f"{base}{RPC_PATH}", protocol_binding=BINDING, protocol_version=number
            )
            for number in VERSIONS
        ],
        capabilities=AgentCapabilities(
            # Where no key is needed, the card that everybody gets is the whole one.
            streaming=True,
            push_notifications=False,
            extended_agent_card=keys,
        ),
        default_input_modes=[TEXT],
        default_output_modes=[TEXT],
        skills=[
            AgentSkill(
                id="mesh",
                name="Ask the mesh",
                description="A question in plain words; the mesh decides who answers.",
                tags=["question"],
                examples=["What is 48 * 27?"],
            )
        ],
    )
    if keys:
        card.security_schemes[SCHEME].CopyFrom(
            SecurityScheme(http_auth_security_scheme=HTTPAuthSecurityScheme(scheme="Bearer"))
        )
        card.security_requirements.append(SecurityRequirement(schemes={SCHEME: StringList()}))
    return card


def with_skills(card: AgentCard, names: Sequence[NameView]) -> AgentCard:
    """The card with the names that the mesh offers; their words are those of their nodes."""
    whole = AgentCard()
    whole.CopyFrom(card)
    for name in [name for name in names if name.kind not in WORDLESS][:MAX_SKILLS]:
        root = name.name.partition(".")[0]
        whole.skills.append(
            AgentSkill(
                id=name.name,
                name=name.name,
                description=name.description or name.domain or name.name,
                tags=[tag for tag in (root, name.domain) if tag],
                examples=name.examples,
            )
        )
    return whole


def protected(node: str, base: str) -> str:
    """The protected header: by which key of which set it is signed."""
    header = {"alg": "EdDSA", "typ": "JOSE", "kid": node, "jku": f"{base}{KEYS_PATH}"}
    return _base64(_canonical(header))


def payload(card: AgentCard | dict[str, Any]) -> str:
    """What is signed of a card: its canonical JSON without signatures and empty fields."""
    plain = MessageToDict(card) if isinstance(card, AgentCard) else dict(card)
    plain.pop("signatures", None)
    return _base64(_canonical(_without_empty(plain)))


def sign(card: AgentCard, header: str, signature: str) -> None:
    """Put a signature into a card."""
    card.signatures.append(AgentCardSignature(protected=header, signature=signature))


def _canonical(value: Any) -> bytes:
    # RFC 8785 for what a card holds: strings, booleans, lists and objects with ASCII keys.
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return text.encode()


def _without_empty(value: Any) -> Any:
    """Empty strings, lists and objects mean the same as nothing in the protocol's messages."""
    if isinstance(value, dict):
        inner = {key: _without_empty(item) for key, item in value.items()}
        return {key: item for key, item in inner.items() if item is not None} or None
    if isinstance(value, list):
        return [item for item in map(_without_empty, value) if item is not None] or None
    return None if value == "" else value


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
