"""From an inventory to a running mesh: look, plan, certify, send, switch, watch, go back.

Machines are looked at and sent to side by side, and switched one after the other: the first that
does not get well is put back to what it ran, and the rest is left as it is.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import msgspec

from agents.boards.deploy.inventory import Host, Inventory
from agents.boards.deploy.keys import Grant, Public
from agents.boards.deploy.planning import (
    IMPOSSIBLE,
    UNCHANGED,
    House,
    Step,
    Wanted,
    back_to,
    certificate_is_right,
    plan_host,
)
from agents.boards.deploy.release import Blob, Release, gather, make_release, render, secrets_of
from agents.boards.deploy.ssh import DeployError, Ssh, hide
from agents.boards.deploy.wheels import UNPACKED, Wheelhouse, read_wheelhouse
from agents.faces.meshes import DEFAULT_PUBLISH
from mesh.core.errors import ConfigError
from mesh.core.identity import fingerprint
from mesh.core.invitations import Issued
from mesh.core.issuing import DAY_S
from mesh.net.issuer import issued_to, note_issued
from mesh.net.statedir import (
    AUTHORITY_FILE,
    create_authority,
    open_authority,
    read_private,
    seed_text,
    write_private,
)

AT_ONCE = 8  # connections side by side: the owner's uplink is the limit
VALID_S = 365 * DAY_S
KEY_FILE = "deploy.key"  # names the files of secrets, so that their names tell nothing
UNKNOWN_KEY = bytes(32)
INSTALL_S = 3600.0  # of some sixty wheels onto the slowest board's card

Say = Callable[[str, str], None]
T = TypeVar("T")


class Done(msgspec.Struct, frozen=True, kw_only=True):
    """How one host came out: done, unchanged, rolled back, failed or left."""

    host: str
    outcome: str
    release: str = ""
    why: str = ""
    log: str = ""


class Deployment:
    """One inventory and the connections to its hosts. ``say`` is told (host, what happens)."""

    def __init__(
        self, inventory: Inventory, ssh: Ssh, say: Say, hosts: Sequence[Host] = ()
    ) -> None:
        self.inventory = inventory
        self.hosts = tuple(hosts) or inventory.hosts
        self._ssh = ssh
        self._owner = inventory.path(inventory.mesh.owner)
        self._houses = self._read_houses()
        ssh.environments = {name: house.name for name, house in self._houses.items()}
        self._blobs = {h.name: gather(inventory, h, self._key(make=False)) for h in self.hosts}
        secrets = {text for blobs in self._blobs.values() for text in secrets_of(blobs)}
        self._secrets = tuple(sorted(secrets, key=len, reverse=True))
        self._say: Say = lambda host, what: say(host, hide(what, self._secrets))

    # -- looking ----------------------------------------------------------------------------

    def plan(self) -> list[Step]:
        """What applying would do; changes nothing anywhere."""
        seen = self._look()
        public = {name: facts["public"] for name, facts in seen.items()}
        for host in self.inventory.seeds():
            if host.name not in public:
                public[host.name] = self._facts(host)["public"]
        steps = []
        for host in self.hosts:
            release = self._release(host, public)
            steps.append(plan_host(seen[host.name], self._wanted(host, release), time.time()))
        return steps

    def status(self) -> list[dict[str, Any]]:
        """What each host runs, by its own word; a host that is not reached is told as such."""

        def look(host: Host) -> dict[str, Any]:
            try:
                found = self._ssh.ask(host, "status", secrets=self._secrets)
            except DeployError as error:
                return {"host": host.name, "reached": False, "why": error.message}
            agent = found.pop("agent")
            keys = ("ready", "uptime_s", "version", "troubles")
            return {
                "host": host.name,
                "reached": True,
                **found,
                "agent": {key: agent[key] for key in keys if key in agent},
            }

        return self._side_by_side(look, self.hosts)

    # -- changing ---------------------------------------------------------------------------

    def apply(self, *, wait_s: float) -> list[Done]:
        """Bring every host to what the inventory says; stops at the first that does not get
        well within ``wait_s``."""
        seen = self._look()
        for host in self.hosts:  # before anything is made anywhere
            step = plan_host(seen[host.name], self._wanted(host, None), time.time())
            if step.action == IMPOSSIBLE:
                raise DeployError(f"{step.host}: {step.why}")
        self._key(make=True)
        self._side_by_side(lambda host: self._make_environment(host, seen[host.name]), self.hosts)
        self._blobs = {h.name: gather(self.inventory, h, self._key(make=True)) for h in self.hosts}
        public = self._certify(seen)
        releases = {}
        for host in self.hosts:
            release = self._release(host, public)
            assert release is not None
            releases[host.name] = release
        steps = {
            host.name: plan_host(
                {**seen[host.name], "public": public[host.name]},
                self._wanted(host, releases[host.name]),
                time.time(),
            )
            for host in self.hosts
        }
        for step in steps.values():
            if step.action == IMPOSSIBLE:
                raise DeployError(f"{step.host}: {step.why}")
        moved = {name for name, facts in seen.items() if facts.get("certified")}
        changing = [h for h in self.hosts if steps[h.name].action != UNCHANGED or h.name in moved]
        self._side_by_side(lambda h: self._send(h, releases[h.name], steps[h.name]), changing)
        done: list[Done] = []
        for host in self.hosts:
            if host not in changing:
                name = releases[host.name].name
                done.append(Done(host=host.name, outcome="unchanged", release=name))
            elif any(d.outcome in {"rolled back", "failed"} for d in done):
                done.append(Done(host=host.name, outcome="left", why="an earlier host failed"))
            else:
                done.append(self._switch(host, releases[host.name], seen[host.name], wait_s))
        return done

    def rollback(self, *, wait_s: float) -> list[Done]:
        """Every chosen host to the release before the present one."""
        seen = self._look()
        done = []
        for host in self.hosts:
            facts = seen[host.name]
            target = back_to(facts["history"], facts["current"])
            if not target:
                done.append(
                    Done(host=host.name, outcome="failed", why="there is no release before this")
                )
                continue
            self._say(host.name, f"back to {target}")
            self._ssh.ask(host, "switch", release=target, secrets=self._secrets)
            found = self._health(host, wait_s)
            done.append(
                Done(
                    host=host.name,
                    outcome="done" if found["healthy"] else "failed",
                    release=target,
                    why=found.get("why", ""),
                    log=found.get("log", ""),
                )
            )
        return done

    def remove(self) -> list[Done]:
        """Stop and remove what was deployed; each node keeps its keys."""

        def take(host: Host) -> Done:
            self._ssh.ask(host, "remove", secrets=self._secrets)
            return Done(host=host.name, outcome="done", why="removed; its keys are kept")

        return self._side_by_side(take, self.hosts)

    # -- parts ------------------------------------------------------------------------------

    def _side_by_side(self, work: Callable[[Host], T], hosts: Iterable[Host]) -> list[T]:
        with ThreadPoolExecutor(AT_ONCE) as pool:
            return list(pool.map(work, hosts))

    def _read_houses(self) -> dict[str, Wheelhouse]:
        read: dict[tuple[str, str], Wheelhouse] = {}
        found = {}
        for host in self.hosts:
            if not host.wheelhouse:
                continue
            key = (host.wheelhouse, host.base)
            if key not in read:
                read[key] = read_wheelhouse(self.inventory.path(host.wheelhouse), host.base)
            found[host.name] = read[key]
        return found

    def _make_environment(self, host: Host, seen: dict[str, Any]) -> None:
        """Install Gossamer and its libraries beside what is there, where that was not done."""
        house = self._houses.get(host.name)
        if house is None or house.name in seen["environments"]:
            return
        lacking = [blob for blob in house.blobs if blob.name not in seen["blobs"]]
        if lacking:
            size = sum(blob.size for blob in lacking)
            self._say(host.name, f"sending {len(lacking)} wheels ({size / 1e6:.0f} MB)")
        for blob in lacking:
            self._put(host, blob, quiet=True)
        self._say(host.name, f"installing Gossamer {house.version} and its libraries")
        self._ssh.ask(
            host,
            "environment",
            wheels=[{"path": blob.path, "blob": blob.name} for blob in house.blobs],
            gossamer=house.gossamer,
            requirements=house.requirements,
            imports=house.imports,
            timeout_s=INSTALL_S,
            secrets=self._secrets,
        )
        seen["environments"].append(house.name)
        seen["installed"] = house.version

    def _wheels(self, host: Host) -> list[str]:
        house = self._houses.get(host.name)
        return [blob.name for blob in house.blobs] if house is not None else []

    def _facts(self, host: Host) -> dict[str, Any]:
        blobs = [blob.name for blob in self._blobs.get(host.name, [])] + self._wheels(host)
        found: dict[str, Any] = self._ssh.ask(host, "facts", blobs=blobs, secrets=self._secrets)
        return found

    def _look(self) -> dict[str, dict[str, Any]]:
        found = self._side_by_side(self._facts, self.hosts)
        return {host.name: facts for host, facts in zip(self.hosts, found, strict=True)}

    def _key(self, *, make: bool) -> bytes:
        path = self._owner / KEY_FILE
        if path.exists():
            return read_private(path)
        if not make:
            return UNKNOWN_KEY
        self._owner.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_private(path, os.urandom(32))
        return read_private(path)

    def _wanted(self, host: Host, release: Release | None) -> Wanted:
        blobs = release.blobs if release is not None else self._blobs[host.name]
        house = self._houses.get(host.name)
        return Wanted(
            name=host.name,
            groups=host.groups,
            publish=host.publish or DEFAULT_PUBLISH,
            release=release.name if release is not None else "",
            sizes={blob.name: blob.size for blob in blobs},
            brings_gossamer=bool(host.wheel) or house is not None,
            mesh=self.inventory.mesh.name,
            paths={blob.name: blob.path for blob in blobs},
            house=None
            if house is None
            else House(
                name=house.name,
                version=house.version,
                wheels={blob.name: blob.size for blob in house.blobs},
                unpacked_bytes=UNPACKED * house.size,
                machines=house.machines,
                pythons=house.pythons,
            ),
        )

    def _release(self, host: Host, public: Mapping[str, Any]) -> Release | None:
        """The host's release; None while a seed has no keys."""
        seeds = []
        for seed in self.inventory.seeds():
            shown = public.get(seed.name)
            if seed.name == host.name:
                continue
            if shown is None:
                # What is wrong with a configuration is said all the same.
                render(self.inventory, host, [])
                return None
            curve = msgspec.convert(shown, Public, strict=False).curve
            seeds.append(seed_text(f"tcp://{seed.dialled}:{seed.ports[2]}", curve))
        config = render(self.inventory, host, seeds)
        house = self._houses.get(host.name)
        python = f"environment {house.name}" if house is not None else host.python
        return make_release(self.inventory, host, self._blobs[host.name], config, python)

    def _certify(self, seen: dict[str, dict[str, Any]]) -> dict[str, Any]:
        """Keys and right certificates for all; what each node shows of itself by name."""
        if not (self._owner / AUTHORITY_FILE).exists():
            create_authority(self._owner, self.inventory.mesh.name)
            self._say("", f"made the mesh {self.inventory.mesh.name}; its key is in {self._owner}")
        authority, mesh_name = open_authority(self._owner)
        if mesh_name != self.inventory.mesh.name:
            raise ConfigError(f"{self._owner} holds the mesh {mesh_name}, the inventory another")
        others = [h for h in self.inventory.seeds() if h not in self.hosts]
        public: dict[str, Any] = {h.name: self._facts(h)["public"] for h in others}

        def show(host: Host) -> Any:
            wheel = next((b for b in self._blobs[host.name] if b.unpack), None)
            if wheel is not None and wheel.name not in seen[host.name]["blobs"]:
                self._put(host, wheel)
                seen[host.name]["blobs"].append(wheel.name)
            name = wheel.name if wheel is not None else ""
            return self._ssh.ask(host, "keys", wheel=name, secrets=self._secrets)

        shown = self._side_by_side(show, self.hosts)
        for host, mine in zip(self.hosts, shown, strict=True):
            public[host.name] = mine
            wanted = self._wanted(host, None)
            if certificate_is_right(mine, wanted, time.time()):
                continue
            key = msgspec.convert(mine, Public, strict=False).key
            known = issued_to(self._owner, host.name)
            if known and known.node != fingerprint(key) and known.not_after > time.time():
                raise ConfigError(
                    f"the mesh has another node named {host.name}",
                    hint="its keys were made anew? take the old one out: gossamer revoke "
                    f"{host.name} --authority {self._owner}",
                )
            wall = time.time()
            certificate = authority.certify(
                key=key,
                name=host.name,
                groups=host.groups,
                publish=wanted.publish,
                not_before=wall,
                not_after=wall + VALID_S,
                serial=os.urandom(8),
            )
            grant = Grant(mesh_name=mesh_name, authority_key=authority.key, certificate=certificate)
            wheel = next((b for b in self._blobs[host.name] if b.unpack), None)
            self._say(host.name, "certified")
            public[host.name] = self._ssh.ask(
                host,
                "keys",
                wheel=wheel.name if wheel is not None else "",
                accept=msgspec.to_builtins(grant),
                secrets=self._secrets,
            )
            seen[host.name]["certified"] = True
            note_issued(
                self._owner,
                Issued(node=fingerprint(key), name=host.name, not_after=wall + VALID_S),
            )
        return public

    def _put(self, host: Host, blob: Blob, *, quiet: bool = False) -> None:
        if blob.size > 1_000_000 and not quiet:
            self._say(host.name, f"sending {blob.path} ({blob.size / 1e6:.0f} MB)")
        self._ssh.ask(
            host,
            "put",
            blob_name=blob.name,
            size=blob.size,
            sha256=blob.sha256,
            blob=blob,
            secrets=self._secrets,
        )

    def _send(self, host: Host, release: Release, step: Step) -> None:
        have = set(step.fetched)
        sent: set[str] = set()
        for blob in release.blobs:
            if blob.name in have and blob.name not in sent:
                self._put(host, blob)
                sent.add(blob.name)
        self._ssh.ask(
            host, "install", release=release.name, files=release.layout, secrets=self._secrets
        )
        self._say(host.name, f"release {release.name} is there")

    def _health(self, host: Host, wait_s: float) -> dict[str, Any]:
        found: dict[str, Any] = self._ssh.ask(host, "health", wait_s=wait_s, secrets=self._secrets)
        if "log" in found:
            found["log"] = hide(found["log"], self._secrets)
        return found

    def _switch(
        self, host: Host, release: Release, facts: Mapping[str, Any], wait_s: float
    ) -> Done:
        before = facts["current"]
        self._say(host.name, f"starting {release.name}")
        self._ssh.ask(host, "switch", release=release.name, secrets=self._secrets)
        found = self._health(host, wait_s)
        if found["healthy"]:
            blobs = [blob.name for blob in release.blobs] + self._wheels(host)
            self._ssh.ask(host, "clean", blobs=blobs, secrets=self._secrets)
            self._say(host.name, "is well")
            return Done(host=host.name, outcome="done", release=release.name)
        why = hide(str(found["why"]), self._secrets)
        self._say(host.name, f"is not well: {why}")
        if not before or before == release.name:
            return Done(
                host=host.name,
                outcome="failed",
                release=release.name,
                why=why,
                log=found["log"],
            )
        self._say(host.name, f"back to {before}")
        self._ssh.ask(host, "switch", release=before, secrets=self._secrets)
        self._ssh.ask(host, "forget", release=release.name, secrets=self._secrets)
        back = self._health(host, wait_s)
        if not back["healthy"]:
            why += f"; and {before} is not well either: {back['why']}"
        return Done(
            host=host.name,
            outcome="rolled back" if back["healthy"] else "failed",
            release=before,
            why=why,
            log=found["log"],
        )


def healthy(done: Sequence[Done]) -> bool:
    """Whether all hosts are as the inventory says."""
    return all(one.outcome in {"done", "unchanged"} for one in done)
