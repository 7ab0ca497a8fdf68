"""The finding about the null control: what leaves the base although nothing calls it away (T26)."""

from __future__ import annotations

import numpy as np

from sharpen.toy.dynamics.measures import wilson
from sharpen.toy.studies.findings_core import Finding, Interval, Runs, Verdict, at, at_end, exactly
from sharpen.toy.sweeps.config import SweepConfig

SMALL_EPSILON, LARGE_EPSILON = 1e-8, 1e-2
RATE = 0.05
LEFT = 1e-7  # nats from the base; a run that stays is at the rounding of about 1e-16
ROUNDING = 1e-14


def _null(seeds: int) -> dict[str, SweepConfig]:
    common = {"alpha": (1.0,), "learner": ("rloo",), "group_size": (8,), "steps": 200, "seeds": seeds}
    adam = {"optimizer": ("adam",), "epsilon": (SMALL_EPSILON, LARGE_EPSILON), "step_size": (RATE,)}
    plain = {"optimizer": ("sgd", "momentum"), "step_size": (RATE,)}
    return {
        "adam": SweepConfig.model_validate({**common, **adam}),
        "without": SweepConfig.model_validate({**common, **plain}),
    }


def _null_verdict(tables: dict[str, Runs]) -> Verdict:
    """Most runs of Adam with the small epsilon are away from the base; no other run is farther than rounding."""
    adam, without = tables["adam"], tables["without"]
    left = at(adam, "kl_base", epsilon=SMALL_EPSILON) > LEFT
    share = Interval(float(np.mean(left)), *wilson(int(left.sum()), left.size))
    numbers = {
        f"runs that left, adam with epsilon {SMALL_EPSILON:g}": share,
        f"KL to the base, nats, adam with epsilon {SMALL_EPSILON:g}": at_end(adam, "kl_base", epsilon=SMALL_EPSILON),
    }
    others = {f"adam with epsilon {LARGE_EPSILON:g}": at(adam, "kl_base", epsilon=LARGE_EPSILON)}
    others |= {name: at(without, "kl_base", optimizer=name) for name in ("sgd", "momentum")}
    farthest = {name: float(np.max(np.abs(values))) for name, values in others.items()}
    numbers |= {f"largest KL to the base, nats, {name}": exactly(most) for name, most in farthest.items()}
    return Verdict(share.low > 0.5 and max(farthest.values()) < ROUNDING, numbers)


FINDINGS = (
    Finding(
        "null",
        "at the null control adam with epsilon 1e-8 leaves the base, with 1e-2 it stays, as do sgd and momentum",
        _null,
        _null_verdict,
    ),
)
