"""Questions that the general model hands on or declines: calculations, and the wide world.

Words are drawn from wide pools, with invented ones among them, so that what is unfamiliar leads to
"I do not know" rather than to the nearest topic.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from capabilities.slm.training import arithmetic, vocabulary, wordings

if TYPE_CHECKING:
    import random

fill = wordings.fill  # general.py and the classifier's data draw with it too
TOPICS_FILE = Path(__file__).with_name("general_topics.txt")


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


_NUMBER_WORDS = _words(wordings.NUMBER_WORDS)
_WORD_PROBLEMS = (
    "{name} has {a} {thing} and (buys|finds|gets) {b} more, how many (are there|has {name})",
    "i have {a} {thing} and (give away|lose|sell|eat) {b}, how many (are left|do i have left)",
    "there are {a} (boxes|bags|rows) of {b} {thing}, how many {thing} is that",
    "{a} {thing} cost {b} euros each, what do they cost together",
    "how many {thing} are {a} and {b} {thing}",
    "if {name} (shares|divides) {a} {thing} among {b} friends, how many does each get",
)
_WORD_PROBLEMS_HELD_OUT = (
    "{name} carries {a} {thing} and drops {b} of them, how many remain",
    "a {name} box holds {a} {thing}; how many do {b} boxes hold",
    "we count {a} {thing} here and {b} there, how many altogether",
)
_THINGS = _words("""
apples pears books pencils coins marbles cookies eggs flowers trees cars tickets
""")
_PEOPLE = _words("""
anna tom maria ben lena paul nina omar sara max ida leo mia noah emma
""")


_OPERATIONS = _words("""
plus minus times add added subtract subtracted multiply multiplied divided product sum less more
together power root mod half double
""")
_COUNTING = ("how many", "how many", "how much", "altogether", "in total", "are left", "each")


def _story_salad(rng: random.Random) -> str:
    """Two numbers, in figures or words, among anything: wherever they stand, a calculation."""
    common = vocabulary.COMMON.split()
    words = [rng.choice(common) for _ in range(rng.randrange(1, 8))]
    in_words = rng.random() < 0.5
    for _ in "ab":
        figure = str(rng.randrange(1, 10 ** rng.randrange(1, 5)))
        words.insert(
            rng.randrange(len(words) + 1), rng.choice(_NUMBER_WORDS) if in_words else figure
        )
    if rng.random() < 0.5:
        words.insert(rng.randrange(1, len(words)), rng.choice(_OPERATIONS))
    else:
        words.insert(rng.randrange(len(words)), rng.choice(_COUNTING))
        for _ in range(rng.randrange(1, 3)):
            words.insert(rng.randrange(len(words)), rng.choice((*_THINGS, *_PEOPLE)))
    return " ".join(words)


def calculation(rng: random.Random, *, held_out: bool) -> str:
    """A calculation of any kind, in figures, in words or as a story."""
    draw = rng.random()
    if not held_out and rng.random() < 0.25:
        return _story_salad(rng)
    if draw < 0.25:
        pool = _WORD_PROBLEMS_HELD_OUT if held_out else _WORD_PROBLEMS
        question = rng.choice(pool)
        figures = [str(rng.randrange(1, 10 ** rng.randrange(1, 4))) for _ in "ab"]
        if rng.random() < 0.4:
            figures = [rng.choice(_NUMBER_WORDS) for _ in "ab"]
        question = question.replace("{name}", rng.choice(_PEOPLE))
        question = question.replace("{thing}", rng.choice(_THINGS))
        question = fill(rng, question.replace("{a}", figures[0]).replace("{b}", figures[1]))
    elif draw < 0.4:
        question = rng.choice(wordings.DECLINED_OPERATIONS)
        question = question.format(a=rng.randrange(1, 5000), b=rng.randrange(1, 100))
    else:
        task = arithmetic.sample_task(rng, hard=False)
        forms = (wordings.HELD_OUT if held_out else wordings.TRAINING)[task.operation]
        left, right = str(task.left), str(task.right)
        if rng.random() < 0.3:
            left, right = (rng.choice(_NUMBER_WORDS) for _ in "ab")
        question = rng.choice(forms).format(a=left, b=right)
    return question


_PLACES = _words("""
france germany spain italy china japan india brazil canada berlin paris london rome vienna
europe africa america asia norway poland egypt peru kenya
""")
# A comma ends each: some come with their article.
_SUBJECTS = """
love, happiness, money, football, chess, music, physics, chemistry, biology, history, politics, war,
peace, art, poetry, religion, philosophy, cooking, gardening, medicine, law, tax, sleep, cancer,
fever, diabetes, blood, a heart, a dog, a cat, a horse, the moon, the sun, mars, gravity,
electricity, a car, a train, an engine, a book, a novel, a film, a song, soup, bread, coffee, tea,
wine, rice, cheese, a bank, a stock, the economy, inflation, a tree, a flower, a bird, an elephant,
the sea, a river, a mountain
"""
_UNKNOWN = (
    "what is the (weather|temperature|time|date|news|traffic|air quality) "
    "(today|now|tomorrow|like|in {place}|)",
    "(will|does) it (rain|snow|get warm) (today|tomorrow|in {place})",
    "who is the (president|king|queen|chancellor|mayor) of {place}",
    "what is the (capital|population|language|flag|area) of {place}",
    "where is {place}",
    "how (far|big|old|tall|heavy|deep|hot) is {subject}",
    "(write|compose|sing) (a poem|a story|a song|an essay|a letter|a joke|an email) about "
    "{subject}",
    "write (a program|code|a function|a script|a python program) (that sorts a list|for "
    "{subject}|for me)",
    "(how do i|how can i) (cook|make|buy|repair|draw|paint|sell|cure) {subject}",
    "what is {subject}",
    "what (is|are) {noun}",
    "(explain|describe|define) {subject}",
    "tell me (about|something about|more about) {subject}",
    "what do you know about {subject}",
    "what do you think (of|about) {subject}",
    "how does {subject} work",
    "why is {subject} so (important|expensive|big|old|beautiful)",
    "do you (like|love|know|want) {subject}",
    "who (wrote|invented|discovered|painted|won|found) {subject}",
    "when (did|was) {subject} (begin|end|born|built|found)",
    "translate {noun} (to|into) (german|french|spanish)",
    "what does {noun} mean",
    "my (heart rate|pulse|temperature|blood pressure|oxygen) is {n}, (is that bad|is that "
    "normal|should i worry)",
    "i have (a fever|pain in my chest|a cough|a headache), what should i do",
    "(should i|can i) (take|eat|buy|sell|drink) {noun}",
    "what happened in {n}",
    "the air quality index is {n}, (is that good|can i go out|what does it mean)",
    "the (speed|density|flow|temperature|humidity) is {n}, (what now|is that high|is that much)",
    "how much does {subject} cost",
    "(tell me|do you know) (a joke|a story|a secret|the future)",
    "(play|open|close|turn on|turn off|call|book|order) {noun}",
    "(when|where) (does|do) the (train|bus|plane|shop|game) (leave|arrive|open|start)",
    "who is {person}",
    "who (won|wins) the (game|election|war|match|prize)",
    "which (team|party|song|book|car|phone) is the best",
    "what is the meaning of (life|{noun}|this word)",
    "{noun}",
    "{noun} {noun}",
    "what is the {noun} of {noun}",
    "is {noun} (good|bad|better than {noun}|healthy|dangerous)",
    "how (do|can) i {noun} {noun}",
    "summarise (this|the) (text|article|book)",
    "i am (sad|happy|tired|hungry|bored|angry)",
    # Words of the mesh in their everyday sense.
    "(the|a|her|his) doctor (said|gave|wants|found) {noun}",
    "where is a (doctor|good doctor|hospital) in {place}",
    "what is the name of (the|my|this) {noun}",
    "name a {noun}",
    "name the (best|largest|first) {noun} (in|of) {place}",
    "repair (my|the|this) {noun}",
    "correct this (text|program|letter|function) please",
    "which {noun} is the (best|largest|oldest|cheapest)",
    "can you (suggest|propose|find) a (hotel|film|book|{noun}) (in {place}|for me)",
    "how (long|often) does {subject} (take|last|happen)",
    "how many {noun} (are|live) in {place}",
    "does {noun} (lead to|help against|make) {noun}",
    "(say|write|make) (a rhyme|a verse|a line|a song) (on|for|about) {subject}",
    "which party (will win|is right)",
    "(improve|check|write|change) (my|this|the) (code|program|script) (now|please|for me)",
    "(two|five|some|many) (kinds|sorts|types) of {noun}",
    "(list|give me) (some|a few|all) {noun} (of|in) {place}",
    "my (mother|friend|brother|teacher) (says|told me|thinks) (that|to) {noun}",
    "how do (people|you) (live|eat|work) in {place}",
    "(read|tell) (me|us) the (tale|book|legend) of {subject}",
    "{noun} (with|without|or|and) {subject}",
    "in which (year|month|city|country) was {subject} (made|born|found)",
    "(which|what) {noun} will (win|come|be next)",
)
_UNKNOWN_HELD_OUT = (
    "which is the largest city in {place}",
    "how many people live in {place}",
    "could you recommend a restaurant in {place}",
    "give me a recipe with {subject}",
    "is {noun} more expensive than {noun}",
    "what colour does {subject} have",
    "please compose a short verse about {subject}",
    "my doctor told me to take {noun}, is that right",
    "i would like to hear the story of {subject}",
    "how long does a flight to {place} take",
    "name three kinds of {noun}",
    "is it true that {noun} causes {noun}",
    "what year was {subject} invented",
    "fix this code for me",
    "whom should i vote for",
    "which horse will win tomorrow",
)
_SYLLABLES = _words("""
ba ko ri ten mo lu sha der vin pol gra zi fen tor cal um pri ost ny hel qua jo
""")


# Kept for evaluation. They stay what they are when the topics grow, or a model that goes on from
# another one's weights would be asked what it was trained on.
_KEPT = _words("""
abnormal alarms animal available biology borrow calculates cats children complete country
detector division earth email exercise fever flowers fourteen green herself hotel incident
invents lanes litres matter micrograms monitors myself normal oranges password pens plus
president reading result rush sells shelves skin soup stars storm sulphur toward twelve urgent
vitals website yellow
""")


@cache
def outside_words() -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Words that have nothing to do with the mesh: to train on, and held out (one in eight)."""
    topics = TOPICS_FILE.read_text().lower()
    inside = set((vocabulary.COMMON + vocabulary.MESH).split()) | set(re.findall(r"\w+", topics))
    pool = (vocabulary.CONVERSATION + vocabulary.SENSORS + vocabulary.ARITHMETIC).split()
    words = sorted({w.lower() for w in pool if w.isalpha() and len(w) > 3} - inside)
    return tuple(w for w in words if w not in _KEPT), tuple(w for w in words if w in _KEPT)


def invented(rng: random.Random) -> str:
    """A word that nobody has heard."""
    return "".join(rng.choice(_SYLLABLES) for _ in range(rng.randrange(2, 4)))


@cache
def _subjects() -> tuple[str, ...]:
    return tuple(subject.strip() for subject in _SUBJECTS.split(","))


def _salad(rng: random.Random) -> str:
    """Common words in any order around words of the outside world: what is strange is unknown."""
    common = vocabulary.COMMON.split()
    words = [rng.choice(common) for _ in range(rng.randrange(2, 7))]
    for _ in range(rng.randrange(1, 4)):
        words.insert(rng.randrange(len(words) + 1), rng.choice(outside_words()[0]))
    return " ".join(words)


def unknown(rng: random.Random, *, held_out: bool) -> str:
    """Something of the wide world, of which the model knows nothing."""
    if not held_out and rng.random() < 0.3:
        return _salad(rng)
    question = rng.choice(_UNKNOWN_HELD_OUT if held_out else _UNKNOWN)

    def noun(_: re.Match[str]) -> str:
        if rng.random() < 0.25:
            return invented(rng)
        return rng.choice(outside_words()[held_out])

    def subject(found: re.Match[str]) -> str:
        if rng.random() < 0.4:
            return rng.choice(("", "", "a ", "the ", "my ")) + noun(found)
        return rng.choice(_subjects())

    question = re.sub(r"\{noun\}", noun, fill(rng, question))
    question = re.sub(r"\{subject\}", subject, question)
    question = re.sub(r"\{place\}", lambda _: rng.choice(_PLACES), question)
    question = re.sub(r"\{person\}", lambda _: rng.choice(_PEOPLE), question)
    return question.replace("{n}", str(rng.randrange(1, 2100)))
