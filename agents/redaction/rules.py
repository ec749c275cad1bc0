"""What is recognised as personal data, kind by kind, and what is not.

Found wherever it stands, by shape and checksum:
  e-mail; IBAN (ISO 13616, mod 97); payment cards (Luhn); telephone numbers in international
  form, and in national form for the configured regions; IP and MAC addresses; US social
  security numbers; coordinates with three decimals or more, or in degrees; street addresses of
  common English, German, Dutch, French, Spanish and Italian forms; British and Dutch postcodes.
Found by the words before it:
  dates of birth ("born on", "DOB"); numbers of people ("passport", "patient id", "licence
  plate"); names ("my name is", "Mr", "patient", "my wife"); places ("I live in").
Found by a list:
  common given names, with the surname that follows; the people and places of the configuration.
Not found:
  an uncommon name with no such word before it; names in scripts without capital letters;
  nicknames; dates without context; places without context; what identifies a person only by
  its sum ("the mayor's second wife"); anything spelt out or deliberately disguised.
A node that must be sure asks no cloud.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import msgspec

from agents.redaction.given_names import GIVEN

KIND = re.compile(r"[A-Z][A-Z]{1,15}")


class Find(msgspec.Struct, frozen=True):
    """A span of a text, end exclusive, that is personal data of ``kind``."""

    start: int
    end: int
    kind: str


class Detector(Protocol):
    """Finds personal data; a plug-in is one of these. Reads nothing but the text."""

    def find(self, text: str) -> Iterator[Find]:
        """Every span that it holds for personal data; they may overlap."""


Check = Callable[[str], bool]


class Pattern:
    """A regular expression as a detector. The group ``value``, or all of it, is masked.

    ``check`` decides on the matched text, for checksums. The pattern must not backtrack without
    bound: texts come from outside.
    """

    def __init__(self, kind: str, pattern: str, flags: int = 0, check: Check | None = None) -> None:
        self.kind = kind
        self._pattern = re.compile(pattern, flags)
        self._group: int | str = "value" if "value" in self._pattern.groupindex else 0
        self._check = check

    def find(self, text: str) -> Iterator[Find]:
        """Every match that passes the check."""
        for match in self._pattern.finditer(text):
            start, end = match.span(self._group)
            if start < end and (self._check is None or self._check(match.group(self._group))):
                if self.kind == "PERSON":
                    end = without_possessive(text, start, end)
                yield Find(start, end, self.kind)


def without_possessive(text: str, start: int, end: int) -> int:
    """Where the name itself ends: "Anna's" is Anna and an ending that stays."""
    owner = end - start > 2 and text[end - 1] == "s" and text[end - 2] in "'\u2019"
    return end - 2 if owner else end


class Listed:
    """Words of a list, whole and in any case: the people and places of a household, say."""

    def __init__(self, kind: str, words: Sequence[str]) -> None:
        longest_first = sorted({w.strip() for w in words if w.strip()}, key=len, reverse=True)
        spaced = (r"\s+".join(map(re.escape, word.split())) for word in longest_first)
        self.kind = kind
        self._pattern = re.compile(rf"(?<!\w)(?:{'|'.join(spaced)})(?!\w)", re.IGNORECASE)
        self._empty = not longest_first

    def find(self, text: str) -> Iterator[Find]:
        """Every word of the list."""
        if not self._empty:
            for match in self._pattern.finditer(text):
                yield Find(match.start(), match.end(), self.kind)


# -- checksums, by python-stdnum --------------------------------------------------------------


def is_card(text: str) -> bool:
    """Whether the digits are those of a payment card (ISO/IEC 7812: 13 to 19, Luhn)."""
    from stdnum import luhn

    digits = re.sub(r"\D", "", text)
    return 13 <= len(digits) <= 19 and len(set(digits)) > 1 and bool(luhn.is_valid(digits))


def is_ssn(text: str) -> bool:
    """Whether it can be a US social security number."""
    from stdnum.us import ssn

    return bool(ssn.is_valid(text))


def _is_ip(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


class Ibans:
    """International bank account numbers, in groups or in one piece."""

    _candidate = re.compile(r"(?<![A-Za-z0-9])[A-Za-z]{2}\d{2}(?:[ -]?[A-Za-z0-9]){11,30}")

    def find(self, text: str) -> Iterator[Find]:
        """Every IBAN whose check digits hold; a word that follows it is not part of it."""
        from stdnum import iban

        for match in self._candidate.finditer(text):
            for end in range(match.end(), match.start() + 14, -1):
                piece = text[match.start() : end]
                if piece[-1].isalnum() and iban.is_valid(piece.replace("-", "")):
                    yield Find(match.start(), end, "IBAN")
                    break


class Phones:
    """Telephone numbers, by the phonenumbers library (a port of Google's libphonenumber).

    ``regions``: countries (ISO 3166, two letters) whose national form is recognised too; each
    costs some milliseconds per text. A national number must be written in groups, so that a
    plain number in a sum is left alone.
    """

    _digits = re.compile(r"\d(?:[^\d\n]{0,3}\d){6}")

    def __init__(self, regions: Sequence[str] = ()) -> None:
        self._regions = tuple(region.upper() for region in regions)

    def find(self, text: str) -> Iterator[Find]:
        """Every valid number."""
        if not self._digits.search(text):  # most texts: the library is not even loaded
            return
        import phonenumbers

        for region in (None, *self._regions):
            for match in phonenumbers.PhoneNumberMatcher(text, region):
                if region is None or not match.raw_string.isdigit():
                    yield Find(match.start, match.end, "PHONE")


def _coordinates(text: str) -> bool:
    numbers = [float(number) for number in re.findall(r"-?\d+\.\d+", text)]
    return len(numbers) == 2 and abs(numbers[0]) <= 90 and abs(numbers[1]) <= 180


# -- words ------------------------------------------------------------------------------------

_UPPER = "A-ZÀ-ÖØ-ÞĀĂĄĆČĎĐĒĖĘĚĞĢĪĮİĶŁŃŅŇŌŐŘŚŞŠŢŤŪŮŰŹŻŽ"
_WORD = rf"[{_UPPER}](?:[^\W\d_]|['\u2019-](?=[^\W\d_])){{1,30}}"
_PLAIN = rf"[{_UPPER}][^\W\d_]{{1,30}}"  # without hyphens: two ways to read one are slow
_PARTICLE = r"(?:van|von|der|den|de|del|della|da|di|dos|la|le|bin|ibn|al|el|ter|zu)"
_NAME = rf"{_WORD}(?:[ \t]+(?:{_PARTICLE}[ \t]+){{0,2}}(?:{_WORD}|[{_UPPER}]\.)){{0,3}}"
_SURNAME = rf"[ \t]+(?:{_PARTICLE}[ \t]+){{0,2}}{_WORD}"

_TITLE = (
    r"(?:Mr|Mrs|Ms|Mx|Miss|Dr|Prof|Professor|Doctor|Sir|Madam|Nurse|Herr|Frau|Monsieur|Madame"
    r"|Mme|Mlle|Señora?|Sra?|Dhr|Mevr|Mevrouw|Meneer|Signora?)"
)
_INTRODUCED = (
    r"(?:my name is|my name's|i am called|i'm called|named|called|patient|client|customer"
    r"|employee|resident|tenant|pupil|student|witness|suspect|passenger|sincerely,|regards,"
    r"|yours,|signed|dear|name:|mein name ist|ich heiße|je m'appelle|me llamo|mi chiamo"
    r"|mijn naam is|ik heet|i'm|i am|this is)"
)
_RELATIVE = (
    r"(?:my|his|her|our|their)\s+(?:wife|husband|partner|son|daughter|child|mother|father|mum|mom"
    r"|dad|brother|sister|aunt|uncle|cousin|niece|nephew|grandmother|grandfather|grandma|grandpa"
    r"|boss|manager|friend|neighbou?r|colleague|doctor|teacher|landlord|girlfriend|boyfriend)"
)
# Capitalised words that follow "I am", "dear" or "this is" and are nobody's name.
_NOBODY = """
a an the i it he she we they this that not on in at my your his her our if ok okay sir madam
mr mrs ms mx miss dr prof professor doctor nurse herr frau monsieur madame
all team friend friends customer support everyone monday tuesday wednesday thursday friday
saturday sunday january february march april may june july august september october november
december english french german dutch spanish italian american british european chinese indian
what why how when where who which is are was no yes please thanks hello hi
"""
_NO_NAME = frozenset(_NOBODY.split())

_MONTH = (
    r"(?:jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?"
    r"|sep(?:t(?:ember)?)?|oct(?:ober)?|nov(?:ember)?|dec(?:ember)?)"
)
_DATE = (
    r"(?:\d{4}[-/.]\d{1,2}[-/.]\d{1,2}|\d{1,2}[-/. ]\d{1,2}[-/. ]\d{2,4}"
    rf"|\d{{1,2}}(?:st|nd|rd|th|\.)?\s+(?:of\s+)?{_MONTH}\.?,?\s+\d{{4}}"
    rf"|{_MONTH}\.?\s+\d{{1,2}}(?:st|nd|rd|th)?,?\s+\d{{4}})"
)

_STREET = (
    r"(?:Street|St|Road|Rd|Avenue|Ave|Lane|Ln|Drive|Dr|Boulevard|Blvd|Court|Ct|Crescent|Close"
    r"|Place|Square|Sq|Terrace|Way|Row|Gardens|Grove|Hill|Mews|Parkway|Pkwy|Highway|Hwy)"
)
_GERMANIC = (
    r"(?:straße|strasse|str\.|gasse|platz|weg|allee|ring|ufer|damm|straat|laan|plein|gracht"
    r"|kade|dijk|singel)"
)
_ROMANCE = (
    r"(?:rue|avenue|boulevard|place|chemin|impasse|quai|calle|avenida|plaza|paseo|via|viale"
    r"|piazza|corso|rua|praça)"
)
_OF = r"(?:[^\W\d_]{1,20}['\u2019 -]){0,4}"  # "de la", "dell'", "Saint-"
_POSTCODE = (
    r"(?:[A-Z]{1,2}\d[A-Z\d]?[ ]?\d[A-Z]{2}|\d{4}[ ]?[A-Z]{2}|(?:[A-Z]{2}[ ])?\d{5}(?:-\d{4})?)"
)
_TOWN = rf"(?:,?[ \t]+(?:{_POSTCODE}[ \t]+)?{_WORD}(?:[ \t]+{_WORD})?)?(?:,?[ \t]+{_POSTCODE})?"

_NUMBERED = (
    r"(?:passport|id(?:entity)?[ -]card|driv(?:er'?s|ing) licen[cs]e|licen[cs]e plate|number plate"
    r"|registration plate|social security|ssn|national insurance|nino|nhs|bsn|nir|aadhaar|pan"
    r"|tax(?:payer)? id|tin|vat id|steuer-?id|personalausweis|patient|customer|client|member"
    r"|employee|student|policy|insurance|account|case|badge|medical record|mrn|iban|swift"
    r"|routing|pin|serial)"
)


def _is_number(text: str) -> bool:
    return sum(character.isdigit() for character in text) >= 2


def _is_name(text: str) -> bool:
    return text.split(maxsplit=1)[0].casefold() not in _NO_NAME


def shapes(regions: Sequence[str] = ()) -> tuple[Detector, ...]:
    """What is found by shape, checksum or the words before it; earlier ones win a tie."""
    i = re.IGNORECASE
    near = r"(?:\s*(?:number|numbers|no\.?|nr\.?|id|code|#))?\s*(?:is|are|was|:|=|#)?\s*"
    return (
        Pattern("EMAIL", r"(?<![\w.+-])[\w.+-]{1,64}@(?:[\w-]{1,63}\.){1,8}[^\W\d_]{2,24}"),
        Ibans(),
        Pattern("CARD", r"(?<!\d)(?<!\d[ -])\d(?:[ -]?\d){12,18}(?![ -]?\d)", check=is_card),
        Pattern(
            "BIRTHDATE",
            rf"\b(?:born|birth|dob|d\.o\.b\.?|birthday|geboren|née?|nacid[oa]|nat[oa])\b"
            rf"[^\n\d]{{0,24}}?(?P<value>{_DATE})",
            i,
        ),
        Pattern("ID", r"(?<![\d-])\d{3}-\d{2}-\d{4}(?![\d-])", check=is_ssn),
        Pattern(
            "ID",
            rf"(?i:\b{_NUMBERED}\b{near})(?P<value>[A-Z0-9](?:[ /-]?[A-Z0-9]){{3,23}}"
            r"|[A-Za-z0-9-]{4,24})(?![A-Za-z0-9])",
            check=_is_number,
        ),
        Phones(regions),
        Pattern(
            "PHONE",
            r"\b(?:phone|telephone|tel|mobile|cell|fax|call|text|ring|whatsapp|telefon|handy"
            rf"|téléphone|teléfono|telefoon)\b\.?{near}(?:me |us |him |her |them )?(?:on |at )?"
            r"(?P<value>\+?\(?\d(?:[ ()./-]{0,2}\d){6,14})",
            i,
        ),
        # As written in North America; other countries' national forms: ``regions``.
        Pattern("PHONE", r"(?<![\w.-])(?:\(\d{3}\)[ ]?|\d{3}[-.])\d{3}[-.]\d{4}(?![\w-]|\.\d)"),
        Pattern("IP", r"(?<![\w.])\d{1,3}(?:\.\d{1,3}){3}(?![\w.]\d)", check=_is_ip),
        Pattern("IP", r"(?<![\w:])[0-9a-fA-F:]{2,39}(?:%\w{1,15})?(?![\w:])", check=_is_ipv6),
        Pattern("MAC", r"(?<![\w:-])[0-9a-fA-F]{2}(?:[:-][0-9a-fA-F]{2}){5}(?![\w:-])"),
        Pattern(
            "COORDINATES",
            r"(?<![\w.])-?\d{1,2}\.\d{3,}°?[ ]?[NS]?[,; ][ ]?-?\d{1,3}\.\d{3,}°?(?:[ ]?[EW]\b)?"
            r"(?!\.?\d)",
            check=_coordinates,
        ),
        Pattern(
            "COORDINATES",
            r"\d{1,2}°[ ]?\d{1,2}['\u2032](?:[ ]?\d{1,2}(?:\.\d+)?[\"\u2033])?[ ]?[NS],?[ ]{0,2}"
            r"\d{1,3}°[ ]?\d{1,2}['\u2032](?:[ ]?\d{1,2}(?:\.\d+)?[\"\u2033])?[ ]?[EWO]\b",
        ),
        Pattern(
            "COORDINATES",
            r"\blat(?:itude)?\s*[:=]?\s*(?P<value>-?\d{1,2}(?:\.\d+)?[,;]?\s{1,3}"
            r"(?:and\s+)?lon(?:g(?:itude)?)?\s*[:=]?\s*-?\d{1,3}(?:\.\d+)?)",
            i,
        ),
        Pattern(
            "ADDRESS",
            rf"(?<!\w)(?:(?:Flat|Apt|Apartment|Unit|Suite)\.?[ ]\w{{1,5}},?[ ])?"
            rf"\d{{1,5}}[A-Za-z]?,?[ ](?:{_WORD}[ ]){{1,4}}{_STREET}\b\.?{_TOWN}",
        ),
        Pattern(
            "ADDRESS",
            rf"(?<!\w)(?:{_PLAIN}[ -]){{0,2}}(?:{_PLAIN}{_GERMANIC}|{_PLAIN}[ -]"
            rf"(?i:{_GERMANIC}))[ ]\d{{1,4}}[ ]?[a-zA-Z]?(?!\w){_TOWN}",
        ),
        Pattern(
            "ADDRESS",
            rf"(?<!\w)(?:\d{{1,4}}(?:[ ]bis)?,?[ ])(?i:{_ROMANCE})[ ]{_OF}{_PLAIN}{_TOWN}",
        ),
        Pattern(
            "ADDRESS",
            rf"(?<!\w)(?i:{_ROMANCE})[ ]{_OF}{_PLAIN},?[ ]\d{{1,4}}(?!\w){_TOWN}",
        ),
        Pattern(
            "ADDRESS",
            r"(?<!\w)(?:[A-Z]{1,2}\d[A-Z\d]?[ ]\d[A-Z]{2}|[1-9]\d{3}[ ][A-Z]{2})(?!\w)",
        ),
        Pattern(
            "PLACE",
            rf"(?i:\b(?:live|lives|lived|stay|stays|reside|resides)\s+(?:in|at|near)|\b(?:born|resident|residing|living)\s+in|\bmy\s+(?:home\s*)?town"
            rf"(?:\s+is|\s+of)?|\bwohne\s+in|\bhabite\s+à|\bwoon\s+in|\bvivo\s+en)\s+"
            rf"(?P<value>{_WORD}(?:[ ]{_WORD}){{0,2}})",
            check=_is_name,
        ),
        Pattern("PERSON", rf"\b{_TITLE}\b\.?[ \t]+(?P<value>{_NAME})", check=_is_name),
        Pattern(
            "PERSON",
            rf"(?i:\b{_INTRODUCED})\s{{1,4}}(?:{_TITLE}\.?\s{{1,2}})?(?P<value>{_NAME})",
            check=_is_introduced,
        ),
        Pattern(
            "PERSON",
            rf"(?i:\b{_RELATIVE}\b(?:,|\s+is|\s+named|\s+called|'s\s+name\s+is)?)\s+"
            rf"(?P<value>{_NAME})",
            check=_is_name,
        ),
        Pattern(
            "PERSON",
            r"\b(?:my name is|my name's|i am called|ich heiße|je m'appelle|me llamo|ik heet)\s+"
            r"(?P<value>[^\W\d_]{2,30}(?:[ ](?!(?:and|but|or|i|what|who|please|is|from)\b)"
            r"[^\W\d_]{2,30})?)",
            i,
            check=_is_name,
        ),
        GivenNames(),
    )


def _is_ipv6(text: str) -> bool:
    return text.count(":") >= 2 and _is_ip(text.partition("%")[0])


def _is_introduced(text: str) -> bool:
    return _is_name(text) and not text.isupper()


class GivenNames:
    """Common given names, capitalised, and the surname that follows: "Anna", "Anna de Vries"."""

    _name = re.compile(rf"(?<![\w@.])(?P<given>{_WORD})(?P<rest>(?:{_SURNAME}){{0,2}})(?!@)")

    def find(self, text: str) -> Iterator[Find]:
        """Every name of the list; of two capitalised words the second may be the given one."""
        place = 0
        while match := self._name.search(text, place):
            given = match["given"]
            if re.split(r"['\u2019-]", given, maxsplit=1)[0].casefold() in GIVEN:
                end = without_possessive(text, match.start(), match.end())
                yield Find(match.start(), end, "PERSON")
                place = match.end()
            else:
                place = match.end("given")


def residues() -> tuple[Detector, ...]:
    """What still looks like personal data in a masked text: wider nets, to refuse, not to mask."""
    return (
        Pattern("EMAIL", r"\w@\w"),
        Pattern("PHONE", r"\+\d(?:[ ()./-]{0,2}\d){6,14}"),
        Pattern("PHONE", r"(?<![\w.:/-])0\d{1,4}[ /.-]\d{2,4}[ /.-]?\d{3,8}(?!\w|[.:]\d)"),
        Pattern("PHONE", r"(?<![\w.])\(\d{2,5}\)[ ]?\d{2,4}[ .-]?\d{2,8}(?!\w|\.\d)"),
        Pattern("CARD", r"(?<![\w.])(?:\d{4}[ -]){3}\d{4}(?!\w|\.\d)"),
        Pattern("IBAN", r"(?<!\w)[A-Z]{2}\d{2}(?:[ ]?[A-Z0-9]{4}){3,7}"),
        Pattern("PERSON", rf"\b(?:Mr|Mrs|Ms|Miss|Dr|Prof)\.?[ ]+(?P<value>{_WORD})"),
        Pattern("PERSON", r"\bmy name is\s+(?P<value>[^\W\d_]{2,})", re.IGNORECASE, check=_is_name),
    )
