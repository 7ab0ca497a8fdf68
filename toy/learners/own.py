"""Learners that are handed over as objects.

``Registry.name_of`` calls a function or class by the place that it can be imported from. A learner of the toy is an
instance, which has no such place: it is called by the name of its function, in this process only.
"""

from __future__ import annotations

from sharpen.objective import InputError
from sharpen.toy.learners.parts.learner import ExactLearner, Learner, SampledLearner
from sharpen.toy.learners.registry import LEARNERS


def name_of(learner: str | Learner, *, stored: bool) -> str:
    """Return the name of a learner, registering one that has none under that of its function.

    Args:
        learner: A name, or a learner.
        stored: Whether the name is written into a run folder, which another process must understand.

    Raises:
        InputError: no learner, or one without a name that is to be stored.
    """
    if isinstance(learner, str):
        return learner
    if not isinstance(learner, ExactLearner | SampledLearner):
        raise InputError("learners", learner, "names of learners, ExactLearner or SampledLearner")
    known = LEARNERS.where(lambda name: LEARNERS.get(name) is learner)
    if known:
        return known[0]
    if stored:
        raise InputError("learners", learner, "its name as module:object, by which a run folder is continued")
    made = learner.direction if isinstance(learner, ExactLearner) else learner.loss
    called = getattr(made, "__name__", type(made).__name__)
    name = next(each for i in range(len(LEARNERS.names()) + 2) if (each := f"{called}{i or ''}") not in LEARNERS)
    LEARNERS.register(name)(learner)
    return name
