"""Learners: the door, and what an author of one needs; the experience that they learn from, and what is measured on it.

A learner is a class with the parts that :class:`Learner` lists; :class:`PolicyGradient` has all but the advantages.
"""

from typing import TYPE_CHECKING

from sharpen.objective import lazy

if TYPE_CHECKING:
    from sharpen.llm.configs.train import LearnerSettings
    from sharpen.llm.learners.experience import Experience
    from sharpen.llm.learners.parts.advantage import (
        best_only,
        centred,
        leave_one_out,
        likeliness_discount,
        standardised,
    )
    from sharpen.llm.learners.parts.learner import Clipped, Learner, LossInputs, PolicyGradient
    from sharpen.llm.learners.parts.loss import aggregated, clipped_loss, kl_estimate, kl_loss, reinforce_loss
    from sharpen.llm.learners.parts.registry import LEARNERS

_PARTS = "sharpen.llm.learners.parts"
_ADVANTAGES = ("best_only", "centred", "leave_one_out", "likeliness_discount", "standardised")
_LOSSES = ("aggregated", "clipped_loss", "kl_estimate", "kl_loss", "reinforce_loss")
__getattr__, __dir__, _ = lazy.exports(
    __name__,
    {
        "LEARNERS": f"{_PARTS}.registry:LEARNERS",
        **{name: f"{_PARTS}.learner:{name}" for name in ("Clipped", "Learner", "LossInputs", "PolicyGradient")},
        **{name: f"{_PARTS}.advantage:{name}" for name in _ADVANTAGES},
        **{name: f"{_PARTS}.loss:{name}" for name in _LOSSES},
        "Experience": "sharpen.llm.learners.experience:Experience",
        "LearnerSettings": "sharpen.llm.configs.train:LearnerSettings",
    },
)
__all__ = [  # the same names, where a type checker reads them
    "LEARNERS",
    "Clipped",
    "Experience",
    "Learner",
    "LearnerSettings",
    "LossInputs",
    "PolicyGradient",
    "aggregated",
    "best_only",
    "centred",
    "clipped_loss",
    "kl_estimate",
    "kl_loss",
    "leave_one_out",
    "likeliness_discount",
    "reinforce_loss",
    "standardised",
]
