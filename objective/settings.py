"""What every validated configuration of the package has in common, and the types that its fields share."""

from __future__ import annotations

import re
import types
from collections.abc import Iterator
from typing import Annotated, Any, Self, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

LARGEST = 2**53  # whole numbers up to here are the same in JSON, in float64 and in every library
SEEDS = 2**31  # torch, NumPy, jax and vLLM all take seeds below this one

Seed = Annotated[int, Field(ge=0, lt=SEEDS)]
Text = Annotated[str, Field(min_length=1)]  # an empty text would be read as "the default"
# What becomes the name of a file or folder, and so must not lead out of the one that it belongs in.
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+-]*$", max_length=120)]


AS_WRITTEN = {"as_written": True}  # context of validation: the fields are a stored configuration's


def as_name(text: str) -> str:
    """Return a text as one part of a path: what could lead elsewhere becomes ``_``.

    Example:
        >>> as_name("Qwen/Qwen2.5-3B"), as_name("../../evil")
        ('Qwen_Qwen2.5-3B', '.._.._evil')
    """
    return re.sub(r"[^A-Za-z0-9._+-]+", "_", text)[:120]


class Settings(BaseModel):
    """Base of every configuration: immutable, no unknown field, no NaN, no infinity, no confusion of kinds.

    Python takes True for 1, and pydantic 1 for True. Here true and false are for fields that hold them, and for no
    other: ``steps: true`` is a slip, not one step. A number may be given as text, as YAML reads ``1e-6``.

    Example:
        >>> class Run(Settings):
        ...     steps: int = 1
        >>> Run(steps="3")
        Run(steps=3)
        >>> try:
        ...     Run(steps=True)
        ... except ValueError as error:
        ...     print(str(error).splitlines()[2].partition(" [")[0])
          Value error, a number is needed, not true or false
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, validate_default=True)

    @classmethod
    def as_written(cls, fields: object) -> Self:
        """Return the configuration of fields that were resolved before: nothing but field defaults is added.

        A new configuration takes from its model what is not given; an old run's means what it meant.

        Raises:
            pydantic.ValidationError: a field is out of range.
        """
        return cls.model_validate(fields, context=AS_WRITTEN)

    @field_validator("*", mode="before")
    @classmethod
    def _of_its_kind(cls, given: object, info: ValidationInfo) -> object:
        assert info.field_name is not None
        kinds = set(_kinds(cls.model_fields[info.field_name].annotation))
        if bool in kinds and not isinstance(given, bool | types.NoneType):
            raise ValueError("true or false is needed")
        if kinds & {int, float} and not kinds & {bool, Any} and not any(_is_model(kind) for kind in kinds):
            for number in _leaves(given):
                if isinstance(number, bool):
                    raise ValueError("a number is needed, not true or false")
                if isinstance(number, int) and int in kinds and abs(number) > LARGEST:
                    raise ValueError(f"a whole number of at most {LARGEST} is needed")
        return given


def is_as_written(info: ValidationInfo) -> bool:
    """Return whether what is validated is a stored configuration, to which nothing but field defaults is added."""
    return info.context is not None and info.context.get("as_written") is True


def _kinds(annotation: Any) -> Iterator[Any]:
    """Yield the types that an annotation is made of."""
    if get_origin(annotation) is Annotated:
        yield from _kinds(get_args(annotation)[0])
    elif get_origin(annotation) in (Union, types.UnionType, tuple, list, dict):
        for part in get_args(annotation):
            yield from _kinds(part)
    else:
        yield annotation


def _leaves(given: object) -> Iterator[object]:
    if isinstance(given, dict):
        given = list(given.values())
    if isinstance(given, list | tuple):
        for each in given:
            yield from _leaves(each)
    else:
        yield given


def _is_model(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)
