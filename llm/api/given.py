"""What a caller gives as it is at hand: objectives by name, problems as lists, parts as objects."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from sharpen.llm.tasks.listed import Listed, hold
from sharpen.llm.tasks.listed import problems as listed
from sharpen.llm.tasks.templates import name_of
from sharpen.objective import InputError, Objective, preset

Problems = str | Path | Listed | Iterable[str] | Iterable[tuple[str, Any]]


def objective_fields(objective: str | Objective | Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of an objective that is given as a preset's name, as an object, or by its fields.

    Raises:
        InputError: no preset has that name, or it is something else.
    """
    if isinstance(objective, str):
        return preset(objective).to_dict()
    if isinstance(objective, Objective):
        return objective.to_dict()
    if isinstance(objective, Mapping):
        return dict(objective)
    raise InputError("objective", objective, "an Objective, the name of a preset, or a mapping of fields")


def data_of(problems: Problems, field: str) -> str:
    """Return what a configuration calls problems that are given as a list, or by their name.

    Args:
        problems: A data set's name, a file, a folder, or a hub id; or pairs of a problem's text and its answer; or
            texts alone, which have no answers; or what :func:`sharpen.llm.problems` returned.
        field: What messages call it.

    Raises:
        InputError: it is something else, or there are none.

    Example:
        >>> data_of("math500", "problems"), data_of([("2+2=?", 4)], "problems")
        ('math500', 'list:problems-4654b2d7')
    """
    if isinstance(problems, str | Path):
        return str(problems)
    if isinstance(problems, Listed):
        return hold(problems)
    wanted = "a data set's name, a file, or a list of texts or of pairs (problem, answer)"
    if isinstance(problems, bytes | Mapping) or not isinstance(problems, Iterable):
        raise InputError(field, problems, wanted)
    pairs = [(one, "") if isinstance(one, str) else one for one in problems]
    try:
        return hold(listed(pairs))
    except InputError as error:
        raise InputError(field, error.value, wanted) from error


def with_names(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings with the name of a template that is given as an object.

    Raises:
        InputError: it is no template.
    """
    own = settings.get("template")
    return {**settings, **({} if own is None else {"template": name_of(own)})}


def asked(problems: Problems | int | None, settings: dict[str, Any]) -> dict[str, Any]:
    """Return settings of an evaluation or a sampling run with the problems that are given: data, or their number."""
    settings = with_names(settings)
    if problems is None:
        return settings
    if isinstance(problems, int):
        return settings | {"problems": problems}
    return settings | {"data": data_of(problems, "problems")}


def folder_of(out: str | Path | None) -> Path:
    """Return where a run is kept: a new temporary folder if none is named."""
    if out is not None:
        return Path(out)
    from tempfile import mkdtemp

    return Path(mkdtemp(prefix="sharpen-")) / "run"
