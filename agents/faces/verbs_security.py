"""Verbs about who belongs to the mesh and who may do what."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from agents.faces import access
from agents.faces.control import Handler, unary
from agents.faces.meshes import DEFAULT_PUBLISH
from mesh.core.errors import ConfigError, IdentityError
from mesh.core.identity import show_id
from mesh.core.issuing import Desk
from mesh.core.names import covers
from mesh.core.revocation import read_revocation
from mesh.net.addresses import is_loopback

if TYPE_CHECKING:
    from agents.agent import Agent

ID_CHARS = 8  # of an invitation's hash, as people see it


class SecurityVerbs:
    """The verbs of one agent about admission and access."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent

    def handlers(self) -> Mapping[str, Handler]:
        """Verb to handler, for the control server."""
        return {
            "invite": unary(self._invite),
            "invitations": unary(self._invitations),
            "revoke": unary(self._revoke),
            "spread_revocation": unary(self._spread_revocation),
            "revocations": unary(self._revocations),
            "access_check": unary(self._access_check),
            "access_reload": unary(self._access_reload),
            "secure_sum": unary(self._secure_sum),
            "web_check": unary(self._web_check),
        }

    async def _invite(self, args: dict[str, Any]) -> dict[str, Any]:
        node = self._agent.node
        desk = node.standing.require_desk()
        publish = _texts(args, "publish") or usual_rights(desk)
        token, expires = await node.standing.invite(
            groups=_texts(args, "groups"),
            publish=publish,
            name=str(args.get("name") or ""),
            valid_s=min(_number(args, "valid_s", 0.0), desk.issuer.max_validity_s),
            renews=bool(args.get("renews", True)),
            uses=int(_number(args, "uses", 1)),
            life_s=_number(args, "expires_s", 3600.0),
        )
        host = node.endpoints.admission.removeprefix("tcp://").rpartition(":")[0]
        return {
            "token": token,
            "expires": expires,
            "publish": list(publish),
            "issuer": node.me.name,
            "local": is_loopback(host),
        }

    async def _secure_sum(self, args: dict[str, Any]) -> dict[str, Any]:
        from agents.sums import run_sum  # it brings numpy

        if not _texts(args, "of"):
            raise ConfigError("a sum needs to know of what", hint='of = ["load_per_core"], say')
        return await run_sum(
            self._agent.node,
            self._agent.port,
            str(args.get("domain") or ""),
            _texts(args, "of"),
            kind=str(args.get("kind") or "mean"),
            edges=_numbers(args, "edges"),
            dropouts=_number(args, "dropouts", 1 / 3),
            bound=_number(args, "bound", 1e6),
            noise_std=_number(args, "noise", 0.0),
            timeout_s=_number(args, "timeout_s", 30.0),
        )

    async def _invitations(self, args: dict[str, Any]) -> list[dict[str, Any]]:
        node = self._agent.node
        desk, wall = node.standing.require_desk(), node.now().wall
        desk.book.sweep(wall)
        unwanted = str(args.get("withdraw") or "")
        if unwanted:
            found = [key for key in desk.book.invitations if key.startswith(unwanted)]
            if len(found) != 1:
                raise ConfigError(
                    f"{len(found)} open invitations begin with {unwanted!r}",
                    hint="gossamer invite --list shows them",
                )
            del desk.book.invitations[found[0]]
            await node.standing.keep_book()
        return [
            {
                "id": key[:ID_CHARS],
                "name": one.name,
                "groups": list(one.groups),
                "publish": list(one.publish),
                "uses_left": one.uses_left,
                "left_s": round(one.expires - wall),
                "used_by": sorted(one.used_by.values()),
            }
            for key, one in desk.book.invitations.items()
        ]

    async def _revoke(self, args: dict[str, Any]) -> dict[str, Any]:
        return await self._agent.node.standing.revoke(
            str(args.get("node") or ""), str(args.get("reason") or "")
        )

    async def _spread_revocation(self, args: dict[str, Any]) -> dict[str, Any]:
        revocation = read_revocation(str(args.get("statement") or ""))
        return await self._agent.node.standing.spread(revocation)

    async def _revocations(self, args: dict[str, Any]) -> list[dict[str, Any]]:
        return [
            {
                "node": show_id(body.node),
                "name": body.name,
                "reason": body.reason,
                "issued": body.issued,
                "until": body.until,
                "by": show_id(body.signer)[:ID_CHARS],
            }
            for body in self._agent.node.core.revocations.bodies()
        ]

    async def _web_check(self, args: dict[str, Any]) -> dict[str, Any]:
        """Which node of the mesh a TLS certificate (base64 of its DER) is of."""
        from agents.faces.http.tls import check_voucher, fingerprint_of, voucher_in

        try:
            der = base64.b64decode(str(args.get("certificate") or ""), validate=True)
        except ValueError as error:
            raise ConfigError("a certificate is sent as base64") from error
        node = self._agent.node
        member = node.core.member(voucher_in(der)[0].node)
        if member is None:
            raise IdentityError("the certificate names a node that is no member of this mesh")
        check_voucher(der, member.key, node.trust)
        return {
            "name": member.name,
            "node": show_id(member.node),
            "mesh": node.identity.mesh_name,
            "fingerprint": fingerprint_of(der),
        }

    async def _access_check(self, args: dict[str, Any]) -> dict[str, Any]:
        node = self._agent.node
        asker, groups = str(args.get("as") or ""), _texts(args, "groups")
        known = [m for m in node.core.members() if asker in {m.name, show_id(m.node)}]
        if groups:
            member = access.unknown_member(asker, groups)
        elif known:
            member = known[0]
        else:
            raise ConfigError(
                f"{asker[:60]!r} is not known here",
                hint="gossamer peers shows who is; or describe it with --group",
            )
        name, operation = str(args.get("name") or ""), str(args.get("op") or "query")
        return access.explain(node.policy, node.me, member, name, operation)

    async def _access_reload(self, args: dict[str, Any]) -> dict[str, Any]:
        node = self._agent.node
        policy = access.policy_of(list(args.get("rules") or []))
        before = node.calls.counters["ended_no_longer_allowed"]
        node.policy = policy
        ended = node.calls.counters["ended_no_longer_allowed"] - before
        return {"rules": len(policy.rules), "ended": ended}


def usual_rights(desk: Desk) -> tuple[str, ...]:
    """What a newcomer may offer when nobody says: every answer, no data, no cloud, as far
    as the issuer may grant it."""
    limits = desk.issuer.publish
    return tuple(p for p in DEFAULT_PUBLISH if any(covers(limit, p) for limit in limits)) or limits


def _texts(args: dict[str, Any], key: str) -> tuple[str, ...]:
    value = args.get(key) or []
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise ConfigError(f"{key!r} is a list of texts")
    return tuple(value)


def _numbers(args: dict[str, Any], key: str) -> tuple[float, ...]:
    value = args.get(key) or []
    if not isinstance(value, list):
        raise ConfigError(f"{key!r} is a list of numbers")
    return tuple(_number({key: one}, key, 0.0) for one in value)


def _number(args: dict[str, Any], key: str, default: float) -> float:
    value = args.get(key)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ConfigError(f"{key!r} is a number")
    return float(value)
