"""``gossamer mcp``: the mesh for clients of the Model Context Protocol."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from types import ModuleType
from typing import Annotated

import typer

from agents.faces.cli.common import State, guarded
from mesh.core.errors import ConfigError

PORT = 8765
KEY_VARIABLE = "GOSSAMER_MCP_KEY"


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command(
        "mcp",
        epilog="Example:  gossamer mcp --http\n\n"
        "Example:  in Claude Desktop's claude_desktop_config.json, and likewise elsewhere:\n\n"
        '{"mcpServers": {"gossamer": {"command": "gossamer", "args": ["mcp"]}}}',
    )(mcp)


def mcp(
    http: Annotated[
        bool, typer.Option("--http", help="Listen for streamable HTTP instead.")
    ] = False,
    host: Annotated[
        str, typer.Option("--host", help="With --http: the address; others need a key.")
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option("--port", min=0, max=65535, help="With --http: 0 is any free one.")
    ] = PORT,
    name: Annotated[
        list[str] | None,
        typer.Option("--name", help="With --http: a further name of this server.", metavar="HOST"),
    ] = None,
    key: Annotated[
        str,
        typer.Option(
            envvar=KEY_VARIABLE, help="With --http: what clients send as bearer token.", hidden=True
        ),
    ] = "",
    key_file: Annotated[
        Path | None,
        typer.Option(
            "--key-file", metavar="FILE", help="With --http: keys, one a line, only yours to read."
        ),
    ] = None,
    certificate: Annotated[
        Path | None, typer.Option("--certificate", metavar="FILE", help="With --http: TLS.")
    ] = None,
    private_key: Annotated[
        Path | None, typer.Option("--private-key", metavar="FILE", help="Of the certificate.")
    ] = None,
    plain: Annotated[
        bool, typer.Option("--plain", help="With --http: no TLS, also where others can listen.")
    ] = False,
    state: State = None,
) -> None:
    """Serve the mesh to a client of the Model Context Protocol, on standard input and output.

    Tools: ask, call, resolve, names, subscribe, status. Resources: status, nodes, names, feeds.
    The agent need not run yet: until it does, each tool says how to start it. With --http the key
    is read from the environment (GOSSAMER_MCP_KEY) or a file.
    """
    with guarded(as_json=False):
        serving = _serving()
        if http:
            from agents.config import HttpSection
            from agents.faces.http.child import settings_of
            from mesh.net.addresses import is_loopback

            if not key and key_file is None and not is_loopback(host):
                raise ConfigError(
                    f"others can reach {host}, and there is no key",
                    hint=f"set {KEY_VARIABLE} or --key-file, or listen on 127.0.0.1",
                )
            if certificate is None and not plain and not is_loopback(host):
                raise ConfigError(
                    f"others can reach {host}, and the words would travel in the clear",
                    hint="give --certificate and --private-key, or say --plain",
                )

            settings = settings_of(
                HttpSection(
                    host=host,
                    port=port,
                    key=key,
                    key_file=key_file,
                    hosts=tuple(name or ()),
                    certificate=certificate,
                    private_key=private_key,
                ),
                state or Path(),
            )

        async def run() -> None:
            from agents.library import Agent

            serving.leave_on_signals(asyncio.current_task())
            async with Agent(state) as agent:
                mesh = serving.MeshServer(agent)
                await (serving.over_http(mesh, settings) if http else serving.over_stdio(mesh))

        with contextlib.suppress(asyncio.CancelledError):
            asyncio.run(run())


def _serving() -> ModuleType:
    try:
        from agents.faces.mcp import serving
    except ImportError as error:
        raise ConfigError(
            f"the MCP SDK is not installed ({error.name})",
            hint="pip install 'gossamer-mesh[mcp]'",
        ) from None
    return serving
