"""Results as labelled tables: every result with axes has a method ``frame`` that returns a pandas DataFrame.

pandas is imported when a table is asked for, so that the theory itself needs NumPy alone.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

if TYPE_CHECKING:
    from pandas import DataFrame

T = TypeVar("T")


def table(columns: Mapping[str, Any]) -> DataFrame:
    """Return columns of numbers as a DataFrame; one that is shorter than the others ends in NaN, None is left out.

    Example:
        >>> table({"alpha": [1.0, 2.0], "step": [1.0], "none": None}).to_dict("list")
        {'alpha': [1.0, 2.0], 'step': [1.0, nan]}
    """
    from pandas import DataFrame, Series

    return DataFrame({name: Series(np.asarray(given)) for name, given in columns.items() if given is not None})


def policy_columns(policies: Any) -> dict[str, Any]:
    """Return policies, shape [rows, n], as one column per outcome: ``probability_0`` and so on."""
    return {f"probability_{i}": column for i, column in enumerate(np.asarray(policies).T)}


def fields_of(result: Any) -> dict[str, Any]:
    """Return the columns of a result that is one row: those of its method ``row``, else its fields."""
    if hasattr(result, "row"):
        return result.row()
    return {each.name: getattr(result, each.name) for each in dataclasses.fields(result)}


class Columns:
    """A dataclass whose fields are the columns of its table; with a field ``over``, that names the column ``grid``."""

    def frame(self) -> DataFrame:
        """Return the fields as the columns of a DataFrame; a field that is one shorter ends in NaN."""
        given: dict[str, Any] = fields_of(self)
        if "over" in given:
            given = {given.pop("over"): given.pop("grid"), **given}
        return table(given)


class Rows(tuple[T, ...]):
    """A tuple of results of one kind, each of them a row of its table."""

    __slots__ = ()

    def frame(self) -> DataFrame:
        """Return the results as a DataFrame, one row each, their numbers and names as columns."""
        from pandas import DataFrame

        return DataFrame([fields_of(each) for each in self])


class Named(dict[str, T]):
    """Results by the name of their policy, each a row of its table; None, a policy that there is not, is all NaN."""

    def frame(self) -> DataFrame:
        """Return the results as a DataFrame whose first column, ``policy``, has the names."""
        from pandas import DataFrame

        return DataFrame([{"policy": name, **({} if each is None else fields_of(each))} for name, each in self.items()])
