"""Word problems: the stories of arithmetic_stories.txt with people, things and numbers put in.

Names and things are drawn from wide pools, with invented ones among them: what a story is about
must not matter, only what happens in it.
"""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from capabilities.slm.training.expressions import (
    LONGEST,
    Expression,
    exact_value,
    filled,
    numbers,
    solve,
)
from capabilities.slm.training.wordings import fill
from capabilities.slm.training.working import OutOfRange

if TYPE_CHECKING:
    import random

STORIES_FILE = Path(__file__).with_name("arithmetic_stories.txt")
_SIGNS: dict[type[ast.operator], str] = {ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/"}
_DECIMAL_SHARE = 0.06
_DISTRACTED_SHARE = 0.1
_FRAMED_SHARE = 0.12  # of the stories to train on: people greet, set a scene, ask politely
_WHOLE_SHARE = 0.9  # of the results: apples come whole, litres need not
_TRIES = 300  # most draws of numbers fit a story within a few; one in thousands needs a hundred
_COMMUTATIVE = (("x", "+", "y"), ("x", "*", "y"))


@dataclass
class Kind:
    """One calculation and the stories that lead to it."""

    form: Expression
    stories: list[str] = field(default_factory=list)
    held_out: list[str] = field(default_factory=list)


def parse_form(text: str) -> Expression:
    """`(x+y)*z` as an expression of letters."""

    def convert(node: ast.expr) -> Expression:
        if isinstance(node, ast.BinOp):
            return convert(node.left), _SIGNS[type(node.op)], convert(node.right)
        if isinstance(node, ast.Constant):
            return str(node.value)
        assert isinstance(node, ast.Name)
        return node.id

    return convert(ast.parse(text, mode="eval").body)


@cache
def load_kinds() -> tuple[Kind, ...]:
    """The kinds of arithmetic_stories.txt, in order."""
    kinds: list[Kind] = []
    for raw in STORIES_FILE.read_text().splitlines():
        mark, _, text = raw.partition(" ")
        if mark == "=":
            kinds.append(Kind(parse_form(text)))
        elif mark == "?":
            kinds[-1].stories.append(text)
        elif mark == "!":
            kinds[-1].held_out.append(text)
    return tuple(kinds)


_PEOPLE = """
Anna Tom Maria Ben Lena Paul Nina Omar Sara Max Ida Leo Mia Noah Emma Jessica Thomas Brenda Dan
Sandy Joan Mike Tim Sally Fred Jason Alyssa Keith Mary Sam Melanie Nancy Jane Kate Carol Ruth
Victor Rita Hugo Clara Felix Rosa Ivan Julia Karl Lisa Oscar Petra Simon Vera Walter Zoe Ali Aisha
Chen Wei Yuki Raj Priya Diego Carmen Pierre Elena Mr.Hill Mrs.Brown Jack Emily Sophie Daniel
Ahmed Beth Charlie Dora Erik Fatima George Hannah Igor Jonas Kim Luis Marta Nadia Otto Pablo Quinn
Robin Stella Tara Uma Vince Wendy Yusuf Zara Amir Bella Connor Deepa Ewan Greta Hana Mr.Young
Mrs.Lopez
"""
_THINGS = """
apples pears books pencils coins marbles cookies eggs flowers trees cars tickets oranges bananas
cards stamps balloons shells stones buttons toys dolls balls cakes cupcakes sandwiches peaches
plums lemons cherries grapes nuts seeds roses tulips candles cups plates bottles glasses spoons
forks boxes bags baskets pens crayons erasers notebooks pages letters photos pictures stickers
beads ribbons shirts socks hats shoes blocks bricks chairs tables desks lamps lights sensors
boards phones cameras laptops nodes batteries cables screws nails tiles birds fish ducks cats dogs
horses cows sheep rabbits bees puppies kittens frogs butterflies children students teachers
players friends people songs games points goals dollars dimes quarters pennies pounds gallons
cartons muffins pizzas pies potatoes carrots tomatoes onions pumpkins watermelons strawberries
chocolates candies
hammers drills bolts wires magnets chips keys locks ropes bells drums flutes rackets skates kites
tents maps stools sofas pillows blankets towels mirrors clocks watches rings combs brushes scarves
gloves jackets coats boots buckets ladders shovels spades pots pans kettles mugs trays lids knives
loaves rolls waffles pancakes biscuits sweets raisins olives beans peas peppers cabbages melons
mangoes figs hens goats pigs geese ants snails turtles foxes bushes branches robots meters motors
wheels wagons boats planes bikes
"""
_PLACES = """
garden park box basket bag room house school class shop store farm field tree lake pond river
kitchen drawer table shelf library zoo jar bowl truck bus yard desk museum station market city
barn cellar office workshop harbour forest hall hotel theatre attic van chest bakery stable
"""
_COLOURS = "red blue green yellow white black brown orange purple pink grey old new big small"
_DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday"
_CONTAINERS = (
    "boxes bags baskets jars packs crates rows groups bowls piles shelves cartons tables "
    "trays sacks tins drawers bundles stacks chests"
)
_SYLLABLES = "ba ko ri ten mo lu sha der vin pol gra zi fen tor cal um pri ost ny hel qua jo"
_DISTRACTIONS = (
    "It is day #.",
    "There are also # @V.",
    "@O has # @V.",
    "@O is # years old.",
    "# @V are not needed.",
    "The bus number is #.",
    "@O came # minutes late.",
    "The @P opened # years ago.",
)
_OPENINGS = (
    "It was a (rainy|sunny|cold|windy|long|quiet) @D.",
    "(Here is|This is) a (small|short|simple|little) (question|problem|puzzle) (for you|).",
    "@O likes @V (very much|a lot|).",
    "(I have a question|Help me with this|Listen|Let us see|Imagine this|Think about this).",
    "(Everyone|The whole family|The team) was (at|near) the @P.",
    "(Hello|Hi), can you help me (with this|).",
    "(Last|One) @D something happened (at|near) the @P.",
)
_CLOSINGS = (
    "(Please think|Think) (carefully|step by step).",
    "(Please give|Give|Tell me|Write) (the|only the) (answer|number|result).",
    "(Thanks|Thank you|Show your work|Explain your answer|Take your time).",
)


def _invented(rng: random.Random) -> str:
    return "".join(rng.choice(_SYLLABLES.split()) for _ in range(rng.randrange(2, 4)))


def _two(rng: random.Random, words: str, *, plural: bool | None) -> tuple[str, str]:
    """Two different words, a fifth of them invented; `plural` None: never invented."""
    found: list[str] = []
    while len(found) < 2:
        word = rng.choice(words.split()).replace(".", ". ")
        if plural is not None and rng.random() < 0.2:
            word = _invented(rng) + "s" if plural else _invented(rng).capitalize()
        if word not in found:
            found.append(word)
    return found[0], found[1]


def _number(rng: random.Random) -> str:
    draw = rng.random()
    if draw < _DECIMAL_SHARE:
        places = rng.choice((1, 1, 2))
        return f"{rng.randrange(1, 10 ** rng.randrange(2, 4)) / 10**places:.{places}f}"
    return str(rng.randrange(2, rng.choices((10, 20, 100, 1000), weights=(4, 3, 5, 1))[0]))


def _numbers_for(rng: random.Random, form: Expression) -> Expression:
    """`form` with numbers for which the story makes sense: nothing negative, nothing rounded."""
    letters = sorted(set(numbers(form)))
    whole = rng.random() < _WHOLE_SHARE
    for _ in range(_TRIES):
        values = {letter: _number(rng) for letter in letters}
        for part in _parts(form):
            if part[1] == "/" and isinstance(part[0], str) and isinstance(part[2], str):
                divisor = max(2, int(float(values[part[2]])))
                values[part[2]] = str(divisor)
                values[part[0]] = str(divisor * rng.randrange(2, 100))
        expression = filled(form, values)
        try:
            value = exact_value(expression)
            if value <= 0 or (whole and value.denominator != 1):
                continue
            solved = solve(expression)
            if solved.rounded or len(solved.scratchpad) > LONGEST:
                continue
        except (OutOfRange, ZeroDivisionError):
            continue
        if all(exact_value(part) >= 0 for part in _parts(expression)):
            return expression
    raise OutOfRange(f"no numbers for {form}")


def _parts(expression: Expression) -> list[tuple[Expression, str, Expression]]:
    """The expression and those inside it that are no bare number."""
    if isinstance(expression, str):
        return []
    return [expression, *_parts(expression[0]), *_parts(expression[2])]


def story(rng: random.Random, *, held_out: bool) -> tuple[str, Expression]:
    """A word problem and the calculation that it asks for."""
    kinds = load_kinds()
    # Most problems that people pose have one step.
    weights = [4 if len(numbers(kind.form)) == 2 else 1 for kind in kinds]
    kind, expression = _drawn(rng, kinds, weights)
    pattern = rng.choice(kind.held_out if held_out else kind.stories)
    text = _told(rng, pattern, kind.form, expression, framed=not held_out)
    if kind.form in _COMMUTATIVE and _letter_order(pattern) == ["y", "x"]:
        assert not isinstance(expression, str)
        left, operation, right = expression
        expression = right, operation, left  # as the story tells them
    return text, expression


def _drawn(
    rng: random.Random, kinds: tuple[Kind, ...], weights: list[int]
) -> tuple[Kind, Expression]:
    while True:
        kind = rng.choices(kinds, weights=weights)[0]
        try:
            return kind, _numbers_for(rng, kind.form)
        except OutOfRange:
            continue  # no luck with this kind: another


def _letter_order(pattern: str) -> list[str]:
    return re.findall(r"(?<![\w@'])[xy](?!\w)", pattern)[:2]


def _frame(rng: random.Random) -> tuple[str, str]:
    """A sentence without numbers to open a story or one to close it; mostly neither."""
    if rng.random() >= _FRAMED_SHARE:
        return "", ""
    if rng.random() < 0.5:
        return _fill_nested(rng, rng.choice(_OPENINGS)), ""
    return "", _fill_nested(rng, rng.choice(_CLOSINGS))


def _told(
    rng: random.Random,
    pattern: str,
    form: Expression,
    expression: Expression,
    *,
    framed: bool = False,
) -> str:
    values = dict(zip(numbers(form), numbers(expression), strict=True))
    text = _fill_nested(rng, pattern)
    opening, closing = _frame(rng) if framed else ("", "")
    if rng.random() < _DISTRACTED_SHARE:
        extra = rng.choice(_DISTRACTIONS).replace("#", str(rng.randrange(2, 100)))
        head, full_stop, tail = text.partition(". ")
        text = f"{head}. {extra} {tail}" if full_stop else f"{extra} {text}"
    stop = "" if text.endswith(".") else "?"  # "Find the number of ..." is no question
    text = " ".join(part for part in (opening, text + stop, closing) if part)
    # Numbers go in before names: a name may hold any letter.
    text = re.sub(r"(?<![\w@'])([xyzw])(?!\w)", lambda found: values[found[1]], text)
    name, other = _two(rng, _PEOPLE, plural=False)
    third = _two(rng, _PEOPLE, plural=None)[0]
    thing, second = _two(rng, _THINGS, plural=True)
    colour, another = _two(rng, _COLOURS, plural=None)
    day, later = _two(rng, _DAYS, plural=None)
    put = {
        "N": name,
        "M": other,
        "O": third,
        "T": thing,
        "U": second,
        "V": _two(rng, _THINGS, plural=True)[0],
        "P": rng.choice(_PLACES.split()),
        "K": colour,
        "L": another,
        "D": day,
        "E": later,
        "C": rng.choice(_CONTAINERS.split()),
    }
    text = re.sub(r"@([A-Z])", lambda found: put[found[1]], text)
    if rng.random() < 0.5:
        for he, she in (("he", "she"), ("He", "She"), ("him", "her"), ("his", "her")):
            text = re.sub(rf"\b{he}\b", she, text)
    return _punctuated(rng, text[:1].upper() + text[1:])


def _fill_nested(rng: random.Random, pattern: str) -> str:
    """`fill` from the innermost choice outwards."""
    while "(" in pattern:
        pattern = fill(rng, pattern)
    return re.sub(r" ([.,;?])", r"\1", " ".join(pattern.split()))


def _punctuated(rng: random.Random, text: str) -> str:
    """`text` with the marks as people and data sets set them."""
    draw = rng.random()
    if draw < 0.25:
        return " ".join(re.sub(r"([.,;?])(?= |$)", r" \1 ", text).split())
    if draw < 0.35:
        return text.rstrip("?")
    if draw < 0.4:
        return text.lower()
    return text
