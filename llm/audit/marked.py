"""One problem's marked samples, whatever program drew them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sharpen.llm.evaluation.records import Record


@dataclass(frozen=True)
class Marked:
    """What is known of one problem's samples without log-probabilities.

    Args:
        id: The problem's.
        right: Whether each is.
        answers: What each answered, the same text for the same answer, None for none; None: not known.
    """

    id: str
    right: list[bool]
    answers: list[str | None] | None

    @classmethod
    def of(cls, record: Record) -> Marked:
        """Return what an evaluation keeps of a problem."""
        return cls(record.id, record.correct, record.classes)
