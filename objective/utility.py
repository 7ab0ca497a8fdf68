"""Utilities f of the success rate P = E_pi[r], once, for every array library.

J(pi) = w_r f(P) + ... has the policy gradient of w_r f'(P) r, so a utility is a weight on the reward that depends on
how often the policy is right:

========  =================  ======================  =======================================================
name      f(P)               f'(P)                   what trains with it
========  =================  ======================  =======================================================
identity  P                  1                       REINFORCE, RLOO
log       log P              1 / P                   maximum likelihood of being right
pass@K    1 - (1 - P)^K      K (1 - P)^(K - 1)       pass@K training; pass@1 is the identity
arcsin    2 arcsin sqrt(P)   1 / sqrt(P (1 - P))     GRPO: division by the deviation of a large group's rewards
========  =================  ======================  =======================================================

The equations are THEORY T18 of this project (docs/objective.md); arcsin is that of Davis & Recht (arXiv 2510.13651).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any, NamedTuple

Array = Any  # as in sharpen.objective.functional

FORMS = "identity, log, arcsin or pass@K with a whole number K >= 1"
_PATTERN = re.compile(r"identity|log|arcsin|pass@[1-9]\d{0,8}")


class Utility(NamedTuple):
    """f and its first two derivatives, as functions of the success rate: a float, or an array of any library."""

    value: Callable[[Array], Array]
    slope: Callable[[Array], Array]
    bend: Callable[[Array], Array]


def is_known(name: str) -> bool:
    """Return whether a utility has this name.

    Example:
        >>> is_known("pass@8"), is_known("pass@0")
        (True, False)
    """
    return _PATTERN.fullmatch(name) is not None


def utility(name: str) -> Utility:
    """Return the utility of this name, which :func:`is_known`.

    Example:
        >>> f = utility("arcsin")
        >>> round(f.value(0.5), 4), f.slope(0.5), f.bend(0.5)
        (1.5708, 2.0, 0.0)
        >>> utility("pass@2").slope(0.25)
        1.5
    """
    if name == "log":
        return Utility(_log, lambda p: 1.0 / p, lambda p: -1.0 / p**2)
    if name == "arcsin":
        return Utility(
            lambda p: 2.0 * _arcsin(p**0.5),
            lambda p: (p * (1.0 - p)) ** -0.5,
            lambda p: (p - 0.5) * (p * (1.0 - p)) ** -1.5,
        )
    k = int(name.removeprefix("pass@")) if name != "identity" else 1
    return Utility(
        lambda p: p if k == 1 else 1.0 - (1.0 - p) ** k,
        lambda p: k * (1.0 - p) ** (k - 1),
        lambda p: -k * (k - 1) * (1.0 - p) ** max(k - 2, 0),
    )


def _log(p: Array) -> Array:
    return math.log(p) if isinstance(p, float) else _namespace(p).log(p)


def _arcsin(x: Array) -> Array:
    return math.asin(min(x, 1.0)) if isinstance(x, float) else _namespace(x).asin(x)


def _namespace(x: Array) -> Any:
    from array_api_compat import array_namespace

    return array_namespace(x)
