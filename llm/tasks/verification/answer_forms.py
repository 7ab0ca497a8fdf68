r"""One form for the many ways to write an answer, and what can be said of two answers without algebra.

:func:`canonical` undoes typography (Unicode signs, fonts, spaces, delimiters, trailing punctuation) and writes mixed
numbers, powers of ten, empty sets and the real line in one way. :func:`judge` then decides what needs no algebra: equal
texts, rational numbers, words, times of day, numerals of a base, units that contradict each other. All else is
math-verify's, in :mod:`sharpen.llm.tasks.verification.worker`. Nothing is evaluated but integers of bounded size.
"""

from __future__ import annotations

import re
import unicodedata
from fractions import Fraction

MOST_DIGITS, LARGEST_EXPONENT = 400, 1000  # of numbers that are compared as such

_FONTS = "boldsymbol|bm|mathbf|mathit|mathsf|mathtt|mathnormal|underline|uline|ensuremath|bf|it|sf|boldmath"
_WORDS = "mathrm|textrm|textbf|textit|textnormal|textsf|texttt|mbox|hbox|operatorname|emph"
_SIGNS = {
    **dict.fromkeys("−–—‒‐﹣", "-"),
    **dict.fromkeys("·⋅∙", r" \cdot "),
    "×": r" \times ",
    "÷": "/",
    "∕": "/",
    "⁄": "/",
    "±": r"\pm ",
    "∓": r"\mp ",
    "∞": r"\infty ",
    "∅": r"\emptyset ",
    "≤": r"\le ",
    "⩽": r"\le ",
    "≥": r"\ge ",
    "⩾": r"\ge ",
    "≠": r"\ne ",
    "≈": r"\approx ",
    "∪": r"\cup ",
    "∩": r"\cap ",
    "∈": r"\in ",
    "°": r"^\circ ",
    "ℝ": r"\mathbb{R}",
    "″": "''",
    "′": "'",
    **dict.fromkeys("€£¥₹", ""),
    "“": '"',
    "”": '"',
    "’": "'",
    "‘": "'",
}
_ROOTS = {"√": r"\sqrt", "∛": r"\sqrt[3]", "∜": r"\sqrt[4]"}
_TYPOGRAPHY = [
    (re.compile(r"\$"), ""),
    (re.compile(r"\\(?:left|right|bigl|bigr|Bigl|Bigr|big|Big|bigg|Bigg)(?![a-zA-Z])\s*\.?(?=[\s\\()\[\]{}|.])"), ""),
    (re.compile(rf"\\(?:{_WORDS})(?![a-zA-Z])\s*(?=\{{)"), r"\\text"),
    (re.compile(r"\\(?:displaystyle|textstyle|limits|rm|normalsize|large|Large|boxed)(?![a-zA-Z])"), ""),
    (re.compile(r"\\[dtc]frac(?![a-zA-Z])"), r"\\frac"),
    (re.compile(r"\{\s*,\s*(?:\\!)?\s*\}"), ","),
    (re.compile(r"\\!"), ""),
    (re.compile(r"\\[,;: >]|~|\\q?quad(?![a-zA-Z])"), " "),
    (re.compile(r"\\(?:lbrace)(?![a-zA-Z])"), r"\\{"),
    (re.compile(r"\\(?:rbrace)(?![a-zA-Z])"), r"\\}"),
    (re.compile(r"\\(?:leq|leqslant|leqq)(?![a-zA-Z])"), r"\\le"),
    (re.compile(r"\\(?:geq|geqslant|geqq)(?![a-zA-Z])"), r"\\ge"),
    (re.compile(r"\\neq(?![a-zA-Z])"), r"\\ne"),
    (re.compile(r"\\(?:varnothing|O)(?![a-zA-Z])|\\\{\s*\\\}"), r"\\emptyset"),
    (re.compile(r"\^\s*\{\s*\\circ\s*\}|\\degree(?![a-zA-Z])"), r"^\\circ"),
]
_FONT_GROUP = re.compile(rf"\\(?:{_FONTS})\s*\{{([^{{}}]*)\}}")
_FONT = re.compile(rf"\\(?:{_FONTS})(?![a-zA-Z])")
_MIXED = re.compile(
    r"(?<![\w.}^])(?P<whole>\d{1,30})\s*(?:\\frac\s*\{\s*(?P<a>\d{1,30})\s*\}\s*\{\s*(?P<b>\d{1,30})\s*\}|\s+(?P<c>\d{1,30})\s*/\s*(?P<d>\d{1,30}))(?![\w.^/])"
)
_TEN = re.compile(r"(?<![\w.}])(\d+(?:\.\d*)?|\.\d+)[eE]([+-]?\d{1,4})(?![\w.{])")
_SHORT_FRACTION = re.compile(r"\\frac\s*(?:(\d)\s*(\d)|\{([^{}]*)\}\s*(\d)|(\d)\s*\{([^{}]*)\})")
_NOTHING = re.compile(
    r"(?:there (?:is|are) )?no (?:(?:real|valid|possible|such|integer) )*(?:solutions?|roots?)(?: exists?)?"
    r"|(?:the )?(?:empty|null) set|none"
)
_REALS = re.compile(
    r"(?:x\s*\\in\s*)?\\mathbb\s*\{?\s*R\s*\}?|(?:all |the )?(?:real numbers|reals)|all real (?:numbers|x|values?)"
)
# Digits in groups of three, before and after the point; others that a blank parts are no number.
_GROUPED = re.compile(r"(?<![\d.,])\d{1,3}(?: \d{3})+(?!\d)|(?<=\.)\d{3}(?: \d{3})*(?: \d{1,3})?(?!\d)")
_APART = re.compile(r"[-+\d./ ]*\d \d[-+\d./ ]*")
_NUMBER = re.compile(r"[+-]?\s*(?:\d{1,3}(?:,\d{3})+|\d+)?(?:\.\d*)?")
_FRACTION = re.compile(r"([+-]?)\\frac\{([^{}]*)\}\{([^{}]*)\}|([+-]?[\d.,]+)/([+-]?[\d.,]+)")
_POWER = re.compile(r"(?:([+-]?[\d.,]+)(?:\\cdot|\\times|\*))?10\^\{?([+-]?\d{1,4})\}?")
_REPEATING = re.compile(r"([+-]?)(\d*)\.(\d*)\\overline\{(\d{1,40})\}")
_CLOCK = re.compile(r"(\d{1,2})(?::(\d\d))?\s*([ap])\.?\s*m\.?|(\d{1,2}):(\d\d)")
_HALF_DAY = re.compile(r"[ap]\.?\s*m(?![a-z])")
_BASED = re.compile(r"([0-9A-Fa-f]{1,200})_\{?(?:\\text\s*\{)?(\d{1,2})\}*")
_COUNTS = [
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"),
    *("thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen", "twenty"),
]
_SHORT_WORDS = ("yes", "no", "odd", "dne")
_COUNTED = re.compile(r"(?P<value>[-+]?\d[\d.,/]*)\s*(?:\\text\s*\{)?\s*[a-zA-Z]{3,}[a-zA-Z ]*\}?")
_CONSTANTS = re.compile(r"(?<![a-zA-Z])(?:pi|sqrt|sin|cos|tan|log|exp|percent|and|or|mod|to|times)(?![a-zA-Z])")
_PLAIN_WORDS = re.compile(r"[A-Za-z][A-Za-z' .,-]*")


def canonical(answer: str) -> str:
    r"""Return an answer in one way of writing; doing it twice is doing it once. No value changes.

    Example:
        >>> canonical("2 1/3."), canonical(r"\boldsymbol{42,}"), canonical("½√3"), canonical("6.02e23")
        ('\\frac{7}{3}', '42', '\\frac{1}{2}\\sqrt{3}', '6.02 \\cdot 10^{23}')
    """
    text = plain_signs(answer).replace("\\$", "\x00")
    for pattern, replacement in _TYPOGRAPHY:
        text = pattern.sub(replacement, text)
    for _ in range(3):
        text = _FONT_GROUP.sub(r"\1", text)
    text = " ".join(_FONT.sub("", text).replace("\x00", "\\$").split())
    text = _unwrapped(text)
    spelled = " ".join(_spoken(text).lower().split())
    if _NOTHING.fullmatch(spelled):
        return r"\emptyset"
    if spelled.removeprefix("minus ") in _COUNTS:
        return ("-" if spelled.startswith("minus ") else "") + str(_COUNTS.index(spelled.removeprefix("minus ")))
    if _REALS.fullmatch(text) or _REALS.fullmatch(spelled):
        return r"(-\infty,\infty)"
    text = _SHORT_FRACTION.sub(_full_fraction, text)
    text = re.sub(r"^minus (?=\d)", "-", text)
    return _MIXED.sub(_improper, _TEN.sub(r"\1 \\cdot 10^{\2}", text)).strip()


def rational(text: str) -> Fraction | None:
    r"""Return the value of a number that is written as one, else None.

    Integers (with thousands' commas), decimals, repeating decimals, fractions of these, and powers of ten.

    Example:
        >>> rational(r"-\frac{1}{2}"), rational(r"6 \cdot 10^{2}"), rational(r"0.\overline{3}"), rational("x")
        (Fraction(-1, 2), Fraction(600, 1), Fraction(1, 3), None)
    """
    text = _without_groups(text)
    if len(text) > MOST_DIGITS or _APART.fullmatch(text):
        return None
    text = re.sub(r"(?<!,) ", "", text)  # "32, 349" is a list
    if (number := _decimal(text)) is not None:
        return number
    if found := _FRACTION.fullmatch(text):
        above, below = _decimal(found[2] or found[4] or ""), _decimal(found[3] or found[5] or "")
        if above is None or not below:
            return None
        return above / below * (-1 if found[1] == "-" else 1)
    if found := _POWER.fullmatch(text):
        factor, exponent = _decimal(found[1] or "1"), int(found[2])
        return None if factor is None or abs(exponent) > LARGEST_EXPONENT else factor * Fraction(10) ** exponent
    if found := _REPEATING.fullmatch(text):
        sign, whole, fixed, period = found.groups()
        tail = Fraction(int(period), (10 ** len(period) - 1) * 10 ** len(fixed))
        return (Fraction(int(whole + fixed or "0"), 10 ** len(fixed)) + tail) * (-1 if sign == "-" else 1)
    return None


def judge(one: str, other: str) -> bool | None:
    """Return whether two canonical answers are the same, or None where only algebra can tell."""
    if one == other:
        return True
    left, right = rational(one), rational(other)
    if left is not None and right is not None:
        if left == right:
            return True
        # A decimal may stand for a number near it, and a comma may separate a list: that is math-verify's to say.
        return None if any(sign in text for text in (one, other) for sign in ".,") else False
    if (left is None) != (right is None) and any(_APART.fullmatch(_without_groups(text)) for text in (one, other)):
        return False  # "3 4" is 3 + 4 to math-verify
    based = _based(one), _based(other)
    if None not in based:
        return based[0] == based[1]
    times = _clock(one), _clock(other)
    if times[0] is not None and times[1] is not None and _HALF_DAY.search(f"{one} {other}".lower()):
        return times[0][0] == times[1][0] and (times[0][1] == times[1][1] or "" in (times[0][1], times[1][1]))
    if " ".join(_spoken(one).split()) == " ".join(_spoken(other).split()):
        return True
    words = _said(one), _said(other)
    return True if words[0] is not None and words[0] == words[1] else None


def without_things(answer: str) -> str:
    r"""Return the number of an answer that counts things, else the answer.

    Example:
        >>> without_things("42 apples"), without_things(r"30\text{ square units}"), without_things("2 pi r")
        ('42', '30', '2 pi r')
    """
    found = _COUNTED.fullmatch(answer)
    return found["value"] if found and not _CONSTANTS.search(answer) else answer


def plain_signs(text: str) -> str:
    r"""Return a text with Unicode's signs in LaTeX, its compatibility forms resolved, invisible characters gone.

    Example:
        >>> plain_signs("x² ≤ ½")
        'x^{2} \\le  \\frac{1}{2}'
    """
    if text.isascii():
        return text
    pieces: list[str] = []
    for char in text:
        kind, _, code = unicodedata.decomposition(char).partition(" ")
        if kind == "<fraction>":
            above, _, below = unicodedata.normalize("NFKC", char).partition("⁄")
            pieces.append(rf"\frac{{{above}}}{{{below}}}" if above and below else char)
        elif kind in ("<super>", "<sub>") and char not in "ªº™":
            plain, mark = "".join(chr(int(c, 16)) for c in code.split()), "^" if kind == "<super>" else "_"
            if pieces and pieces[-1].startswith(f"{mark}{{"):
                pieces[-1] = pieces[-1][:-1] + plain + "}"
            else:
                pieces.append(f"{mark}{{{plain}}}")
        elif unicodedata.category(char) != "Cf":
            pieces.append(_SIGNS.get(char) or _greek(char) or char)
    text = unicodedata.normalize("NFKC", "".join(pieces)).replace("−", "-")
    for sign, command in _ROOTS.items():
        text = re.sub(rf"{sign}\s*(?:\(([^()]*)\)|(\d+|\w))", lambda m, c=command: f"{c}{{{m[1] or m[2]}}}", text)
        text = text.replace(sign, command)
    return text


def _greek(char: str) -> str | None:
    name = unicodedata.name(char, "")
    if not re.fullmatch(r"GREEK (?:SMALL|CAPITAL) LETTER \w+", name):
        return None
    letter = name.rpartition(" ")[2].lower().replace("lamda", "lambda")
    return "\\" + (letter if "SMALL" in name else letter.capitalize()) + " "


def _unwrapped(text: str) -> str:
    """Return a text without formula delimiters, emphasis and braces around it, nor punctuation after it."""
    while True:
        before = text
        text = re.sub(r"\s*(?:\\\\|[.,;:])+$", "", text.strip("*` \t").removeprefix("=")).strip()
        for start, end in (("\\(", "\\)"), ("\\[", "\\]"), ("{", "}")):
            inside = text[len(start) : -len(end)]
            if text.startswith(start) and text.endswith(end) and len(text) > 2 and not inside.endswith("\\"):
                depth, lowest = 0, 0
                for brace in re.findall(r"\\.|[{}]", inside):
                    depth += {"{": 1, "}": -1}.get(brace, 0)
                    lowest = min(lowest, depth)
                if lowest == 0 == depth:
                    text = inside.strip()
        if text == before:
            return text


def _spoken(text: str) -> str:
    r"""Return the text without \text{} around words and a full stop in it."""
    return re.sub(r"\\text\s*\{([^{}]*)\}", r" \1 ", text).strip().rstrip(".")


def _said(text: str) -> str | None:
    """Return what an answer in words says: lower-case, without articles; one letter, as of a choice, as it is."""
    choice = re.fullmatch(r"\(?\s*(?:\\text\s*\{\s*)?\(?\s*([A-Z])\s*\)?\s*\}?\s*\)?", text)
    if choice:
        return choice[1]
    words = " ".join(_spoken(text).split())
    if not _PLAIN_WORDS.fullmatch(words) or len(words) == 1:
        return None
    if len(words) > 3 or "\\text" in text or words.lower() in _SHORT_WORDS:  # AB is not ab, and may be A times B
        words = words.lower()
    words = re.sub(r"[.,]", "", words).replace("-", " ")
    words = re.sub(r"^(?:an?|the)\s+", "", words)
    return "does not exist" if words.lower() == "dne" else words


def _without_groups(text: str) -> str:
    return _GROUPED.sub(lambda found: found[0].replace(" ", ""), text)


def _full_fraction(match: re.Match[str]) -> str:
    above, below = [part for part in match.groups() if part is not None]
    return rf"\frac{{{above}}}{{{below}}}"


def _improper(match: re.Match[str]) -> str:
    whole, above, below = int(match["whole"]), int(match["a"] or match["c"]), int(match["b"] or match["d"])
    if not 0 < above < below:
        return match[0]
    return rf"\frac{{{whole * below + above}}}{{{below}}}"


def _decimal(text: str) -> Fraction | None:
    if not text or not any(char.isdigit() for char in text) or not text.isascii() or not _NUMBER.fullmatch(text):
        return None
    return Fraction(text.replace(",", "").rstrip("."))


def _based(text: str) -> int | None:
    """Return the value of a numeral that names its base."""
    found = _BASED.fullmatch(text.replace(" ", ""))
    if found is None or not 2 <= int(found[2]) <= 36:
        return None
    try:
        return int(found[1], int(found[2]))
    except ValueError:
        return None


def _clock(text: str) -> tuple[int, str] | None:
    """Return a time of day in minutes, of twelve hours, and which half of the day; "" where it does not say."""
    found = _CLOCK.fullmatch(" ".join(_spoken(text).lower().split()))
    if found is None:
        return None
    if found[3]:
        return int(found[1]) % 12 * 60 + int(found[2] or 0), found[3]
    return int(found[4]) % 12 * 60 + int(found[5]), "p" if int(found[4]) > 12 else ""
