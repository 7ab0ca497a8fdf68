r"""Which training problems are test problems too.

Three degrees, each a test problem's:

- ``identical``: a training problem has the same text.
- ``same``: or the same text after :func:`sharpen.llm.tasks.problem_text.normalised`, which undoes what editing and
  typesetting change. These leave the training set (:func:`set_apart`).
- ``near``: or a training problem holds at least :data:`NEAR` of its runs of :data:`RUN` words (Brown et al. 2020 call
  such an overlap contamination, with runs of 13). Problems that differ in one number, or of which one adds a
  condition, can be near: they are told, not removed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from sharpen.llm.tasks.data import PromptSet
from sharpen.llm.tasks.problem_text import normalised

RUN, NEAR = 8, 0.8


@dataclass(frozen=True)
class Overlap:
    """How much of a test set is in a training set.

    Args:
        train: Name of the training set.
        test: Name of the test set.
        train_problems: Its number of problems.
        test_problems: Its number of problems.
        repeated: Training problems that are the same as an earlier training problem.
        identical: Test problems whose very text is in the training set.
        same: Test problems that are in it after normalisation; ``identical`` ones included.
        near: Further test problems that are nearly in it.
        shared: Training problems that are the same as a test problem.
        removed: How many of these were left out of training; all of them unless that would have left nothing.
        pairs: (training id, test id, degree) of each of these test problems.
    """

    train: str
    test: str
    train_problems: int
    test_problems: int
    repeated: int
    identical: int
    same: int
    near: int
    shared: int
    removed: int
    pairs: tuple[tuple[str, str, str], ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the fields for JSON."""
        return asdict(self)

    def line(self) -> str:
        """Return one line that tells it."""
        return (
            f"{self.test}: {self.same} of its {self.test_problems} problems are among the {self.train_problems} of "
            f"{self.train}, {self.near} more nearly; {self.shared} training problems are the same as one of them, "
            f"{self.removed} of these left out"
        )


def overlap(train: PromptSet, test: PromptSet) -> Overlap:
    """Return which problems of ``test`` are in ``train``, and what training would leave out; only prompts are read."""
    by_text = {prompt.text: prompt.id for prompt in reversed(train.prompts)}
    ids: dict[str, str] = {}
    for prompt in train.prompts:
        ids.setdefault(normalised(prompt.text), prompt.id)
    runs = _index(train)
    pairs: list[tuple[str, str, str]] = []
    for prompt in test.prompts:
        plain = normalised(prompt.text)
        if prompt.text in by_text:
            pairs.append((by_text[prompt.text], prompt.id, "identical"))
        elif plain in ids:
            pairs.append((ids[plain], prompt.id, "same"))
        elif (place := _nearest(plain, runs)) is not None:
            pairs.append((train.prompts[place].id, prompt.id, "near"))
    degrees = Counter(degree for _, _, degree in pairs)
    shared = len(train.prompts) - len(_different(train, [test]))
    return Overlap(
        train.name,
        test.name,
        len(train.prompts),
        len(test.prompts),
        repeated=len(train.prompts) - len(ids),
        identical=degrees["identical"],
        same=degrees["identical"] + degrees["same"],
        near=degrees["near"],
        shared=shared,
        removed=shared,
        pairs=tuple(pairs),
    )


def set_apart(train: PromptSet, tests: Sequence[PromptSet]) -> tuple[PromptSet, list[Overlap]]:
    """Return the problems to train on, and what each test set shared with them before.

    Those that are in a test set are left out unless that leaves none: whoever trains on nothing but
    test problems means to. Then ``removed`` is 0.
    """
    found = [overlap(train, test) for test in tests]
    kept = _different(train, tests)
    if not kept:
        return train, [replace(one, removed=0) for one in found]
    return train.only(kept), found


def _different(train: PromptSet, tests: Sequence[PromptSet]) -> list[Any]:
    held_out = {normalised(prompt.text) for test in tests for prompt in test.prompts}
    return [prompt for prompt in train.prompts if normalised(prompt.text) not in held_out]


def _runs(text: str) -> set[int]:
    words = text.split(" ")
    return {hash(tuple(words[start : start + RUN])) for start in range(len(words) - RUN + 1)}


def _index(train: PromptSet) -> dict[int, list[int]]:
    """Return the places of the training problems that hold each run of words."""
    index: dict[int, list[int]] = {}
    for place, prompt in enumerate(train.prompts):
        for run in _runs(normalised(prompt.text)):
            index.setdefault(run, []).append(place)
    return index


def _nearest(text: str, index: dict[int, list[int]]) -> int | None:
    """Return the training problem that holds most of a text's runs, if it holds enough of them."""
    runs = _runs(text)
    holders = Counter(place for run in runs for place in index.get(run, ()))
    if not holders:
        return None
    place, count = min(holders.items(), key=lambda item: (-item[1], item[0]))
    return place if count >= NEAR * len(runs) else None


def chosen_problems(candidates: PromptSet, reported: PromptSet, most: int) -> PromptSet | None:
    """Return the first problems of a set that are not among the reported ones; None if there are none.

    Where a data set has no validation part, its test part stands in, so the two sets may share problems.

    Args:
        candidates: Where the best checkpoint may be chosen.
        reported: The problems that the result is reported on.
        most: How many problems at most.
    """
    taken = {normalised(prompt.text) for prompt in reported.prompts}
    others = [prompt for prompt in candidates.prompts if normalised(prompt.text) not in taken][:most]
    return candidates.only(others) if others else None
