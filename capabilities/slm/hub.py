"""Brings a GGUF from a hub that speaks the Hugging Face protocol.

Spoken over plain HTTP, because the hub's own library no longer goes on with an interrupted
download in a later process. What has arrived stays under the file's checksum, the next attempt
asks for the rest, and the whole is checked before it becomes a model. Needs the extra
``models``.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import msgspec

from capabilities.slm import header, store
from mesh.core.errors import ModelError

if TYPE_CHECKING:
    import httpx

ENDPOINT = "https://huggingface.co"
TOKEN = "HF_TOKEN"  # noqa: S105 - the variable's name, as the hub's own tools have it
PREFERRED = ("q4_k_m", "q8_0", "q4_0")  # which file is meant when a repository has several
TIMEOUT_S = 30.0  # without a byte
ATTEMPTS = 5  # that bring something; a line that drops each time must end
MAX_LISTING_BYTES = 16 * 1024 * 1024  # a hub that answers without end stops here
_REPO = re.compile(r"[\w-][\w.-]{0,95}/[\w-][\w.-]{0,95}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_AGAIN = "give the same command again; it goes on where it stopped"

Report = Callable[[int, int], None]


class _File(msgspec.Struct):
    rfilename: str


class _Listing(msgspec.Struct):
    siblings: list[_File]


def pull(
    reference: str,
    at: Path,
    *,
    name: str = "",
    endpoint: str | None = None,
    report: Report = lambda _done, _total: None,
) -> store.Stored:
    """Download ``REPO[:FILE]`` into the folder ``at``; raises ModelError with one sentence.

    ``report`` hears how many bytes of how many have arrived.
    """
    repo, _, file = reference.partition(":")
    if not _REPO.fullmatch(repo) or ".." in file or file.startswith("/"):
        raise ModelError(
            f"{reference[:120]!r} names no file of a hub",
            hint="write OWNER/REPO or OWNER/REPO:FILE.gguf",
        )
    httpx = _library()
    token = os.environ.get(TOKEN, "")
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    try:
        with httpx.Client(
            base_url=(endpoint or ENDPOINT).rstrip("/"), headers=headers, timeout=TIMEOUT_S
        ) as client:
            file = file or _choose(client, repo)
            goal = store.target(name or Path(file).stem, at)
            return _fetch(client, repo, file, goal, report)
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
        first = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        raise ModelError(f"the download of {repo} stopped: {first}", hint=_AGAIN) from error
    except OSError as error:
        raise ModelError(
            f"the download of {repo} stopped: {error.strerror}", hint="look at the disk"
        ) from error


def _fetch(client: httpx.Client, repo: str, file: str, goal: Path, report: Report) -> store.Stored:
    url = f"/{repo}/resolve/main/{quote(file)}"
    # The hub's own answer, before it sends on to where the bytes are, knows size and checksum.
    known = client.head(url, headers={"Accept-Encoding": "identity"})
    _refuse(known, repo, file)
    said = known.headers
    checksum = (said.get("X-Linked-Etag") or said.get("ETag", "")).removeprefix("W/").strip('"')
    size = int(said.get("X-Linked-Size") or said.get("Content-Length") or 0)
    if not _SHA256.fullmatch(checksum):
        raise ModelError(f"the hub names no checksum for {file}", hint="download it by hand")
    unfinished = goal.parent / f".{checksum}.part"
    have = unfinished.stat().st_size if unfinished.exists() else 0
    free = shutil.disk_usage(goal.parent).free
    if size - have > free:
        raise ModelError(
            f"{file} has {size >> 20} MB and {free >> 20} MB are free on this disk",
            hint="remove a model, or choose a smaller quantization",
        )
    _download(client, url, unfinished, size, report)
    if header.file_sha256(unfinished) != checksum:
        unfinished.unlink()
        raise ModelError(f"{file} arrived damaged: its checksum is wrong", hint="pull it again")
    try:
        head = header.read(unfinished)
    except ModelError as error:
        unfinished.unlink()
        raise ModelError(f"{file} of {repo} is no model: {error.message}") from error
    unfinished.rename(goal)
    return store.Stored(goal.stem, goal, goal.stat().st_size, head=head)


def _download(client: httpx.Client, url: str, path: Path, size: int, report: Report) -> None:
    """Bring the rest of a file; a broken line is taken up again while it brings something."""
    httpx = _library()
    for attempt in range(1, ATTEMPTS + 1):
        have = path.stat().st_size if path.exists() else 0
        if have >= size > 0:
            return
        try:
            _continue(client, url, path, have, size, report)
        except httpx.TransportError:
            got = path.stat().st_size if path.exists() else 0
            if attempt == ATTEMPTS or got == have:
                raise


def _continue(
    client: httpx.Client, url: str, path: Path, have: int, size: int, report: Report
) -> None:
    asked = {"Accept-Encoding": "identity"}
    if have:
        asked["Range"] = f"bytes={have}-"
    with client.stream("GET", url, headers=asked, follow_redirects=True) as reply:
        _refuse(reply, url, "")
        whole = reply.status_code != 206
        done = 0 if whole else have
        with path.open("wb" if whole else "ab") as out:
            for piece in reply.iter_raw():  # unbuffered: what came is kept
                done += len(piece)
                if done > size:
                    raise ValueError(f"more than the {size} bytes that were announced")
                out.write(piece)
                report(done, size)


def _choose(client: httpx.Client, repo: str) -> str:
    with client.stream("GET", f"/api/models/{repo}") as reply:
        _refuse(reply, repo, "")
        body = b""
        for piece in reply.iter_bytes():
            body += piece
            if len(body) > MAX_LISTING_BYTES:
                raise ValueError("its list of files does not end")
    listing = msgspec.json.decode(body, type=_Listing)
    models = sorted(one.rfilename for one in listing.siblings if one.rfilename.endswith(".gguf"))
    fitting = [m for kind in PREFERRED for m in models if kind in m.lower()]
    if not models:
        raise ModelError(f"{repo} has no GGUF file", hint="look for a repository that has one")
    return (fitting or models)[0]


def _refuse(reply: httpx.Response, repo: str, file: str) -> None:
    if reply.status_code < 400:
        return
    what = f"{repo}:{file}" if file else repo
    if reply.status_code in (401, 403):
        raise ModelError(
            f"the hub does not give {what} to everybody, or it does not exist",
            hint=f"put a token of the hub that may read it into {TOKEN}",
        )
    if reply.status_code == 404:
        raise ModelError(f"the hub has no {what}", hint="look at its page for the name")
    raise ModelError(f"the hub answered {reply.status_code} for {what}", hint=_AGAIN)


def _library() -> Any:
    try:
        import httpx
    except ImportError:
        raise ModelError(
            "pulling needs an HTTP library", hint='pip install "gossamer-mesh[models]"'
        ) from None
    return httpx
