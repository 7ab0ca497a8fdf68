"""What is missing or wrong for a start, collected: several things are told together."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from sharpen.objective import InputError, MissingError, SeveralInputsError, one_or_several

Found = TypeVar("Found")


class Findings:
    """Errors that do not keep from looking further."""

    def __init__(self) -> None:
        self.errors: list[InputError] = []
        self.notes: list[str] = []

    def attempt(self, look: Callable[[], Found]) -> Found | None:
        """Return what ``look`` returns; None, and the error is kept, if it refuses."""
        try:
            return look()
        except SeveralInputsError as error:
            self.errors += error.errors
        except InputError as error:
            self.errors.append(error)
        return None

    def settle(self) -> None:
        """Raise what was found.

        Raises:
            InputError: something was.
        """
        if self.errors:
            raise one_or_several(self.errors)

    def say_once(self) -> None:
        """Join what is missing or wrong for the same reason: one data set may serve several purposes."""
        joined: dict[tuple[object, ...], InputError] = {}
        for error in self.errors:
            if not isinstance(error, MissingError):
                same = (repr(error.value), error.allowed) if type(error) is InputError else (id(error),)
                first = joined.setdefault(same, error)
                if first is not error and error.field not in first.field.split(", "):
                    joined[same] = InputError(f"{first.field}, {error.field}", error.value, error.allowed)
                continue
            key = (error.value, error.why)
            earlier = joined.get(key)
            if not isinstance(earlier, MissingError):
                joined[key] = error
            else:
                *commands, flag = earlier.get
                own = error.get[-1]
                flags = flag if own in flag else f"{flag} {own}"
                field = earlier.field if error.field in earlier.field else f"{earlier.field}, {error.field}"
                joined[key] = MissingError(field, error.value, error.why, [*commands, flags])
        self.errors = list(joined.values())


def lines(errors: Iterable[InputError]) -> list[str]:
    """Return what is missing for reading, in lines of at most 78 characters: comments of a plan."""
    several: Any = SeveralInputsError(list(errors))
    return several.lines(width=78)[1:]
