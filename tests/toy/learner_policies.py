"""Policies of learners after some updates; test_compilation.py compares them between two ways of compiling.

python tests/toy/learner_policies.py OUT.npz
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from sharpen.objective import Objective
from sharpen.theory.core.problem import Problem
from sharpen.toy.dynamics.engine import Ensemble, Machine, log_policy_only, run_at, run_keys, stack, start
from sharpen.toy.learners.parts.learner import Options
from sharpen.toy.problems.policies import SEPARATE
from sharpen.toy.problems.setting import setting

PROBLEM = Problem([0.4, 0.3, 0.2, 0.1], [0.0, 1.0, 0.0, 1.0], [1.0, 2.0, 3.0, 4.0])
UPDATES, RUNS = 25, 3
# Both compilers take up to a second for each: one of every kind of arithmetic.
LEARNERS = ("natural", "mirror", "softmax", "softmax-flow", "rloo", "ppo", "tb", "pass-k", "alpha-divergence")


def policies() -> dict[str, np.ndarray]:
    """Return log pi by learner, shape [2, runs, 1, n]: at the start and after the updates."""
    found = {}
    for kind in LEARNERS:
        utility = "pass@2" if kind == "pass-k" else "identity"
        objective = Objective(alpha=2.0, beta_inv=2.0, utility=utility)
        machine = Machine(kind, SEPARATE, Options(group_size=4, utility=utility), log_policy_only)
        settings = stack([setting(objective, PROBLEM, 0.1)] * RUNS)
        ensemble = Ensemble(machine, settings, run_keys(0, RUNS))
        *_, last = run_at(ensemble, start(ensemble), [UPDATES])
        found[kind] = np.asarray(last.records)
    return found


if __name__ == "__main__":
    np.savez(Path(sys.argv[1]), allow_pickle=False, **policies())
