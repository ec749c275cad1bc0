"""What findings of a town mean for an event outdoors: a risk for each part by a rule, worst first.

``aggregator = "examples.smart_city.judgement:Outdoors"`` makes it the last word of the visitor's
device. Figures are judged by public tables, not by what a model said of them; where the two differ
both are told. What was not found is not judged, and the answer says that the risk may be higher.

Sources: air quality and traffic as in :mod:`capabilities.standards`; wind by the Beaufort scale
(WMO Manual on Codes, table 1100: 6 is a strong breeze, 8 a gale, 10 a storm); rain by the AMS
Glossary (moderate from 2.5 mm an hour, heavy above 7.6); heat by the bounds of the US National
Weather Service's heat index (caution from 27 C, extreme caution from 32, danger from 41), here of
the dry temperature, since no station tells the humidity. Which category is which risk is ours.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

from agents.orchestrator.aggregate import Joined
from agents.views import StatementView, StepView
from capabilities.standards.air_quality import CATEGORIES, POLLUTANTS
from capabilities.standards.traffic import STATES, Flow
from examples.smart_city.checklist import topic_of
from mesh.core.errors import GossamerError

SPEED_LIMIT = 65  # mph, of the roads that the counters stand on
WIND_MS = (10.8, 17.2, 24.5)  # from which the risk is moderate, high, very high
RAIN_MM_H = (2.5, 7.6, 50.0)
HEAT_C = (27.0, 32.0, 41.0)
FROST_C = 0.0  # at and below it, moderate

_FIGURE = re.compile(r"= (-?[\d.]+)")
_DOUBT = re.compile(r"(?:Silent|Not counted)[^.]*\.")
_READING = re.compile(
    r"(rain|temperature|wind) \([^)]*\) was (-?[\d.]+)(?:, between (-?[\d.]+) and (-?[\d.]+))?"
)
_SEEN = re.compile(r"(closed roads|people) was (\d+)")
_RECORD = re.compile(r"([^\[\]]+?) \[([A-Z]\d+)\]")
_DATE = re.compile(r"\d{4}-\d\d-\d\d")
_LEVEL = re.compile(r"Level ([A-F])\b")


class Risk(enum.IntEnum):
    """How much speaks against it."""

    LOW = 0
    MODERATE = 1
    HIGH = 2
    VERY_HIGH = 3

    @property
    def word(self) -> str:
        """As it is said."""
        return self.name.lower().replace("_", " ")


VERDICTS = {
    Risk.LOW: "Nothing that was found speaks against it.",
    Risk.MODERATE: "It can be set up, with these points in mind.",
    Risk.HIGH: "It should be set up only if these points can be helped.",
    Risk.VERY_HIGH: "It should not be set up as things are now.",
}
_AIR = (Risk.LOW, Risk.LOW, Risk.MODERATE, Risk.HIGH, Risk.VERY_HIGH, Risk.VERY_HIGH)
_FLOW = {
    "A": Risk.LOW,
    "B": Risk.LOW,
    "C": Risk.LOW,
    "D": Risk.MODERATE,
    "E": Risk.MODERATE,
    "F": Risk.HIGH,
}


class Unread(GossamerError):
    """A finding whose text is not of the form that its rule reads."""

    code = "unread"


class Found(NamedTuple):
    """A part's risk and why, without its sources."""

    risk: Risk
    why: str


class Part(NamedTuple):
    """One part: what it is called, the name of its figure, the model beside it, its rule."""

    title: str
    name: str
    model: str
    judge: Callable[[str, str], Found]


def _figure(text: str) -> float:
    found = _FIGURE.search(text)
    if found is None:
        raise Unread(f"no figure in {text[:80]!r}")
    return float(found.group(1).rstrip("."))


def air(text: str, model: str) -> Found:
    """By the US AQI's category of PM2.5."""
    level = _figure(text)
    category = POLLUTANTS["pm2_5"].category(max(0.0, level))
    why = f"PM2.5 of {level:g} ug/m3 is {CATEGORIES[category].lower()} by the US AQI"
    said = [name for name in CATEGORIES if model.lower().startswith(name.lower() + " by")]
    if said and said[-1] != CATEGORIES[category]:
        why += f" (the model said {said[-1].lower()}; the table counts)"
    advice = model.partition(". ")[2].strip().rstrip(".")
    if advice and (not said or said[-1] == CATEGORIES[category]):
        why += f": {advice[0].lower()}{advice[1:]}"
    return Found(_AIR[category], why)


def traffic(text: str, model: str) -> Found:
    """By the level of service of the Highway Capacity Manual."""
    speed = _figure(text)
    level = Flow(speed=round(speed), limit=SPEED_LIMIT, unit="mph").level
    why = f"{speed:g} mph where {SPEED_LIMIT} are allowed is level {level}, {STATES[level]}"
    said = _LEVEL.search(model)
    if said and said.group(1) != level:
        why += f" (the model said level {said.group(1)}; the table counts)"
    return Found(_FLOW[level], why)


def _rated(value: float, bounds: Sequence[float], words: str) -> tuple[Risk, str]:
    risk = Risk(sum(value >= bound for bound in bounds))
    return risk, f"{words} ({risk.word} from {bounds[risk - 1]:g})" if risk else words


def weather(text: str, _: str) -> Found:
    """By the worst of wind, rain and temperature of the last readings."""
    risks: list[tuple[Risk, str]] = []
    for what, usual, low, high in _READING.findall(text):
        most, least = float(high or usual), float(low or usual)
        if what == "wind":
            risks.append(_rated(most, WIND_MS, f"wind up to {most:g} m/s"))
        elif what == "rain":
            words = f"rain up to {most:g} mm an hour" if most else "no rain"
            risks.append(_rated(most, RAIN_MM_H, words))
        elif least <= FROST_C:
            risks.append((Risk.MODERATE, f"frost, down to {least:g} C"))
        else:
            risks.append(_rated(most, HEAT_C, f"up to {most:g} C"))
    if not risks:
        raise Unread(f"no wind, rain or temperature in {text[:80]!r}")
    risks.sort(key=lambda one: -one[0])  # stable: the order of the summary among equals
    return Found(risks[0][0], ", ".join(why for _, why in risks))


def camera(text: str, _: str) -> Found:
    """A closed road keeps visitors out, and help."""
    seen = {what: int(count) for what, count in _SEEN.findall(text)}
    if not seen:
        raise Unread(f"neither people nor roads in {text[:80]!r}")
    people = f"{seen['people']} people are there" if "people" in seen else "people were not counted"
    if seen.get("closed roads"):
        return Found(Risk.HIGH, f"a sign says that a road is closed; {people}")
    road = "no road is closed" if "closed roads" in seen else "roads were not seen"
    return Found(Risk.LOW, f"{people}, {road}")


def _records(text: str) -> list[str]:
    """Each record as its title, its date and its number."""
    made = []
    for body, number in _RECORD.findall(text):
        date = _DATE.search(body)
        title = body.split(",", 1)[0].strip()
        made.append(f"{title.lower()}{f' on {date.group()}' if date else ''} [{number}]")
    return made


def events(text: str, _: str) -> Found:
    """Another event at the place is a reason to look at the date."""
    found = _records(text)
    if not found:
        return Found(Risk.LOW, "no other event is on record there")
    return Found(Risk.MODERATE, f"the place is taken by {', '.join(found)}")


def incidents(text: str, _: str) -> Found:
    """What happened there may happen again."""
    found = _records(text)
    if not found:
        return Found(Risk.LOW, "nothing is on record there")
    return Found(Risk.MODERATE, ", ".join(found))


PARTS = (
    Part("air", "data.gpt/air/trend", "knowledge.gpt/air_quality", air),
    Part("traffic", "data.gpt/traffic/trend", "knowledge.gpt/traffic", traffic),
    Part("weather", "data.gpt/weather/summary", "", weather),
    Part("the square", "data.gpt/camera/summary", "", camera),
    Part("events", "knowledge.gpt/city_events", "", events),
    Part("incidents", "knowledge.gpt/city_incidents", "", incidents),
)


class Outdoors:
    """An aggregator: a judgement before the findings, for questions of the list."""

    def join(self, question: str, steps: Sequence[StepView]) -> Joined:
        """The overall risk, each part with its sources, what is not known, then the findings.

        Raises :class:`Unread` for a question of another kind: its findings stand by themselves.
        """
        if topic_of(question) is None:
            raise Unread("the question is not about an event outdoors")
        judged, unknown = _judged({step.name: step for step in steps})
        judged.sort(key=lambda one: -one[1].risk)
        lines = [StatementView(text=_overall(judged))]
        lines += [_line(part, found, sources) for part, found, sources in judged]
        if unknown:
            more = " The risk may be higher than said." if judged else ""
            lines.append(StatementView(text=f"Not known: {'; '.join(unknown)}.{more}"))
        lines.append(
            StatementView(text="Readings are of now; the question names no day and no place.")
        )
        findings = [step for step in steps if step.status == "ok"]
        if findings:
            lines.append(StatementView(text="What was found:"))
            lines += [
                StatementView(
                    text=f"- {' '.join(step.text.split())} ({step.name}@{step.node})",
                    step=step.id,
                    name=step.name,
                    node=step.node,
                )
                for step in findings
            ]
        worst = judged[0][1].risk.word if judged else "unknown"
        risks = {part.title: found.risk.word for part, found, _ in judged}
        return Joined(
            statements=lines,
            decision=f"{worst}: the worst of {len(judged)} parts, {len(unknown)} not known",
            inputs={"risks": risks, "unknown": unknown},
        )


Judged = tuple[Part, Found, list[StepView]]


def _judged(steps: dict[str, StepView]) -> tuple[list[Judged], list[str]]:
    judged: list[Judged] = []
    unknown: list[str] = []
    for part in PARTS:
        step, model = steps.get(part.name), steps.get(part.model)
        if step is None:
            unknown.append(f"{part.title} (nobody was asked)")
            continue
        if step.status != "ok":
            unknown.append(f"{part.title} ({_reason(step)})")
            continue
        spoke = model is not None and model.status == "ok"
        try:
            found = part.judge(step.text, model.text if model and spoke else "")
        except (GossamerError, ValueError) as error:
            unknown.append(f"{part.title} ({error})")
            continue
        doubts = _DOUBT.findall(step.text)
        if "contradict each other" in step.text:
            doubts.append("The stations contradict each other.")
        why = ". ".join([found.why, *(doubt.rstrip(".") for doubt in doubts)])
        judged.append((part, Found(found.risk, why), [step, *([model] if model and spoke else [])]))
    return judged, unknown


def _reason(step: StepView) -> str:
    error = step.error.strip().rstrip(".")
    if not error:
        return "it was not answered"
    if "offers" in error and error.lower().startswith("nobody"):
        return "nobody nearby offers it"
    return f"{error[0].lower()}{error[1:]}"


def _overall(judged: Sequence[Judged]) -> str:
    if not judged:
        return "Overall risk: unknown. Nothing of what has to be known could be found out."
    worst = judged[0][1].risk
    because = [part.title for part, found, _ in judged if found.risk is worst]
    if worst is Risk.LOW:
        return f"Overall risk: {worst.word}. {VERDICTS[worst]}"
    return f"Overall risk: {worst.word}, for {' and '.join(because)}. {VERDICTS[worst]}"


def _line(part: Part, found: Found, sources: Sequence[StepView]) -> StatementView:
    nodes = ", ".join(dict.fromkeys(step.node for step in sources))
    word = found.risk.word
    return StatementView(
        text=f"{word[0].upper()}{word[1:]}: {part.title}. {_capital(found.why)}. ({nodes})",
        step=sources[0].id,
        name=sources[0].name,
        node=sources[0].node,
    )


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]
