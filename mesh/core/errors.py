"""Errors that a caller can act on, each with a stable code and a hint for the user."""

from __future__ import annotations


class GossamerError(Exception):
    """Base of every error that Gossamer raises on purpose.

    ``code`` is stable and travels on the wire; ``hint`` tells a person what to do next.
    """

    code = "error"

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def sentence(self) -> str:
        """The message and its hint as one line for a person."""
        return f"{self.message} ({self.hint})" if self.hint else self.message


class ConfigError(GossamerError):
    """A configuration that cannot work; the message names the field."""

    code = "config"


class NameInvalid(GossamerError):
    """A capability name outside the grammar of :mod:`mesh.core.names`."""

    code = "name_invalid"


class WireError(GossamerError):
    """Bytes from outside that are not a message of this protocol."""

    code = "malformed"


class FrameTooLarge(WireError):
    """A frame over its limit; it is dropped before anything is decoded."""

    code = "too_large"


class IdentityError(GossamerError):
    """A key, certificate or signature that does not hold."""

    code = "identity"


class AccessDenied(GossamerError):
    """Policy or publish rights forbid the operation."""

    code = "denied"


class NoSuchName(GossamerError):
    """Nobody in the mesh advertises the name (DNS: NXDOMAIN)."""

    code = "no_such_name"


class NobodyHealthy(GossamerError):
    """The name is advertised, but every node that offers it is unreachable."""

    code = "nobody_healthy"


class Rejected(GossamerError):
    """The callee said REJECT: its slots are taken or it may not take the task."""

    code = "rejected"

    def __init__(self, message: str, *, retry_after_s: float = 0.0, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.retry_after_s = retry_after_s


class DeadlineExceeded(GossamerError):
    """The time that the caller gave is over."""

    code = "deadline"


class Cancelled(GossamerError):
    """The caller no longer wants the answer."""

    code = "cancelled"


class PeerLost(GossamerError):
    """The link or the peer died while a call was under way."""

    code = "peer_lost"


class CapabilityFailed(GossamerError):
    """The callee accepted the call and then failed; the message is the callee's."""

    code = "failed"


class ModelError(CapabilityFailed):
    """A model that cannot be loaded or crashed while it ran."""

    code = "model"


class StateLocked(GossamerError):
    """Another agent runs on the same state directory."""

    code = "state_locked"
