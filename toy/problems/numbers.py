"""Numbers given in Python where a configuration holds a text.

A configuration keeps the text, so that one made of lists and one read from a file are the same.
"""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
from pydantic import BeforeValidator, ValidationInfo

from sharpen.objective import InputError
from sharpen.theory.core.problem import LOG_PREFIX, Problem

PROMPT = ";"  # between prompts in a text


def as_text(given: object, field: str) -> object:
    """Return numbers, shape [n] or for several prompts [P, n], as the text that means them; others as they are.

    Args:
        given: A text, None, or numbers in a list, a tuple or an array.
        field: What a message calls it.

    Raises:
        InputError: the numbers have another shape, or are none.

    Example:
        >>> as_text([0.5, 0.5], "base"), as_text(np.array([[0, 1], [1, 0]]), "reward")
        ('0.5,0.5', '0.0,1.0;1.0,0.0')
        >>> as_text("zipf:3", "base")
        'zipf:3'
    """
    if given is None or isinstance(given, str):
        return given
    allowed = "a text, or numbers of shape [n]" + (" (true and false only in a reward)" if field != "reward" else "")
    try:
        array = np.asarray(given)
        kinds = {bool} if array.dtype == np.bool_ else {type(each) for each in np.asarray(given, dtype=object).flat}
        truths = field != "reward" and not kinds.isdisjoint({bool, np.bool_})
        array = array.astype(np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise InputError(field, given, allowed) from error
    if truths or array.ndim not in (1, 2) or array.size == 0:
        raise InputError(field, given, allowed)
    # Every digit is kept. With a point in each number a reward is never taken for indices of correct outcomes.
    return PROMPT.join(",".join(map(repr, row.tolist())) for row in np.atleast_2d(array))


def problem_texts(problem: Problem) -> dict[str, str]:
    """Return the texts of a problem's base, reward and length; a base that underflows is told by its logarithm."""
    underflows = bool(np.any(problem.support & (problem.base == 0)))
    base = as_text(problem.log_base if underflows else problem.base, "base")
    found = {"base": f"{LOG_PREFIX}{base}" if underflows else str(base)}
    return found | {name: str(as_text(getattr(problem, name), name)) for name in ("reward", "length")}


def _numbers(given: Any, info: ValidationInfo) -> object:
    return as_text(given, info.field_name or "numbers")


Numbers = Annotated[str, BeforeValidator(_numbers)]  # a text; numbers are turned into theirs
