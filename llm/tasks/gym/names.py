"""Names of reasoning-gym's tasks: ``gym:chain_sum``, ``gym:chain_sum?min_terms=2``, ``gym:category/algebra``."""

from __future__ import annotations

import json
import sys
from contextlib import suppress
from dataclasses import fields
from difflib import get_close_matches
from types import ModuleType
from typing import Any, NamedTuple

from sharpen.objective import InputError, MissingError
from sharpen.objective.version import install

PREFIX = "gym:"
CATEGORY = "category/"
ALL = "all"
# The ten that the authors trained on, at equal shares; ARC counts as cognition.
CATEGORIES = (
    *("algebra", "algorithmic", "arithmetic", "cognition", "code", "games", "geometry", "graphs", "induction", "logic"),
)
_FILED = {"arc": "cognition"}
_OURS = {"seed", "size"}  # a part's
_PLOTS = ("matplotlib", "matplotlib.pyplot", "matplotlib.animation", "matplotlib.collections")
_PLOTS += ("mpl_toolkits", "mpl_toolkits.mplot3d")


class Chosen(NamedTuple):
    """Which generators a task has.

    Args:
        name: As it was asked for, without the prefix.
        generators: Their names, in alphabetical order.
        options: Settings of the one generator; none for a category.
    """

    name: str
    generators: tuple[str, ...]
    options: dict[str, Any]


def without_plots() -> None:
    """Import the package of one generator's cellular automata without matplotlib, which is for its drawings.

    No generator draws, and matplotlib is nearly half of what importing all generators takes. For a process that does
    nothing but make or score problems: in another one somebody may want to draw automata.
    """
    stand_ins = {name: ModuleType(name) for name in _PLOTS}
    if stand_ins.keys() & sys.modules.keys():
        return
    stand_ins["mpl_toolkits.mplot3d"].__dict__["Axes3D"] = None
    sys.modules.update(stand_ins)
    with suppress(ImportError):  # of another version, which asks for more of it: it is imported with the real one then
        import cellpylib  # noqa: F401
    for name in stand_ins:
        del sys.modules[name]


def library() -> dict[str, Any]:
    """Return reasoning-gym's generators: classes of the data set and of its settings, by name.

    Raises:
        MissingError: the package is not installed.
    """
    try:
        from reasoning_gym.factory import DATASETS
    except ImportError as error:
        why = f"reasoning-gym is not installed ({error})"
        raise MissingError("task", PREFIX, why, [install("reasoning-gym")]) from error
    return {name: classes for name, classes in sorted(DATASETS.items()) if name != "composite"}


def categories() -> dict[str, tuple[str, ...]]:
    """Return the generators of each category: the ten, what else there is, and ``all`` for those of the ten."""
    found: dict[str, list[str]] = {category: [] for category in CATEGORIES}
    for name, (dataset, _) in library().items():
        place = str(dataset.__module__).split(".")[1]
        found.setdefault(_FILED.get(place, place), []).append(name)
    every = sorted(name for category in CATEGORIES for name in found[category])
    return {**{category: tuple(names) for category, names in found.items()}, ALL: tuple(every)}


def chosen(name: str) -> Chosen:
    """Return the generators that a name stands for, with settings that they take.

    Args:
        name: Without the prefix: a generator's name and ``?setting=value&setting=value``, or ``category/`` and a
            category's. A value is JSON, or else a text.

    Raises:
        InputError: there is no such generator, category or setting, or the generator refuses a value.
        MissingError: reasoning-gym is not installed.
    """
    known = library()
    if name.startswith(CATEGORY):
        groups, wanted = categories(), name.removeprefix(CATEGORY)
        if wanted not in groups:
            raise InputError("task", PREFIX + name, f"{PREFIX}{CATEGORY} and one of {', '.join(groups)}")
        return Chosen(name, groups[wanted], {})
    generator, _, settings = name.partition("?")
    if generator not in known:
        close = get_close_matches(generator, known, n=3)
        near = f" (close: {', '.join(close)})" if close else ""
        raise InputError("task", PREFIX + name, f"{', '.join(known)}, or {CATEGORY} and a category's name{near}")
    options = dict(_setting(name, pair) for pair in settings.split("&")) if settings else {}
    _check(name, known[generator][1], options)
    return Chosen(name, (generator,), options)


def _setting(name: str, pair: str) -> tuple[str, Any]:
    key, equal, value = pair.partition("=")
    if not key or not equal:
        raise InputError("task", PREFIX + name, "NAME?setting=value&setting=value")
    try:
        return key, json.loads(value)
    except json.JSONDecodeError:
        return key, value


def _check(name: str, kind: Any, options: dict[str, Any]) -> None:
    """Refuse settings that a generator does not have, or whose values it refuses."""
    has = [field.name for field in fields(kind) if field.name not in _OURS]
    wrong = next((key for key in options if key not in has), None)
    if wrong is not None:
        raise InputError("task", f"{PREFIX}{name}", f"the settings {', '.join(has)}; not {wrong}")
    try:
        settings = kind(**options)
        if callable(getattr(settings, "validate", None)):
            settings.validate()
    except Exception as error:  # its settings are checked by assertions, and values of a wrong type by chance
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError("task", f"{PREFIX}{name}", f"settings that the generator takes ({reason})") from error
