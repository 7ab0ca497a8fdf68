"""Starting runs: what every learner starts from, drawn and observed by one program that is compiled quickly."""

from __future__ import annotations

import jax
import numpy as np
import pytest
from scipy.special import log_softmax

from sharpen.objective import PRESETS, Objective
from sharpen.theory.core.problem import Problem
from sharpen.toy.dynamics import compiled, engine
from sharpen.toy.dynamics.engine import Ensemble, Machine, log_policy_only, run, run_keys, stack, start
from sharpen.toy.dynamics.observe import observer
from sharpen.toy.dynamics.updates import make
from sharpen.toy.learners.parts.learner import Options
from sharpen.toy.problems.policies import SEPARATE, SHARED, Family
from sharpen.toy.problems.setting import Setting, setting

PROBLEM = Problem([0.4, 0.3, 0.2, 0.1], [0, 0, 1, 1], [1, 2, 3, 4])
PLAIN = Options(group_size=4, reference_moves=False)


def of(*noises: float) -> Setting:
    return stack([setting(PRESETS["tempered"], PROBLEM, 0.1, base_noise=noise) for noise in noises])


def ensemble(kind: str, settings: Setting, family: Family = SEPARATE, precision: str = "float64") -> Ensemble:
    runs = len(settings.log_base)
    return Ensemble(Machine(kind, family, PLAIN, log_policy_only, precision), settings, run_keys(3, runs))


@pytest.mark.parametrize(("family", "theta"), [(SEPARATE, np.log(PROBLEM.base)[None]), (SHARED, np.zeros(4))])
@pytest.mark.parametrize(("precision", "tolerance"), [("float64", 1e-14), ("float32", 1e-6)])
def test_every_run_starts_at_the_base(family: Family, theta: np.ndarray, precision: str, tolerance: float) -> None:
    begun = start(ensemble("softmax", of(0.0, 0.0), family, precision))
    assert begun.updates == 0
    assert begun.state.parameters.theta.dtype == begun.records.dtype == precision
    assert np.array_equal(begun.state.parameters.theta, np.stack([theta] * 2).astype(precision))
    assert np.array_equal(begun.state.reference, np.log(PROBLEM.base).astype(precision)[None].repeat(2, 0)[:, None])
    assert not begun.state.error.any()
    assert not begun.state.updates.any()
    assert not begun.state.parameters.log_z.any()
    base = log_softmax(np.log(PROBLEM.base))
    assert np.allclose(begun.records, base, rtol=0, atol=tolerance)
    assert begun.records.shape == (1, 2, 1, 4)
    assert np.allclose(begun.state.behaviour, base, rtol=0, atol=tolerance)


def test_the_error_of_the_base_is_drawn_by_the_runs_own_key() -> None:
    """Published results depend on these numbers: a key of each run's seed, folded with the largest 32-bit one."""
    keys = run_keys(3, 3)
    with jax.enable_x64():
        drawn = [jax.random.normal(jax.random.fold_in(jax.random.key(key), 2**32 - 1), (1, 4)) for key in keys]
        expected = np.stack([np.asarray(one, dtype=np.float64) for one in drawn])
    noises = np.array([0.5, 0.0, 2.0])
    for kind in ("natural", "rloo"):
        error = start(ensemble(kind, of(*noises))).state.error
        assert np.allclose(error, noises[:, None, None] * expected, rtol=1e-15, atol=0)


@pytest.mark.parametrize("moves", [False, True])
def test_the_objective_sees_log_p_with_its_error(moves: bool) -> None:
    """The first softmax step from the base is eta pi (A - E A) with A = r + w_p (log p + e) - w_h log pi."""
    objective = Objective(alpha=2.0, beta_inv=2.0)  # w_r = 1, w_p = 1, w_h = 1/2
    at = setting(objective, Problem(PROBLEM.base, PROBLEM.reward), 0.1, base_noise=0.5)
    with jax.enable_x64():
        learner = make("softmax", at, SEPARATE, PLAIN._replace(reference_moves=moves))
        state = learner.init(jax.random.key(1))
        after = compiled.quickly(learner.step)(state, jax.random.key(2))
        error, moved = np.asarray(state.error[0]), np.asarray(after.parameters.theta - state.parameters.theta)[0]
    A = PROBLEM.reward + np.log(PROBLEM.base) + error - 0.5 * np.log(PROBLEM.base)
    assert np.abs(error).max() > 0.1
    np.testing.assert_allclose(moved, 0.1 * PROBLEM.base * (A - PROBLEM.base @ A), rtol=1e-10)


@pytest.mark.parametrize("kind", ["softmax", "rloo"])
def test_a_run_is_the_same_alone_and_among_noisy_ones(kind: str) -> None:
    among, alone = ensemble(kind, of(0.0, 0.7)), ensemble(kind, of(0.0))
    *_, mixed = run(among, start(among), steps=20, record_every=10)
    *_, single = run(alone, start(alone), steps=20, record_every=10)
    assert np.array_equal(mixed.records[:, 0], single.records[:, 0])
    assert not np.allclose(mixed.records[-1, 0], mixed.records[-1, 1])


def test_learners_that_start_alike_share_one_program() -> None:
    observe = observer((1, 3))
    before = engine._beginning.cache_info().misses
    found = []
    for kind in ("natural", "grpo", "rloo"):
        one = ensemble(kind, of(0.0))
        found.append(start(one._replace(machine=one.machine._replace(observe=observe))).records)
    assert engine._beginning.cache_info().misses == before + 1
    with jax.enable_x64():  # operation by operation, without any program
        at, log_base = jax.tree.map(lambda part: part[0], of(0.0)), jax.numpy.log(jax.numpy.asarray(PROBLEM.base))[None]
        seen = observe(at, log_base, None)  # type: ignore[arg-type]
    for record in found:
        assert record.keys() == seen.keys()
        for name, number in seen.items():
            assert np.allclose(record[name], number, rtol=1e-12, atol=1e-14, equal_nan=True), name


def test_an_option_that_a_later_xla_has_dropped_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(compiled.QUICK, "xla_an_option_that_was_dropped", 1)
    compiled._understood.cache_clear()
    try:
        assert not compiled._understood()
        assert float(compiled.quickly(lambda x: 2.0 * x)(3.0)) == 6.0
    finally:
        compiled._understood.cache_clear()


def test_the_options_are_understood_here() -> None:
    """Where this fails after an update of jax, an option was dropped and programs take long to compile again."""
    if jax.default_backend() != "cpu":
        pytest.skip("they are of CPUs")
    assert compiled._understood()
