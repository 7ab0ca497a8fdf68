"""What an evaluation keeps of each problem: one JSON object per line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sharpen.llm.common import jsonl


@dataclass(frozen=True)
class Record:
    """One problem's n samples.

    Args:
        id: The problem's.
        subject: Its subject, where the data set names one.
        level: Its difficulty, where the data set names one.
        responses: Texts.
        votes: Final answers as they are counted in a vote, one text for all of the same value; None without one.
        correct: Whether each is right: its score is the task's threshold or more.
        lengths: Response tokens, end-of-sequence included.
        finished: False where a response was cut at the length limit.
        logprob: log pi(x) at temperature 1, nats per sequence; None if not measured, as below.
        entropy: Sum over the response's tokens of the next-token entropy of pi, nats.
        base_logprob: log p(x) under the base model, nats per sequence.
        scores: Score of each in [0, 1] where the task gives more than 0 and 1; None: they are ``correct``.
    """

    id: str
    subject: str | None
    level: str | None
    responses: list[str]
    votes: list[str | None]
    correct: list[bool]
    lengths: list[int]
    finished: list[bool]
    logprob: list[float] | None = None
    entropy: list[float] | None = None
    base_logprob: list[float] | None = None
    scores: list[float] | None = None

    @property
    def marks(self) -> list[float]:
        """Score of each sample, in [0, 1]."""
        return [float(good) for good in self.correct] if self.scores is None else self.scores

    @property
    def classes(self) -> list[str | None]:
        """What each sample votes for: right and wrong answers are united by the same rule, their value.

        Where the verifier takes two answers for the same and only one of them for the gold answer, they are two
        votes: a class that is both right and wrong could not be scored.
        """
        return [
            None if vote is None and not good else f"{'right' if good else 'wrong'}: {vote}"
            for good, vote in zip(self.correct, self.votes, strict=True)
        ]


def judged(scores: Sequence[float], threshold: float) -> dict[str, list[Any]]:
    """Return the columns that scores are kept in: which count as right, and the scores where they say more.

    Example:
        >>> judged([1.0, 0.0], 1.0), judged([0.4, 0.7], 0.5)
        ({'correct': [True, False]}, {'correct': [False, True], 'scores': [0.4, 0.7]})
    """
    found: dict[str, list[Any]] = {"correct": [score >= threshold for score in scores]}
    return found if all(score in (0.0, 1.0) for score in scores) else found | {"scores": list(scores)}


def append(file: Path, records: Sequence[Record]) -> None:
    """Append records and make them durable, see `sharpen.llm.common.jsonl.append`."""
    jsonl.append(file, records)


def read(file: Path) -> list[Record]:
    """Return the records of a file, see `sharpen.llm.common.jsonl.read`."""
    return jsonl.read(file, Record)
