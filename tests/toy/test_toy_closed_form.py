"""Natural gradients between recordings in closed form, beside the same updates one by one in NumPy and in mpmath."""

from __future__ import annotations

import mpmath
import numpy as np
import pytest
from scipy.special import log_softmax

from sharpen.objective import PRESETS, Objective
from sharpen.theory.core.problem import Problem
from sharpen.toy.dynamics.engine import (
    Ensemble,
    Machine,
    Progress,
    log_policy_only,
    run,
    run_at,
    run_keys,
    stack,
    start,
)
from sharpen.toy.dynamics.updates import leaps
from sharpen.toy.learners.parts.learner import Options
from sharpen.toy.problems.policies import SEPARATE, SHARED
from sharpen.toy.problems.setting import setting

PROBLEM = Problem([0.4, 0.25, 0.15, 0.12, 0.08], [0, 1, 0, 1, 0], [1, 2, 3, 4, 5])
OBJECTIVES = {**PRESETS, "mean": Objective(alpha=2, normalization="mean"), "flat": Objective(alpha=0.5, beta_inv=2)}
PLAIN = Options(reference_moves=False, noisy_reward=False)
ETAS = [1e-9, 0.1, 0.9]


def ensemble(objective: Objective, eta: float, precision: str = "float64") -> Ensemble:
    machine = Machine("natural", SEPARATE, PLAIN, log_policy_only, precision)
    return Ensemble(machine, stack([setting(objective, PROBLEM, eta)] * 3), run_keys(0, 3))


def line(objective: Objective) -> tuple[np.ndarray, float]:
    """A = constant - entropy log pi from the table of coefficients."""
    w, x = objective.coefficients, objective.length_exponent
    log_p = np.log(PROBLEM.base)
    return w.w_r * PROBLEM.reward + (w.w_p - w.w_h) * log_p / PROBLEM.length**x + w.w_h * log_p, w.w_h


def one_by_one(objective: Objective, eta: float, steps: int) -> np.ndarray:
    constant, entropy = line(objective)
    log_pi = np.log(PROBLEM.base)
    for _ in range(steps):
        log_pi = log_softmax(log_pi + eta * (constant - entropy * log_pi))
    return log_pi


def last(progress: Progress) -> np.ndarray:
    return progress.records[-1, 0, 0]


@pytest.mark.parametrize("eta", ETAS)
@pytest.mark.parametrize("name", OBJECTIVES)
def test_the_end_is_that_of_the_updates_one_by_one(name: str, eta: float) -> None:
    objective = OBJECTIVES[name]
    for steps in (1, 2, 333):
        *_, end = run(ensemble(objective, eta), start(ensemble(objective, eta)), steps=steps, record_every=steps)
        wanted = one_by_one(objective, eta, steps)
        np.testing.assert_allclose(last(end), wanted, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("eta", [1.0, 1.3, 1.99])
def test_steps_that_jump_over_the_end_or_hit_it(eta: float) -> None:
    objective = Objective(alpha=2.0)  # w_h is 1, so g is 0 or negative
    for steps in (1, 2, 7):
        *_, end = run(ensemble(objective, eta), start(ensemble(objective, eta)), steps=steps, record_every=steps)
        np.testing.assert_allclose(last(end), one_by_one(objective, eta, steps), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("eta", [1e-12, 1e-5, 0.3])
def test_a_hundred_thousand_updates_lose_no_digits(eta: float) -> None:
    objective, steps = Objective(alpha=2.0, beta_inv=3.0), 10**5
    *_, end = run(ensemble(objective, eta), start(ensemble(objective, eta)), steps=steps, record_every=steps)
    constant, entropy = line(objective)
    with mpmath.workdps(50):
        g = 1 - mpmath.mpf(eta) * mpmath.mpf(entropy)
        share = (1 - g**steps) / (1 - g)
        theta = [
            g**steps * mpmath.mpf(p) + mpmath.mpf(eta) * mpmath.mpf(c) * share
            for p, c in zip(np.log(PROBLEM.base).tolist(), constant.tolist(), strict=True)
        ]
        log_z = mpmath.log(mpmath.fsum(mpmath.exp(x) for x in theta))
        wanted = [float(x - log_z) for x in theta]
    np.testing.assert_allclose(last(end), wanted, rtol=2e-14, atol=1e-15)


def test_records_in_between_do_not_change_the_end_nor_does_an_interruption() -> None:
    runs = ensemble(Objective(alpha=2.0), 0.01)
    *_, whole = run(runs, start(runs), steps=60, record_every=5)
    *_, half = run(runs, start(runs), steps=30, record_every=5)
    *_, continued = run(runs, half, steps=60, record_every=5)
    np.testing.assert_array_equal(whole.records, continued.records)
    *_, chosen = run_at(runs, start(runs), [5, 30, 60])
    np.testing.assert_allclose(chosen.records[1:], whole.records[[1, 6, 12]], rtol=1e-13)
    assert int(chosen.state.updates[0]) == chosen.updates == 60


def test_single_precision_stays_single() -> None:
    runs = ensemble(Objective(alpha=2.0), 0.1, "float32")
    *_, end = run(runs, start(runs), steps=50, record_every=50)
    assert end.records.dtype == np.float32
    np.testing.assert_allclose(last(end), one_by_one(Objective(alpha=2.0), 0.1, 50), rtol=1e-5)


def test_what_has_no_closed_form_takes_its_steps() -> None:
    assert leaps("natural", SEPARATE, PLAIN)
    assert leaps("mirror", SEPARATE, PLAIN)
    assert not leaps("softmax", SEPARATE, PLAIN)
    assert not leaps("natural", SHARED, PLAIN)
    for change in ({"optimizer": "momentum"}, {"optimizer": "adam"}, {"reference_moves": True}, {"utility": "log"}):
        assert not leaps("natural", SEPARATE, PLAIN._replace(**change))
