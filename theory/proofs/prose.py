"""Sentences with formulas in them: words are typed, formulas are objects.

``say`` refuses a sentence whose typed words hold a formula, so a statement can only be written with expressions that a
printer prints and a derivation looks up among what it has checked.
"""

from __future__ import annotations

import re
import string
from collections.abc import Iterator
from typing import Any

import sympy as sp

from sharpen.theory.proofs.notation import Values, Word
from sharpen.theory.proofs.printers import to_line

# Proper names with a letter or digit of their own, which are no formulas: results, years, estimators, metrics.
NAMES = re.compile(r"\bT\d+\b|\b(?:19|20)\d\d\b|\bk[123]\b|\b(?:pass|maj)@k\b|\blog-[a-z]+|\bp\.\s")
SIGNS = r"[=^<>*/\\_|~$@&#%+\[\]{}\d]|[^\x00-\x7f]|(?:^|\s)-"
FUNCTIONS = r"\b(?:exp|log|ln|tanh|sinh|cosh|sqrt|sum_|prod|lim|arg|max|min|infinity|frac)\b"
SYMBOLS = r"\b(?:alpha|beta|gamma|delta|epsilon|eta|theta|kappa|lambda|mu|nu|pi|rho|ell)\b|(?<!')\b[b-z]\b"
IN_WORDS = r"\b(?:proportional|plus|minus|times|squared|square root|twice|half|double|doubled)\b"
DIRECTIONS = (
    r"\b(?:attracts?|repels?|saddles?|(?:un)?stable|ris(?:es?|ing)|falls?|falling|increas\w+|decreas\w+|grow(?:s|ing)?|"
    r"shrinks?|(?:un)?biased|helps?|hurts?|ahead|behind|positive|negative|vanish(?:es)?|larger|smaller|at most|at "
    r"least|fewer|never|always)\b"
)
FORMULA = re.compile("|".join((SIGNS, FUNCTIONS, SYMBOLS, IN_WORDS, DIRECTIONS)), re.IGNORECASE)


class Text(str):
    """A sentence: the text, formulas on one line, which remembers what it is made of.

    Attributes:
        words: The typed words, before, between and after the parts.
        parts: Expressions, relations, words chosen from expressions, values that a check runs over.
    """

    words: tuple[str, ...]
    parts: tuple[Any, ...]

    def __new__(cls, words: tuple[str, ...], parts: tuple[Any, ...] = ()) -> Text:
        """Return the sentence; :func:`say` checks the words first."""
        pieces = _alternate(words, parts)
        made = super().__new__(cls, "".join(x if isinstance(x, str) else to_line(x) for x in pieces))
        made.words, made.parts = words, parts
        return made

    def pieces(self) -> Iterator[Any]:
        """Yield words as str and formulas as SymPy objects, in order."""
        return _alternate(self.words, self.parts)

    def formulas(self) -> Iterator[sp.Basic]:
        """Yield the expressions that the sentence shows or takes a word from."""
        for part in self.parts:
            if isinstance(part, Text):
                yield from part.formulas()
            elif isinstance(part, Word):
                yield sp.sympify(part.about)
            elif isinstance(part, sp.Basic | sp.MatrixBase):
                yield part  # pyright: ignore[reportReturnType]

    def undecided(self) -> bool:
        """Return whether a word could not be chosen."""
        return any(
            part.undecided() if isinstance(part, Text) else isinstance(part, Word) and not part.text
            for part in self.parts
        )


def _alternate(words: tuple[str, ...], parts: tuple[Any, ...]) -> Iterator[Any]:
    for i, word in enumerate(words):
        yield word
        if i < len(parts):
            yield from _pieces(parts[i])


def _pieces(part: Any) -> Iterator[Any]:
    if isinstance(part, Text):
        yield from part.pieces()
    elif isinstance(part, Word):
        yield part.text or "?"
    elif isinstance(part, Values):
        yield sp.sympify(part.name)
        yield " = " if len(part.values) else ""
        yield ", ".join(f"{x:g}" if isinstance(x, float) else to_line(sp.sympify(x)) for x in part.values)
    else:
        yield part


def say(template: str, *parts: Any) -> Text:
    """Return a sentence.

    Args:
        template: The words, with ``{}`` where the parts go.
        parts: What goes there; numbers become SymPy's.

    Raises:
        ValueError: The words hold a formula, or the number of parts is another.

    Example:
        >>> x = sp.Symbol("x")
        >>> str(say("At {} it is {}.", sp.Eq(x, 2), x**2))
        'At x = 2 it is x^2.'
        >>> say("It is x^2.")
        Traceback (most recent call last):
            ...
        ValueError: 'It is x^2.' has a formula in its words: 'x'
    """
    fields = list(string.Formatter().parse(template))
    words = [literal for literal, _, _, _ in fields]
    if fields and fields[-1][1] is not None:
        words.append("")
    if len(words or [""]) != len(parts) + 1:
        raise ValueError(f"{template!r} has {len(words) - 1} places for {len(parts)} parts")
    for word in words:
        if found := typed_formula(word):
            raise ValueError(f"{template!r} has a formula in its words: {found!r}")
    kept = (part if isinstance(part, Text | Word | Values | sp.MatrixBase) else sp.sympify(part) for part in parts)
    return Text(tuple(words or [""]), tuple(kept))


def typed_formula(words: str) -> str:
    """Return what of some typed words is a formula, or says the sign or direction of one; nothing if none is.

    Example:
        >>> typed_formula("the vertices attract"), typed_formula("T4 by the log-odds of a policy")
        ('attract', '')
    """
    found = FORMULA.search(NAMES.sub(" ", words))
    return found[0].strip() if found else ""
