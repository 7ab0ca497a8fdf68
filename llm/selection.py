"""Which checkpoint is the best: chosen on other problems and other samples than those it is reported on."""

from __future__ import annotations

from sharpen.llm.data import PromptSet
from sharpen.llm.overlap import normalised


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
    return PromptSet(candidates.name, tuple(others)) if others else None
