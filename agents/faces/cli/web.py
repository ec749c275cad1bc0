"""``gossamer web``: where this agent's web page is, and by what a browser knows it."""

from __future__ import annotations

import base64
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from agents.faces.cli.common import AsJson, State, fetch, guarded
from agents.faces.show import print_json
from mesh.core.errors import ConfigError, PeerLost

CONNECT_S = 10.0


def register(app: typer.Typer) -> None:
    """Add ``web`` to the command line."""
    app.command(
        "web",
        epilog="Example:  gossamer web --qr\n\n"
        "Example:  gossamer web --check https://192.168.1.7:8080",
    )(web)


def web(
    qr: Annotated[
        bool, typer.Option("--qr", help="The address as a QR code, for a phone.")
    ] = False,
    check: Annotated[
        str,
        typer.Option(
            "--check", metavar="URL", help="Whether the certificate there is of a node of the mesh."
        ),
    ] = "",
    state: State = None,
    as_json: AsJson = False,
) -> None:
    """Show the address of this agent's web page and its certificate's fingerprint."""
    with guarded(as_json):
        found = _checked(state, check) if check else _shown(state)
        if as_json:
            print_json(found)
            return
        from agents.faces.sheets import printable

        if check:
            text = f"{found['url']} is {found['name']} of mesh {found['mesh']}"
        else:
            if qr:
                import segno

                segno.make(found["url"], error="l", micro=False).terminal(
                    out=sys.stdout, compact=True
                )
            text = found["url"]
        sys.stdout.write(f"{printable(text)}\n")
        if found["fingerprint"]:
            sys.stdout.write(f"fingerprint (SHA-256): {printable(found['fingerprint'])}\n")


def _shown(state: Path | None) -> dict[str, Any]:
    status = fetch(state, "status")
    if not status["http"]:
        raise ConfigError(
            "this agent has no web page",
            hint="add [http] to its configuration; with it, look at `gossamer status`",
        )
    return {"url": status["http"], "fingerprint": status["http_fingerprint"]}


def _checked(state: Path | None, url: str) -> dict[str, Any]:
    import ssl
    from urllib.parse import urlsplit

    address = urlsplit(url if "//" in url else f"https://{url}")
    if address.scheme != "https" or not address.hostname:
        raise ConfigError(f"{url[:80]!r} is no address with TLS", hint="https://HOST:PORT")
    try:
        pem = ssl.get_server_certificate((address.hostname, address.port or 443), timeout=CONNECT_S)
    except (OSError, ValueError) as error:
        raise PeerLost(f"{url[:80]} cannot be reached: {error}") from error
    der = base64.b64encode(ssl.PEM_cert_to_DER_cert(pem)).decode()
    return {"url": address.geturl(), **fetch(state, "web_check", {"certificate": der})}
