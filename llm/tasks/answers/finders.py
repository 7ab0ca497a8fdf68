r"""Where the answer stands in a response: the door, and those that are built in.

A finder is a function of a response's text that returns the answer, or None where there is none. ``boxed`` is the one
of the mathematics tasks: the last \boxed{}, or what is stated as the answer; see
:func:`sharpen.llm.tasks.verification.answer_text.find_answer`. It alone is told whether a response was cut.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TypeAlias

from sharpen.llm.tasks.verification.answer_text import find_answer
from sharpen.objective.registry import Registry

Finder: TypeAlias = Callable[[str], str | None]
_WHOLE = r"[-+−]?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?:/\d+)?"
_NUMBER = re.compile(rf"(?<![\w.]){_WHOLE}(?!\w)|(?<![\w.])[-+−]?\.\d+(?!\w)")
_TAGGED = re.compile(r"<answer>(.*?)</answer>", re.DOTALL | re.IGNORECASE)


def boxed(response: str, finished: bool = True) -> str | None:
    r"""Return the last filled ``\boxed{}``, or what is stated as the answer.

    Example:
        >>> boxed(r"so \boxed{7}"), boxed("The answer is 7."), boxed("no idea")
        ('7', '7', None)
    """
    found = find_answer(response, finished)
    return None if found is None or not found.text.strip() else found.text


def last_number(response: str) -> str | None:
    """Return the last number in the text, as it is written: an integer, a decimal or a fraction.

    Example:
        >>> last_number("2 + 2 = 4, so 1,204.5."), last_number("x2 is no number")
        ('1,204.5', None)
    """
    found = _NUMBER.findall(response)
    return found[-1] if found else None


def tag(response: str) -> str | None:
    """Return what stands in the last ``<answer>…</answer>``.

    Example:
        >>> tag("<answer>3</answer> no: <answer> 4 </answer>"), tag("<answer>4")
        ('4', None)
    """
    found = _TAGGED.findall(response)
    return (found[-1].strip() or None) if found else None


def first_line(response: str) -> str | None:
    r"""Return the first line that is not blank.

    Example:
        >>> first_line("\n cold \nQuestion: up"), first_line(" \n ")
        ('cold', None)
    """
    return next((line.strip() for line in response.splitlines() if line.strip()), None)


def whole(response: str) -> str | None:
    """Return the whole text without the blanks around it.

    Example:
        >>> whole(" Paris. "), whole("  ")
        ('Paris.', None)
    """
    return response.strip() or None


def _check(part: object) -> None:
    if not callable(part):
        raise TypeError("a function of a response that returns its answer or None")


FINDERS: Registry[Finder] = Registry("finder", _check)
FINDERS.register("boxed", f"{__name__}:boxed")
FINDERS.register("last-number", f"{__name__}:last_number")
FINDERS.register("tag", f"{__name__}:tag")
FINDERS.register("first-line", f"{__name__}:first_line")
FINDERS.register("whole", f"{__name__}:whole")
