"""One health view from insights, and what follows from it. Pure.

NEWS2 (Royal College of Physicians 2017; :mod:`capabilities.standards.vitals`) ranks urgency. It is
made for adults at rest under observation; from wearables it is partial, a lower bound, and no
diagnosis. What is advised here is by its bands, in our words.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from capabilities.standards.vitals import LEVELS, MEDIUM_FROM, PARAMETERS, Score, score

# Reading -> parameter of NEWS2, in the order of belief: the watch's pulse comes with a quality.
VITALS = {
    "heart_rate_bpm": "pulse",
    "pulse_bpm": "pulse",
    "spo2_percent": "spo2",
    "temperature_c": "temperature",
    "breaths_per_min": "respiration",
}
CONTEXT = ("steps_today", "asleep_h", "room_c", "co2_ppm", "pm25_ug_m3")
PHRASES = {
    "pulse": "heart rate {:.0f}",
    "spo2": "SpO2 {:.0f} %",
    "temperature": "temperature {:.1f}",
    "respiration": "breathing rate {:.0f}",
}
NEAR = {"pulse": 15.0}  # per minute; two sensors at rest that differ by more contradict each other
NEVER = ("blood pressure", "consciousness", "added oxygen")  # no device here measures them
SHORT_SLEEP_H, STALE_AIR_PPM = 6.0, 1400.0  # below, above: said, never scored
WELL = re.compile(
    r"\b(i|am|feel|m|very|quite|and|slept|well|fine|good|great|ok|okay|rested|today|all|right)\b"
)


@dataclass(frozen=True)
class Heard:
    """An insight as the phone heard it; ``stale_s`` is 0 where it is of this round."""

    device: str
    domain: str
    values: Mapping[str, float]
    stale_s: float = 0.0


@dataclass(frozen=True)
class Claim:
    """What one device says of one parameter: the median of its window, and its extremes."""

    parameter: str
    device: str
    value: float
    low: float
    high: float


@dataclass
class View:
    """The unified view: one claim per parameter, and everything that speaks against it."""

    chosen: dict[str, Claim] = field(default_factory=dict)
    context: dict[str, float] = field(default_factory=dict)
    conflicts: list[str] = field(default_factory=list)
    faulty: list[str] = field(default_factory=list)
    stale: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    others: dict[str, list[Claim]] = field(default_factory=dict)

    def score(self, **instead: float) -> Score | None:
        """NEWS2 of what is known, None where nothing is; ``instead`` replaces parameters."""
        observed = {key: claim.value for key, claim in self.chosen.items()} | instead
        return score(observed) if observed else None

    @property
    def uncertain(self) -> bool:
        """Whether another device's word would change the level of risk."""
        mine = self.score()
        if mine is None:
            return True
        for key, claims in self.others.items():
            for claim in claims:
                other = self.score(**{key: claim.value})
                if other is not None and other.level != mine.level:
                    return True
        return False


def unify(heard: Sequence[Heard], wanted: Mapping[str, str]) -> View:
    """The view of what was heard; ``wanted`` are the parameters by the device that gives them."""
    view = View()
    for one in heard:
        if one.stale_s:
            view.stale.append(f"{one.domain} of the {one.device} ({one.stale_s:.0f} s old)")
        for name, value in one.values.items():
            if name.endswith("_faulty"):
                reading = name.removesuffix("_faulty").replace("_", " ")
                view.faulty.append(f"{reading} of the {one.device}")
            if name in CONTEXT:
                view.context[name] = value
        for name, parameter in VITALS.items():
            if name in one.values and not one.stale_s:  # an old pulse is no pulse
                value = one.values[name]
                low, high = (one.values.get(f"{name}_{end}", value) for end in ("low", "high"))
                _claim(view, Claim(parameter, one.device, value, low, high))
    known = set(view.chosen) | ({"sleep"} if "asleep_h" in view.context else set())
    known |= {"room air"} if "co2_ppm" in view.context else set()
    view.missing = [
        f"{PARAMETERS[what].title if what in PARAMETERS else what} ({who})"
        for what, who in wanted.items()
        if what not in known
    ]
    return view


def _claim(view: View, claim: Claim) -> None:
    first = view.chosen.get(claim.parameter)
    if first is None:
        view.chosen[claim.parameter] = claim
        return
    apart = abs(first.value - claim.value)
    if apart <= NEAR.get(claim.parameter, 0.0):
        return
    view.others.setdefault(claim.parameter, []).append(claim)
    view.conflicts.append(
        f"{claim.parameter}: the {first.device} says {first.value:.0f}, the {claim.device}"
        f" {claim.value:.0f}"
    )


def told(view: View) -> str:
    """The vital signs as a model is told them."""
    return ", ".join(PHRASES[key].format(claim.value) for key, claim in view.chosen.items())


def gap(feeling: str) -> str:
    """What the devices and the phone's rules leave open: words of the user beyond being well."""
    rest = re.sub(r"[^a-z ]", " ", WELL.sub(" ", feeling.lower().replace("'", " ")))
    return f"What should somebody do who says: {feeling}" if rest.strip() else ""


def alarm(view: View) -> str:
    """Why a person has to be told now; empty where nobody has."""
    found = view.score()
    if found is None or found.total < MEDIUM_FROM:
        return ""
    most = max(found.points.values())
    worst = [PARAMETERS[key].title for key, points in found.points.items() if points == most]
    return (
        f"NEWS2 is {found.total} of what is known ({LEVELS[found.level]} risk), most for"
        f" {' and '.join(worst)}: please look after Anna now."
    )


def advice(view: View) -> list[str]:
    """What to do, by NEWS2's bands and the home's figures; never a diagnosis."""
    found = view.score()
    lines = []
    if found is None:
        lines.append("No vital sign is known: nothing can be said of your state.")
    elif found.level == len(LEVELS) - 1:
        lines.append("Call the emergency number now, and do not stay alone.")
    elif found.total >= MEDIUM_FROM:
        lines.append("Talk to a doctor or an out-of-hours service within the hour.")
    elif found.level:
        lines.append("One vital sign is far from normal: ask a doctor today, measure each hour.")
    elif found.total:
        lines.append("Keep measuring, and rest; ask a doctor if it goes on or you feel worse.")
    elif len(found.points) < len(PHRASES):
        lines.append(
            f"The {len(found.points)} vital signs that are known are normal; what is missing may"
            " not be."
        )
    elif not view.uncertain:
        lines.append("Nothing in these figures asks for anything: carry on.")
    if view.conflicts:
        lines.append(
            "Two devices contradict each other: sit still, warm your hands, measure again"
            + (", before you rely on this: the other value would change the risk."
               if view.uncertain else ".")
        )  # fmt: skip
    if found is not None and found.total >= MEDIUM_FROM:
        return lines  # nobody should read of bedrooms now
    if view.context.get("asleep_h", SHORT_SLEEP_H) < SHORT_SLEEP_H:
        lines.append(f"You slept {view.context['asleep_h']:.1f} h: go to bed earlier tonight.")
    if view.context.get("co2_ppm", 0.0) > STALE_AIR_PPM:
        lines.append(f"The bedroom has {view.context['co2_ppm']:.0f} ppm of CO2: open a window.")
    return lines


LIMITS = (
    "This is no diagnosis and no medical device made it. NEWS2 ranks urgency for adults at rest"
    " under observation.",
    "The score is partial, a lower bound: " + ", ".join(NEVER) + " are not measured here.",
    "A ring's temperature is taken for body temperature, which it only estimates.",
    "A demonstration: the pulse wave is a real recording, all other readings are generated.",
    "Models of 1.2 million parameters said the levels; the standard's own rule has the last word.",
)
