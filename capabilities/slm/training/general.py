"""What the general model is trained on: talk about the mesh, what it declines, and its tasks.

It talks about the topics of general_topics.txt. A calculation it hands to the arithmetic expert; of
anything else it says that it does not know. Its tasks (plans.py, reading.py, texts.py) each come
with an instruction of their own.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cache
from typing import TYPE_CHECKING

from capabilities.slm.training import outside, plans, reading, reading_tasks, texts, wordings
from capabilities.slm.training.chat import Example

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

CALCULATION = "calculation"
UNKNOWN = "unknown"
TOPIC = "topic"
CATEGORIES = (TOPIC, CALCULATION, UNKNOWN)

CALCULATION_ANSWERS = (
    "I cannot calculate myself, but the arithmetic expert knowledge.gpt/arithmetic can.",
    "I do not calculate; that is work for the arithmetic expert, knowledge.gpt/arithmetic.",
)
UNKNOWN_ANSWERS = (
    "I do not know that; I only know the Gossamer mesh.",
    "That I do not know: my field is the Gossamer mesh.",
)

_FRAMES = (
    "what (is|are) #",
    "what (is|are) #",
    "what's #",
    "(explain|describe|define) #",
    "(explain|describe) # (to me|please|briefly)",
    "tell me (about|something about|what you know about|more about) #",
    "what do you know about #",
    "can you (explain|describe|tell me about) #",
    "(please explain|please tell me about) #",
    "how does # work",
    "what does # mean",
    "i (want|would like) to (know|learn|hear) about #",
    "# ?",
    "and #",
    "do you know what # is",
    "what about #",
    "help me understand #",
)
_FRAMES_HELD_OUT = (
    "could you say what # (is|are)",
    "give me a short explanation of #",
    "what exactly (is|are) #",
    "i do not understand #",
    "in a few words, what (is|are) #",
)
_KEYWORD_FRAMES = (
    "#",
    "# please",
    "(what|and|how) about #",
    "i have a question about #",
    "(can you|could you|please) (say|tell me) (something|more|a bit) about #",
    "tell me about #",
    "what (does|do) (gossamer|the mesh|a node|nodes|you) (do about|know about|say about) #",
    "(is there|are there|there is|have you|do you have) #",
    "(why|how|when|where|who) (is|are|does|do|can) #",
    "(why|how|when|where) #",
    "i (think|worry|ask|wonder|want to talk) about #",
    "# (in|of|for|and|with) (the mesh|gossamer|a node|my node|nodes)",
    "(will|does|can|may|must|should) (i|we|it|you|one|a node|they) (get|have|need|use|do|see) #",
    "(explain|describe|show me|give me) #",
    "what (happens|comes|is done|follows) (with|to|about|after) #",
    "(the|this|that|my|your) # (is what|how|why|and now)",
    "in (gossamer|the mesh), #",
    "# , (how|what|why|when) (is it|is that|does it work)",
)
_FRAME_SHARE = 0.35
_KEYWORD_SHARE = 0.3


@dataclass
class Topic:
    """One thing to talk about: its words, what it is called, how it is asked and answered."""

    name: str
    keywords: list[str] = field(default_factory=list)
    nouns: list[str] = field(default_factory=list)
    questions: list[str] = field(default_factory=list)
    held_out: list[str] = field(default_factory=list)
    answers: list[str] = field(default_factory=list)


@cache
def load_topics() -> tuple[Topic, ...]:
    """The topics of general_topics.txt, in order."""
    topics: list[Topic] = []
    for raw in outside.TOPICS_FILE.read_text().splitlines():
        mark, _, text = raw.partition(" ")
        if mark == "=":
            topics.append(Topic(text))
        elif mark == "*":
            topics[-1].keywords.extend(text.split(", "))
        elif mark in ("~", "?", "!", ">"):
            topic = topics[-1]
            {
                "~": topic.nouns,
                "?": topic.questions,
                "!": topic.held_out,
                ">": topic.answers,
            }[mark].append(text)
    return tuple(topics)


def expert_answers() -> tuple[str, ...]:
    """Every answer that refuses to calculate and names the arithmetic expert."""
    by_name = {topic.name: topic for topic in load_topics()}
    return (*CALCULATION_ANSWERS, *by_name["arithmetic_expert"].answers)


def topic_example(rng: random.Random, topic: Topic, *, held_out: bool) -> Example:
    """A question about `topic`; its category is the topic's name."""
    draw = rng.random()
    if topic.nouns and draw < _FRAME_SHARE:
        frame = rng.choice(_FRAMES_HELD_OUT if held_out else _FRAMES)
        question = outside.fill(rng, frame.replace("#", rng.choice(topic.nouns)))
    elif draw > 1 - _KEYWORD_SHARE and not held_out:
        frame = outside.fill(rng, rng.choice(_KEYWORD_FRAMES))
        question = frame.replace("#", rng.choice(topic.keywords))
    else:
        question = outside.fill(rng, rng.choice(topic.held_out if held_out else topic.questions))
    if not held_out:
        question = _disturb(rng, question)
    return _example(rng, question, topic.name, tuple(topic.answers), TOPIC, held_out=held_out)


def _disturb(rng: random.Random, question: str) -> str:
    """`question`, at times with words left out, strange words put in, or the order changed.

    So the model learns to look for the words that matter, wherever they stand and whatever stands
    beside them, instead of learning whole questions by heart.
    """
    words = question.split()
    draw = rng.random()
    if draw < 0.2 and len(words) > 3:
        share = rng.choice((0.15, 0.3, 0.4))
        kept = [word for word in words if rng.random() > share]
        words = kept if len(kept) >= 3 else words
    elif draw < 0.35:
        for _ in range(rng.randrange(1, 3)):
            strange = rng.choice(outside.outside_words()[0])
            words.insert(rng.randrange(len(words) + 1), strange)
    elif draw < 0.4:
        rng.shuffle(words)
    return " ".join(words)


# --- dress and mixture ----------------------------------------------------------------------------

_NAMES = {
    word.lower(): word
    for word in (
        *("Gossamer", "CURVE", "ZeroMQ", "GGUF", "MQTT", "SQLite", "Python", "Linux", "Jetson"),
        *("Raspberry", "OpenAI", "HTTP", "JSON", "mDNS", "NAT", "Pi", "SLM", "LLM", "API"),
        *("CPU", "GPU", "Wi-Fi"),
    )
}

_SYSTEM = (
    *wordings.SYSTEM_PROMPTS,
    "You are the general model of a Gossamer node.",
    "You are Gossamer.",
    "You talk about the mesh. Be friendly.",
    "Say so when you do not know.",
)


def _misspell(rng: random.Random, text: str) -> str:
    """`text` with one letter dropped, doubled or swapped with the next."""
    at = rng.randrange(1, max(2, len(text) - 1))
    if not text[at : at + 2].isalpha():
        return text
    kind = rng.randrange(3)
    if kind == 0:
        return text[:at] + text[at + 1 :]
    if kind == 1:
        return text[:at] + text[at] + text[at:]
    return text[:at] + text[at + 1 : at + 2] + text[at] + text[at + 2 :]


def _as_written(question: str) -> str:
    """`question` with names as people write them.

    To a tokenizer "Gossamer" is another word than "gossamer", and what the model never saw in a
    question it takes for something of the wide world.
    """
    return " ".join(_NAMES.get(word, word) for word in question.split())


def _example(
    rng: random.Random,
    question: str,
    topic: str,
    answers: tuple[str, ...],
    category: str,
    *,
    held_out: bool,
) -> Example:
    if rng.random() < 0.1:
        question = _misspell(rng, question)
    if rng.random() < 0.7:
        question = _as_written(question)
    return Example(
        question=wordings.dress(rng, question, held_out=held_out),
        answer=rng.choice(answers),
        alternatives=answers,
        # Naming the topic first keeps the answer whole: a wavering model would otherwise begin
        # one topic's answer and end another's.
        scratchpad=topic.replace("_", " "),
        system=rng.choice(_SYSTEM) if rng.random() < 0.3 else "",
        category=category,
        new_wording=held_out,
    )


def chat_example(rng: random.Random, *, held_out: bool) -> Example:
    """A question about the mesh, a calculation, or something of the wide world."""
    draw = rng.random()
    if draw < 0.56:
        return topic_example(rng, rng.choice(load_topics()), held_out=held_out)
    if draw < 0.76:
        question = outside.calculation(rng, held_out=held_out)
        return _example(
            rng, question, CALCULATION, CALCULATION_ANSWERS, CALCULATION, held_out=held_out
        )
    question = outside.unknown(rng, held_out=held_out)
    return _example(rng, question, UNKNOWN, UNKNOWN_ANSWERS, UNKNOWN, held_out=held_out)


def _extract(rng: random.Random, *, held_out: bool) -> Example:
    # What is trained on asks several questions of a text: each costs a third of one alone.
    if held_out:
        return reading.extract_example(rng, held_out=True)
    return reading.extract_examples(rng)


# The tasks and their share of the training; chat has the rest.
_TASKS: tuple[tuple[float, Callable[..., Example]], ...] = (
    (0.26, plans.example),
    (0.13, _extract),
    (0.04, reading_tasks.example),
    (0.06, texts.reword_example),
    (0.07, texts.join_example),
)
_RECITED_SHARE = 0.05
TASKS = ("chat", "plan", "extract", "reading_tasks", "reword", "join")


def _task(rng: random.Random, draw: float, *, held_out: bool) -> Example | None:
    for share, make in _TASKS:
        if draw < share:
            return make(rng, held_out=held_out)
        draw -= share
    return None


def sample(rng: random.Random) -> Example:
    """One training example; chat stands now and then after earlier turns of a conversation."""
    if rng.random() < _RECITED_SHARE:
        return texts.recite_example(rng)
    task = _task(rng, rng.random(), held_out=False)
    if task:
        return task
    example = chat_example(rng, held_out=False)
    if rng.random() < 0.15:
        earlier = [chat_example(rng, held_out=False) for _ in range(rng.randrange(1, 3))]
        example = replace(example, history=tuple((e.question, e.answer) for e in earlier))
    return example


def held_out_example(rng: random.Random) -> Example:
    """One evaluation example of chat, in a wording that is never trained on."""
    return chat_example(rng, held_out=True)


def held_out_any(rng: random.Random) -> Example:
    """What the training run watches: chat and tasks, in wordings never trained on."""
    return _task(rng, rng.random(), held_out=True) or chat_example(rng, held_out=True)
