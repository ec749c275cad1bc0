"""Questions that a model of nobody's is asked, to see what its layers do; pure.

A tuned lens needs rows of the kind that the model will meet. Whose questions these will be, only
the user knows, and may say in a file; without one it is these: everyday questions over many
subjects, and beginnings of texts, for models that only go on. Each belongs to one of three parts,
so that what an exit was fitted on, calibrated on and measured on never meet.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import cache

from mesh.core.errors import ModelError

FITTING, CALIBRATING, ASKING = "fitting", "calibrating", "asking"
# Of all: calibrating is what needs many, since its unit is the answer.
SHARES = {FITTING: 0.3, CALIBRATING: 0.5, ASKING: 0.2}
MAX_CHARS = 4000  # of a line in a user's file; an exit is not fitted on whole books
_ORDER = 41  # in which the pool is cut into parts: the same everywhere

TEMPLATES = (
    "What is {}?",
    "Explain {} to a child.",
    "How would you describe {} in one sentence?",
    "Give me three facts about {}.",
    "Why do people care about {}?",
    "Write two sentences about {}.",
    "What should I know before I begin with {}?",
    "List some advantages and disadvantages of {}.",
    "Tell me a short story about {}.",
    "What does a day with {} look like?",
    "Who knows most about {}, and why?",
    "How has {} changed over the years?",
    "What questions would you ask an expert about {}?",
    "Write a short poem about {}.",
    "Summarise what matters about {} in a few words.",
    "What can go wrong with {}?",
    "I have ten minutes. What can I learn about {}?",
    "How much does {} cost, and what does it depend on?",
    "Compare {} with something similar.",
    "Write an email to a friend about {}.",
    "What tools are needed for {}?",
    "Name five words that have to do with {}.",
    "Is {} good for the environment?",
    "Where in the world is {} important?",
    "Once upon a time, there was a girl who dreamt of {}.",
    "Tom and his sister wanted to find out about {}. One day",
    "The most surprising thing about {} is",
    "In the morning the news spoke of {}, and",
)
SUBJECTS = (
    "the moon",
    "rain",
    "bread",
    "a bicycle",
    "learning a language",
    "chess",
    "the heart",
    "bees",
    "solar power",
    "a small garden",
    "old maps",
    "train journeys",
    "sleep",
    "the ocean",
    "coffee",
    "a library",
    "earthquakes",
    "cooking rice",
    "the violin",
    "winter clothes",
    "city traffic",
    "clean water",
    "a first job",
    "football",
    "computer programs",
    "volcanoes",
    "healthy teeth",
    "the tax return",
    "dogs",
    "drawing faces",
    "the price of eggs",
    "a broken window",
    "electric cars",
    "a thunderstorm",
    "growing tomatoes",
    "a birthday party",
    "the history of writing",
    "running ten kilometres",
    "spiders",
    "a phone battery",
    "good manners",
    "the colour blue",
    "mathematics at school",
    "a night in the forest",
    "airports",
    "recycling paper",
    "headaches",
    "an honest mistake",
    "whales",
    "knitting",
    "the speed of light",
    "democracy",
    "moving house",
    "cheese",
    "a long letter",
    "radio waves",
    "mountain huts",
    "the common cold",
    "saving money",
    "robots in a factory",
    "tea with milk",
    "glass",
    "grandparents",
    "air in a room",
    "street musicians",
    "a lost key",
    "the sense of smell",
    "ships",
    "fractions",
    "a quiet evening",
    "fire",
    "market stalls",
    "new shoes",
    "the weather forecast",
    "bridges",
    "honey",
    "a museum visit",
    "insects in autumn",
    "washing machines",
    "friendship",
    "satellites",
    "apple trees",
    "blood pressure",
    "the alphabet",
    "snow on the roads",
    "wooden toys",
    "a job interview",
    "deserts",
    "concrete",
    "birdsong",
)


@cache
def _parts() -> dict[str, tuple[str, ...]]:
    pool = [template.format(subject) for template in TEMPLATES for subject in SUBJECTS]
    random.Random(_ORDER).shuffle(pool)
    parts, begin, share = {}, 0, 0.0
    for part, size in SHARES.items():
        share += size
        end = round(len(pool) * share)
        parts[part] = tuple(pool[begin:end])
        begin = end
    return parts


def drawn(part: str, count: int, seed: int) -> list[str]:
    """So many distinct questions of a part, or all that it has; other seeds draw others."""
    pool = _parts()[part]
    return random.Random(seed).sample(pool, min(count, len(pool)))


def of_file(text: str, name: str) -> tuple[list[str], list[str]]:
    """A user's own questions, one a line: to fit on (odd ones) and to calibrate on (even ones).

    Empty lines do not count, repeated ones count once. Raises ModelError.
    """
    lines = list(dict.fromkeys(line.strip() for line in text.splitlines() if line.strip()))
    if len(lines) < 2:
        raise ModelError(
            f"{name} holds {len(lines)} different questions, and at least 2 are needed",
            hint="write one question a line, the more the better",
        )
    if long := [line for line in lines if len(line) > MAX_CHARS]:
        raise ModelError(
            f"{name} has a line of {len(long[0])} characters; {MAX_CHARS} are the most",
            hint="write one question a line",
        )
    return lines[::2], lines[1::2]


def repeated(questions: Sequence[str], count: int) -> list[str]:
    """So many of them, from the beginning again where they are too few."""
    return [questions[i % len(questions)] for i in range(count)]
