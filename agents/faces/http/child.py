"""The agent's side of its HTTP process: started, watched, started again, ended.

A process of its own, since parsing what strangers send and writing a line per token would share
the event loop that answers probes; the agent's memory stays as it was without it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import msgspec

from agents.config import HttpSection
from agents.faces.http.settings import Settings
from mesh.core.errors import ConfigError
from mesh.net.addresses import facing_address, is_loopback, is_wildcard

if TYPE_CHECKING:
    from agents.faces.http.tls import OwnCertificate
    from mesh.net.node import MeshNode

log = logging.getLogger("gossamer.http")

MIN_KEY_CHARS = 16  # a shorter one is guessed over a network
BACKOFF_S = (1.0, 2.0, 5.0, 15.0, 60.0)
STEADY_S = 60.0  # a process that ran for so long begins with the first pause again
STOP_S = 3.0  # to end its answers after its input was closed


class HttpDoor:
    """The HTTP process of one agent. ``url`` is empty until it listens, ``trouble`` until it
    cannot."""

    def __init__(
        self,
        state: Path,
        section: HttpSection,
        *,
        level: str = "WARNING",
        form: str = "text",
        own: OwnCertificate | None = None,
    ) -> None:
        settings = settings_of(section, state, own)
        self.fingerprint = own.fingerprint if own is not None else ""
        self.listening = asyncio.Event()  # since the agent began
        self._settings = msgspec.structs.replace(settings, log_level=level, log_format=form)
        self._task: asyncio.Task[None] | None = None
        self._process: asyncio.subprocess.Process | None = None
        self.url = ""
        self.trouble = ""
        self.starts = 0

    @property
    def pid(self) -> int:
        """Of the process, 0 while there is none."""
        return self._process.pid if self._process is not None else 0

    async def start(self) -> None:
        """Begin; the process comes up behind it, so that the agent need not wait."""
        self._task = asyncio.create_task(self._keep(), name="http-door")

    async def stop(self) -> None:
        """End the process and wait for it; harmless when repeated."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        self.url = ""

    async def _keep(self) -> None:
        failures = 0
        while True:
            began = time.monotonic()
            await self._run(self._settings)
            failures = 1 if time.monotonic() - began > STEADY_S else failures + 1
            pause_s = BACKOFF_S[min(failures, len(BACKOFF_S)) - 1]
            log.error("%s; it is started again in %g s", self.trouble, pause_s)
            await asyncio.sleep(pause_s)

    async def _run(self, settings: Settings) -> None:
        """One life of the process."""
        self.starts += 1
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "agents.faces.http",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            start_new_session=True,  # Ctrl-C reaches the agent, which ends it in order
        )
        self._process = process
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(msgspec.json.encode(settings) + b"\n")
            self.trouble = ""
            async for line in process.stdout:
                self._hear(line)
            status = await process.wait()
            self.trouble = self.trouble or f"the HTTP process ended with status {status}"
        finally:
            self.url = ""
            await asyncio.shield(_end(process))
            self._process = None

    def _hear(self, line: bytes) -> None:
        try:
            said = msgspec.json.decode(line, type=dict[str, str])
        except msgspec.MsgspecError:
            return  # something printed; nothing that concerns the agent
        if "listening" in said:
            self.url = said["listening"]
            # Started again it is found where it was, also where any port would have done.
            port = urlsplit(self.url).port or 0
            self._settings = msgspec.structs.replace(self._settings, port=port)
            self.listening.set()
            log.info("HTTP listens at %s", self.url)
        elif "error" in said:
            self.trouble = said["error"]


async def _end(process: asyncio.subprocess.Process) -> None:
    """Closing its input asks it to leave; one that does not is killed."""
    if process.stdin is not None:
        process.stdin.close()
    try:
        async with asyncio.timeout(STOP_S):
            await process.wait()
    except TimeoutError:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


def needs_certificate(section: HttpSection) -> bool:
    """Whether the agent has to make a certificate: others can reach it, and none was given."""
    return section.tls == "auto" and not is_loopback(section.host) and section.certificate is None


async def http_door(
    node: MeshNode, state: Path, section: HttpSection, *, level: str, form: str
) -> HttpDoor:
    """The door of a configuration, with a certificate of the node's own where it needs one."""
    own = None
    if needs_certificate(section):
        settings_of(section, state)  # says what else is wrong before a key is made
        from agents.faces.http.tls import names_of_machine, own_certificate

        facing = shown_address(section.host)
        names = names_of_machine(section.host, facing, section.hosts)
        mesh, wall = node.identity.mesh_name, node.now().wall
        own = await asyncio.to_thread(own_certificate, state, node.core.identity, mesh, names, wall)
    return HttpDoor(state, section, level=level, form=form, own=own)


def shown_address(host: str) -> str:
    """What to tell people to open: the address that faces the network, where all are bound."""
    return facing_address() if is_wildcard(host) or host == "::" else host


def settings_of(section: HttpSection, state: Path, own: OwnCertificate | None = None) -> Settings:
    """The settings of a configuration; raises :class:`ConfigError` for one that is not safe."""
    keys = _keys(section.key, section.key_file, "key")
    admin_keys = _keys(section.admin_key, section.admin_key_file, "admin_key")
    if set(keys) & set(admin_keys):
        raise ConfigError(
            "http.admin_key is one of http.key, so that everybody who may ask could administer",
            hint="make one of its own: python -c 'import secrets; print(secrets.token_urlsafe())'",
        )
    short = [key for key in keys + admin_keys if len(key) < MIN_KEY_CHARS]
    if short:
        field = "http.admin_key" if short[0] in admin_keys else "http.key"
        raise ConfigError(
            f"{field} has {len(short[0])} characters, at least {MIN_KEY_CHARS} are needed",
            hint="make one: python -c 'import secrets; print(secrets.token_urlsafe())'",
        )
    if not keys and not is_loopback(section.host):
        raise ConfigError(
            f"http.host is {section.host}, which others can reach, and there is no key",
            hint="set GOSSAMER_HTTP__KEY or http.key_file, or listen on 127.0.0.1",
        )
    if (section.certificate is None) != (section.private_key is None):
        raise ConfigError("http.certificate and http.private_key belong together")
    certificate = section.certificate or (own.certificate if own is not None else None)
    private_key = section.private_key or (own.private_key if own is not None else None)
    local = is_loopback(section.host)
    return Settings(
        state=str(state),
        shown="" if local else shown_address(section.host),
        page=local or certificate is not None,
        host=section.host,
        port=section.port,
        keys=keys,
        admin_keys=admin_keys,
        mcp=section.mcp,
        hosts=[host.lower() for host in section.hosts],
        origins=list(section.origins),
        max_requests=section.max_requests,
        max_body_bytes=section.max_body_kb * 1024,
        certificate=str(certificate or ""),
        private_key=str(private_key or ""),
    )


def _keys(key: str, file: Path | None, field: str) -> list[str]:
    return ([key] if key else []) + ([] if file is None else _keys_in(file, f"{field}_file"))


def _keys_in(path: Path, field: str) -> list[str]:
    try:
        if path.stat().st_mode & 0o077:
            raise ConfigError(
                f"http.{field} {path} can be read by others", hint=f"chmod 600 {path}"
            )
        keys = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"http.{field} {path} cannot be read: {error}") from error
    found = [key for key in keys if key and not key.startswith("#")]
    if not found:
        raise ConfigError(f"http.{field} {path} holds no key")
    return found
