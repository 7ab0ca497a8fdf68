"""Samples beside NumPy's count of all cumulative probabilities, and beside their law."""

from __future__ import annotations

from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from sharpen.toy.dynamics.sampling import COMPARED, reached, samples

SIZES = (1, 4, COMPARED - 1, COMPARED, COMPARED + 1, 100, 511)  # of levels: each is compiled once
STEPS = st.sampled_from([0.0, 0.25, 1.0, 1e-3, 1e-300])  # with many that are equal


@cache
def compiled() -> Any:
    return jax.jit(reached)


@given(data=st.data(), size=st.sampled_from(SIZES), precision=st.sampled_from(["float64", "float32"]))
def test_as_many_levels_are_reached_as_numpy_counts(data: st.DataObject, size: int, precision: str) -> None:
    rises = data.draw(hnp.arrays(np.float64, (2, size), elements=STEPS))
    levels = np.cumsum(rises, axis=1).astype(precision)
    # Numbers between levels, exactly on them, below all and above all.
    on = data.draw(hnp.arrays(np.intp, (2, 3), elements=st.integers(0, size - 1)))
    between = data.draw(hnp.arrays(np.float64, (2, 3), elements=st.floats(0.0, 1.0, allow_subnormal=False)))
    exact = np.take_along_axis(levels, on, axis=1)
    ends = np.stack(
        [np.full(2, -1.0), levels[:, -1], np.nextafter(levels[:, -1] + 1.0, np.inf), np.full(2, np.nan)], axis=1
    )
    below = np.where(exact > 0.0, np.nextafter(exact, -np.inf), -1.0)  # no subnormals, which XLA takes for 0
    at = np.concatenate([exact, below, between * levels[:, -1:], ends], axis=1)
    at = at.astype(precision)
    with jax.enable_x64():
        found = np.asarray(compiled()(levels, at))
    assert np.array_equal(found, np.sum(levels[:, None] <= at[..., None], axis=-1))


@pytest.mark.parametrize("n", [8, COMPARED + 8, 300])
def test_samples_are_the_outcomes_at_their_uniform_numbers(n: int) -> None:
    """Seeds keep their meaning: the same uniform numbers, and the first outcome whose cumulative mass is above them."""
    log_pi = np.log(np.random.default_rng(n).dirichlet(np.ones(n), size=3))
    with jax.enable_x64():
        key = jax.random.key(5)
        drawn = np.asarray(samples(key, jnp.asarray(log_pi), 200))
        uniform = np.asarray(jax.random.uniform(key, (3, 200), "float64"))
    mass = np.cumsum(np.exp(log_pi), axis=1)
    expected = [np.searchsorted(row, u * row[-1], side="right") for row, u in zip(mass, uniform, strict=True)]
    assert np.array_equal(drawn, expected)


def test_the_law_of_many_outcomes() -> None:
    n, draws = 64, 40_000
    pi = np.random.default_rng(1).dirichlet(np.full(n, 2.0))
    with jax.enable_x64():
        drawn = np.asarray(samples(jax.random.key(2), jnp.log(pi)[None], draws))[0]
    assert scipy.stats.chisquare(np.bincount(drawn, minlength=n), draws * pi).pvalue > 1e-4
