"""The results in their order, and the module that proves each."""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from typing import TYPE_CHECKING

from sharpen.objective import InputError
from sharpen.theory.core.frames import Rows

if TYPE_CHECKING:
    from sharpen.theory.proofs.result import Result, Theorem

MODULES = {
    "T1": "optima",
    "T2": "optima",
    "T3": "optima",
    "T4": "response",
    "T5": "answers",
    "T6": "coverage",
    "T7": "response",
    "T8": "lengths",
    "T9": "sequences",
    "T10": "likelihood",
    "T11": "selfmap",
    "T12": "dynamics",
    "T13": "finite_samples",
    "T14": "estimators",
    "T15": "audit",
    "T16": "audit",
    "T17": "family.utilities",
    "T18": "family.utilities",
    "T19": "family.utilities",
    "T20": "family.utilities",
    "T21": "forecast",
    "T22": "forecast",
    "T23": "forecast",
    "T24": "selfmap",
    "T25": "forecast",
    "T26": "optimisers.meansquare",
}


def select(names: Iterable[str] = ()) -> list[str]:
    """Return the ids that the names mean, each once, in the order of the theory; all for no name.

    Args:
        names: ``T1`` ... ``T26``, in either case.

    Raises:
        InputError: A name is none of these.

    Example:
        >>> select(["t7", "T1", "T7"]), len(select())
        (['T1', 'T7'], 26)
    """
    wanted = set()
    for name in names:
        if name.upper() not in MODULES:
            raise InputError("theorem", name, ", ".join(MODULES))
        wanted.add(name.upper())
    return [each for each in MODULES if each in wanted or not wanted]


def theorem(name: str) -> Theorem:
    """Return a result before it is derived, importing the one module that proves it.

    Args:
        name: ``T1`` ... ``T26``.

    Raises:
        InputError: The name is none of these.
    """
    (found,) = select([name])
    return getattr(importlib.import_module(f"sharpen.theory.proofs.theorems.{MODULES[found]}"), found)


def derive(*names: str, seed: int = 0) -> Rows[Result]:
    """Derive results of the theory and check every step now; all for no name, which takes about a minute.

    Args:
        names: ``T1`` ... ``T26``.
        seed: Of the random problems, at least 0.

    Raises:
        InputError: A name is none of these, or the seed is negative.

    Example:
        >>> [(found.id, found.holds) for found in derive("T1")]
        [('T1', True)]
    """
    if seed < 0:
        raise InputError("seed", seed, "a whole number of at least 0")
    return Rows(theorem(name).derive(seed=seed) for name in select(names))
