"""A configuration made in Python: what is wrong with it as an :class:`InputError`, like on the command line."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from sharpen.objective.errors import InputError, one_or_several

Config = TypeVar("Config", bound=BaseModel)


def checked(kind: type[Config], fields: Mapping[str, Any]) -> Config:
    """Return the configuration of these fields.

    Raises:
        InputError: a field is unknown or out of range; several of them together if there are several.

    Example:
        >>> from sharpen.objective import Objective
        >>> checked(Objective, {"alpha": -1})
        Traceback (most recent call last):
            ...
        sharpen.objective.errors.InputError: alpha: got -1, allowed: input should be greater than or equal to 0
    """
    try:
        return kind.model_validate(dict(fields))
    except ValidationError as error:
        raise one_or_several([_as_input_error(dict(detail)) for detail in error.errors(include_url=False)]) from error


def _as_input_error(detail: dict[str, Any]) -> InputError:
    cause = detail.get("ctx", {}).get("error")
    if isinstance(cause, InputError):
        return cause
    message = str(detail["msg"]).removeprefix("Value error, ")
    field, got, rest = message.partition(": got ")
    given, says, allowed = rest.partition(", allowed: ")
    if got and says:  # a check of several fields together names the one at fault
        return InputError(field, _Text(given), allowed)
    place = ".".join(str(part) for part in detail["loc"]) or "settings"
    return InputError(place, detail["input"], f"{message[0].lower()}{message[1:]}")


class _Text(str):
    """What was given, as a message already shows it."""

    def __repr__(self) -> str:
        return str(self)
