"""What a problem says, without how it is set: the text by which two problems are the same.

What is dropped is named here, and everything else stays: operators, relations, brackets, bars, percent signs, decimal
points and groups tell problems apart. Unicode's signs and LaTeX's commands for one thing are one sign.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

from sharpen.llm.tasks.verification.answer_forms import plain_signs

KEPT = 2**17  # texts: a training set is compared with each of the test sets, text by text
MOST_ROUNDS = 8  # of a text that changes again when it is normalised again; real ones change once
_LAYOUT = re.compile(
    r"\\(?:left|right|displaystyle|textstyle|limits|big|Big|bigg|Bigg|bigl|bigr|Bigl|Bigr|quad|qquad|boldsymbol|mathbf|bm)"
    r"(?![A-Za-z])|\\[,;:!> ()\[\]]|~|(?<!\\)\$"
)
_TEXT = re.compile(r"\\(?:text|mathrm|textrm|textbf|textit|mbox|emph|operatorname)\s*\{([^{}]*)\}")
_FRACTION = re.compile(r"\\[dtc]?frac(?![A-Za-z])\s*(?:(\d)\s*(\d)(?!\d)|(?=[^A-Za-z]))")
_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}(?!\d))|(?<=\d)\{,\}(?=\d{3}(?!\d))")
_HYPHEN = re.compile(r"(?<=[^\W\d_]{2})-(?=[^\W\d_]{2})")
_TOKEN = re.compile(r"\\[A-Za-z]+|\\[^\sA-Za-z]|\d+(?:\.\d+)?|\.\d+|[^\W\d_]+|<=|>=|(?<=\s)!=|\*\*|\.\.\.|\S")
_ONE = {
    **dict.fromkeys((r"\times", r"\cdot", r"\ast"), "*"),
    **dict.fromkeys((r"\leq", r"\leqslant", "<="), r"\le"),
    **dict.fromkeys((r"\geq", r"\geqslant", ">="), r"\ge"),
    **dict.fromkeys((r"\neq", "!="), r"\ne"),
    **dict.fromkeys((r"\vert", r"\lvert", r"\rvert", r"\mid"), "|"),
    **dict.fromkeys((r"\ldots", r"\cdots", r"\dots", r"\dotsc", "..."), r"\dots"),
    r"\div": "/",
    r"\lt": "<",
    r"\gt": ">",
    r"\%": "%",
    r"\lbrace": r"\{",
    r"\rbrace": r"\}",
    "**": "^",
    r"\varnothing": r"\emptyset",
    r"\to": r"\rightarrow",
    r"\degree": r"\circ",
}
_SAYS_NOTHING = frozenset(',;"`.&\\_') | {"\\\\"}


@lru_cache(maxsize=KEPT)
def normalised(text: str) -> str:
    r"""Return what a problem says: one word, number or sign after another, in lower case.

    Dropped are LaTeX's spaces, sizes, fonts and formula delimiters, quotation marks, sentence punctuation, thousands'
    commas, hyphens in words, and braces around one sign; \dfrac and \tfrac are \frac. Figures in Asymptote code stay:
    problems may differ in them alone. Doing it twice is doing it once.

    Example:
        >>> normalised(r"Find  $\dfrac{1}{2} − x$.") == normalised(r"find \(\frac 1 2-x\)")
        True
        >>> normalised("6 × 3") == normalised(r"$6 \cdot 3$"), normalised("6 × 3") == normalised("6 ÷ 3")
        (True, False)
    """
    for _ in range(MOST_ROUNDS):
        before, text = text, _once(text)
        if text == before:
            break
    return text


def _once(text: str) -> str:
    text = _TEXT.sub(r" \1 ", plain_signs(text))
    text = _FRACTION.sub(lambda m: rf" \frac {m[1]} {m[2]} " if m[1] else r" \frac ", text)
    text = _HYPHEN.sub(" ", _THOUSANDS.sub("", _LAYOUT.sub(" ", text)))
    tokens = [token if token.startswith("\\") else token.lower() for token in _TOKEN.findall(text)]
    tokens = [_ONE.get(token, token) for token in tokens]
    kept = [token for place, token in enumerate(tokens) if _says(tokens, place)]
    return " ".join(_without_single_braces(kept))


def _says(tokens: Sequence[str], place: int) -> bool:
    """Return whether a token says something where it stands."""
    token = tokens[place]
    before = tokens[place - 1] if place else ""
    after = tokens[place + 1] if place + 1 < len(tokens) else ""
    if token in _SAYS_NOTHING:
        return False
    if token == ":":  # a ratio, or the colon of a sentence
        return before[-1:].isdigit() and after[:1].isdigit()
    if token == "?":  # a blank to be filled in, or the end of a sentence
        return after != "" and not after[0].isalpha()
    if token == "'":  # f'(x), or an apostrophe
        return len(before) == 1 and before.isalpha() and not after[:1].isalpha()
    return True


def _without_single_braces(tokens: Sequence[str]) -> list[str]:
    """Return the tokens without the braces that hold a single one: x^{2} is x^2, and x^{n+1} is not x^n+1."""
    found: list[str] = []
    for token in tokens:
        if token == "}" and len(found) > 1 and found[-2] == "{" and found[-1] not in "{}":
            found[-2:] = [found[-1]]
        else:
            found.append(token)
    return found
