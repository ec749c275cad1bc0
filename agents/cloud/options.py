"""What the deciding parts take from ``[cloud]``."""

from __future__ import annotations

import msgspec

from agents.config import CloudSection
from mesh.core.errors import ConfigError


def ladder_options(section: CloudSection) -> dict[str, dict[str, object]]:
    """What the ladder takes from ``[cloud]``; reads the fitted cascade. Raises ConfigError."""
    found: dict[str, object] = {"redirects": section.redirects}
    if section.cascade is not None:
        try:
            found["cascade"] = msgspec.json.decode(section.cascade.read_bytes())
        except (OSError, msgspec.MsgspecError) as error:
            raise ConfigError(
                f"the cascade {section.cascade} cannot be read: {error}",
                hint="make one: gossamer escalation fit LOG --out FILE",
            ) from error
    return {"escalation": found}
