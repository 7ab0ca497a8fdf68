"""When two answers are the same: the door, and those that are built in.

A comparison is a function of a found answer and a right one that returns a number in [0, 1]. Where it has an attribute
``normal``, a function from an answer to the text that stands for all equal ones, votes are united by it. ``math`` is
the verifier of the mathematics tasks, which works in processes of its own; it is named here and lives in
:mod:`sharpen.llm.tasks.verification`.
"""

from __future__ import annotations

import re
import string
import unicodedata
from collections.abc import Callable
from fractions import Fraction
from typing import Any, TypeAlias

from sharpen.objective.registry import Registry

Comparison: TypeAlias = Callable[[str, str], float]
MATH = "math"
LONGEST = 1000  # characters of an answer that is compared; a longer one is wrong, and votes by its first ones
_NUMBER = re.compile(r"([+-]?)(?:(\d{1,400})(?:\.(\d{0,400}))?|\.(\d{1,400}))(?:/(\d{1,400}))?")
_ARTICLES = ("a ", "an ", "the ")
_QUOTES = str.maketrans("’‘“”", "''\"\"")


def normal_words(answer: str) -> str:
    """Return words in lower case without punctuation around them, accents, a leading article, and runs of blanks.

    Example:
        >>> normal_words("  The  Côte d’Ivoire. "), normal_words("un-do"), normal_words("...")
        ("cote d'ivoire", 'un-do', '')
    """
    plain = unicodedata.normalize("NFKD", answer[:LONGEST].translate(_QUOTES).casefold())
    letters = "".join(c for c in plain if not unicodedata.combining(c))
    words = " ".join(word.strip(string.punctuation) for word in letters.split())
    text = " ".join(words.split())
    return next((text.removeprefix(article) for article in _ARTICLES if text.startswith(article)), text)


def normal_number(answer: str) -> str:
    """Return a number in lowest terms, or the squeezed text of what is no number.

    Example:
        >>> normal_number("1,204.50"), normal_number("2/4"), normal_number("007."), normal_number("seven")
        ('2409/2', '1/2', '7', 'seven')
    """
    found = _number(answer)
    return normal_exact(answer) if found is None else str(found)


def normal_exact(answer: str) -> str:
    """Return the text without the blanks around it, and single blanks within."""
    return " ".join(answer[:LONGEST].split())


def words(answer: str, right: str) -> float:
    """Return 1.0 for the same words: case, accents, punctuation around words, a leading article and blanks say nothing.

    Example:
        >>> words("Paris.", "paris"), words("", "..."), words("up", "down")
        (1.0, 0.0, 0.0)
    """
    return _same(normal_words, answer, right)


def number(answer: str, right: str) -> float:
    """Return 1.0 for the same value: ``007``, ``7.0`` and ``14/2`` are one number.

    Example:
        >>> number("14/2", "7.0"), number("7 apples", "7")
        (1.0, 0.0)
    """
    one, other = _number(answer), _number(right)
    return float(one is not None and one == other)


def exact(answer: str, right: str) -> float:
    """Return 1.0 for the same text, up to blanks.

    Example:
        >>> exact(" a  b ", "a b"), exact("A", "a")
        (1.0, 0.0)
    """
    return _same(normal_exact, answer, right)


def math(answer: str, right: str) -> float:
    """Never called: :class:`sharpen.llm.tasks.answers.form.AnswerForm` gives the verifier all pairs at once."""
    raise AssertionError("the verifier compares")


def _same(normal: Callable[[str], str], answer: str, right: str) -> float:
    if max(len(answer), len(right)) > LONGEST:
        return 0.0
    one = normal(answer)
    return float(bool(one) and one == normal(right))


def _number(answer: str) -> Fraction | None:
    text = answer.strip().rstrip(".").replace("−", "-").replace("$", "").strip()
    text = re.sub(r"(?<=\d),(?=\d{3}(?!\d))", "", text)
    found = _NUMBER.fullmatch(text)
    if found is None:
        return None
    sign, whole, decimals, only, below = found.groups()
    digits = decimals or only or ""
    value = Fraction(int((whole or "") + digits or "0"), 10 ** len(digits))
    if below is not None:
        if int(below) == 0:
            return None
        value /= int(below)
    return -value if sign == "-" else value


def _check(part: object) -> None:
    if not callable(part):
        raise TypeError("a function of a found answer and a right one that returns a number in [0, 1]")


for _function, _normal in ((words, normal_words), (number, normal_number), (exact, normal_exact)):
    _marked: Any = _function
    _marked.normal = _normal
COMPARISONS: Registry[Comparison] = Registry("comparison", _check)
COMPARISONS.register(MATH, f"{__name__}:math")
COMPARISONS.register("words", f"{__name__}:words")
COMPARISONS.register("number", f"{__name__}:number")
COMPARISONS.register("exact", f"{__name__}:exact")
