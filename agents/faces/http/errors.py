"""Errors as OpenAI's clients read them: a status, and ``{"error": {message, type, code, param}}``.

Clients repeat 408, 409, 429 and what is from 500 on, so a status says whether that would help.
"""

from __future__ import annotations

import msgspec

from agents.faces.http.schema import ErrorBody, ErrorDetail
from mesh.core.errors import GossamerError, Rejected

INVALID = "invalid_request_error"
MIN_RETRY_S = 1  # the header counts whole seconds


class HttpError(Exception):
    """A request that gets no answer. ``param`` is the field at fault."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        kind: str = INVALID,
        code: str | None = None,
        param: str | None = None,
        retry_after_s: float = 0.0,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.retry_after_s = retry_after_s
        self.detail = ErrorDetail(message=message, type=kind, code=code, param=param)

    def body(self) -> bytes:
        """As it travels."""
        return msgspec.json.encode(ErrorBody(error=self.detail))

    def headers(self) -> dict[str, str]:
        """When to come again, and for a missing key how to send one."""
        if self.status == 401:
            return {"www-authenticate": "Bearer"}
        if self.status in {429, 503}:
            return {"retry-after": str(max(MIN_RETRY_S, round(self.retry_after_s)))}
        return {}


# code of a GossamerError: status, OpenAI's type, OpenAI's code
_KNOWN: dict[str, tuple[int, str, str]] = {
    "config": (400, INVALID, "invalid_value"),
    "name_invalid": (400, INVALID, "invalid_model"),
    "malformed": (400, INVALID, "invalid_value"),
    "bad_request": (400, INVALID, "invalid_value"),
    "unsupported": (400, INVALID, "unsupported_value"),
    "context_full": (400, INVALID, "context_length_exceeded"),
    "plan": (400, INVALID, "invalid_value"),
    "too_large": (413, INVALID, "request_too_large"),
    "denied": (403, "permission_error", "denied"),
    "no_such_name": (404, INVALID, "model_not_found"),
    "nobody_healthy": (503, "service_unavailable_error", "nobody_healthy"),
    "rejected": (429, "rate_limit_error", "rejected"),
    "deadline": (504, "timeout_error", "deadline"),
    "peer_lost": (503, "service_unavailable_error", "peer_lost"),
    "no_agent": (503, "service_unavailable_error", "no_agent"),
    "cancelled": (503, "service_unavailable_error", "cancelled"),
    "failed": (502, "server_error", "failed"),
    "model": (502, "server_error", "model"),
}


def http_error(error: GossamerError) -> HttpError:
    """The same error for an HTTP client."""
    status, kind, code = _KNOWN.get(error.code, (502, "server_error", error.code))
    retry_after_s = error.retry_after_s if isinstance(error, Rejected) else 0.0
    return HttpError(status, error.sentence(), kind=kind, code=code, retry_after_s=retry_after_s)
