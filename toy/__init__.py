"""The objective on tabular policies in JAX: exact gradient flows and sampled learners.

:func:`simulate` runs learners on one problem, :func:`sweep` a grid of settings with many seeds; both return tables.
A learner of one's own is a :class:`SampledLearner` or an :class:`ExactLearner`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sharpen.objective import lazy

if TYPE_CHECKING:
    from sharpen.toy.learners.parts.estimates import (
        clipped,
        kl_estimate,
        kl_loss,
        leave_one_out,
        policy_gradient,
        standardised,
        total_reward,
    )
    from sharpen.toy.learners.parts.learner import (
        Batch,
        Direction,
        ExactLearner,
        Loss,
        Options,
        SampledLearner,
        State,
        log_reference,
        pseudo_reward,
    )
    from sharpen.toy.learners.registry import LEARNERS
    from sharpen.toy.simulation.api import problem, simulate
    from sharpen.toy.simulation.config import SimulateConfig
    from sharpen.toy.simulation.result import Simulation, load
    from sharpen.toy.studies.phase import LearnerPortrait, learner_portrait
    from sharpen.toy.sweeps.api import sweep
    from sharpen.toy.sweeps.config import SweepConfig

_ESTIMATES = ("clipped", "kl_estimate", "kl_loss", "leave_one_out", "policy_gradient", "standardised", "total_reward")
_PARTS = ("Batch", "Direction", "ExactLearner", "Loss", "Options", "SampledLearner", "State", "log_reference")

__getattr__, __dir__, _ = lazy.exports(
    __name__,
    {
        **{name: f"sharpen.toy.learners.parts.estimates:{name}" for name in _ESTIMATES},
        **{name: f"sharpen.toy.learners.parts.learner:{name}" for name in (*_PARTS, "pseudo_reward")},
        "LEARNERS": "sharpen.toy.learners.registry:LEARNERS",
        "problem": "sharpen.toy.simulation.api:problem",
        "simulate": "sharpen.toy.simulation.api:simulate",
        "SimulateConfig": "sharpen.toy.simulation.config:SimulateConfig",
        "Simulation": "sharpen.toy.simulation.result:Simulation",
        "load": "sharpen.toy.simulation.result:load",
        "LearnerPortrait": "sharpen.toy.studies.phase:LearnerPortrait",
        "learner_portrait": "sharpen.toy.studies.phase:learner_portrait",
        "sweep": "sharpen.toy.sweeps.api:sweep",
        "SweepConfig": "sharpen.toy.sweeps.config:SweepConfig",
    },
)
__all__ = [  # the same names, where a type checker reads them
    "LEARNERS",
    "Batch",
    "Direction",
    "ExactLearner",
    "LearnerPortrait",
    "Loss",
    "Options",
    "SampledLearner",
    "SimulateConfig",
    "Simulation",
    "State",
    "SweepConfig",
    "clipped",
    "kl_estimate",
    "kl_loss",
    "learner_portrait",
    "leave_one_out",
    "load",
    "log_reference",
    "policy_gradient",
    "problem",
    "pseudo_reward",
    "simulate",
    "standardised",
    "sweep",
    "total_reward",
]
