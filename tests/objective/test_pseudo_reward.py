"""The pseudo-reward against a transcription of the authors' formulas, in every array library."""

from __future__ import annotations

import itertools
import math
import zlib
from typing import Any

import array_api_strict
import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sharpen.objective import MODES, NORMALIZATIONS, Coefficients, Objective

CASES = [
    (mode, normalization, beta_inv, alpha)
    for mode, normalization, beta_inv, alpha in itertools.product(
        MODES, NORMALIZATIONS, (0.0, 0.25, 100.0), (0.0, 0.5, 1.0, 4.0)
    )
    if not (mode == "optimization" and beta_inv == 0.0 and (alpha == 0.0 or normalization == "none"))
]


def authors_pseudo_reward(
    mode: str, normalization: str, beta_inv: float, alpha: float, r: float, logp: float, logpi: float, length: int
) -> float:
    """One sample, in plain floats, written from the published formulas and sharing nothing with the package."""
    extra = {
        "none": 0.0,
        "sum": logp,
        "mean": logp / length,
        "weighted_mean": logp / math.pow(length, 0.5),
    }[normalization]
    if mode == "sampling":
        if beta_inv == 0:
            return (alpha - 1) * extra + (logp - logpi)
        return r + ((alpha - 1) / beta_inv) * extra + (1 / beta_inv) * (logp - logpi)
    if beta_inv == 0:
        return alpha * extra
    return r + (alpha / beta_inv) * extra


def make(mode: str, normalization: str, beta_inv: float, alpha: float) -> Objective:
    weight = 0.5 if normalization == "weighted_mean" else None
    return Objective.model_validate(
        {"alpha": alpha, "beta_inv": beta_inv, "mode": mode, "normalization": normalization, "weight": weight}
    )


def batch(seed: int, size: int = 16) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {
        "reward": rng.normal(size=size),
        "ref_logprob": -rng.exponential(20.0, size=size),
        "policy_logprob": -rng.exponential(20.0, size=size),
        "length": rng.integers(1, 500, size=size),
    }


def to_library(library: str, arrays: dict[str, np.ndarray], dtype: str) -> dict[str, Any]:
    if library == "torch":
        kinds = {name: getattr(torch, dtype) for name in arrays} | {"length": torch.int64}
        return {name: torch.tensor(x).to(kinds[name]) for name, x in arrays.items()}
    module = jnp if library == "jax" else np
    kind = ml_dtypes.bfloat16 if dtype == "bfloat16" else np.dtype(dtype)
    with jax.enable_x64():
        return {name: module.asarray(x if name == "length" else x.astype(kind)) for name, x in arrays.items()}


TOLERANCE = {"float64": 1e-13, "float32": 2e-6, "float16": 4e-3, "bfloat16": 3e-2}
LIBRARIES = [
    (library, dtype)
    for library in ("numpy", "jax", "torch")
    for dtype in TOLERANCE
    if not (library == "numpy" and dtype == "bfloat16")  # NumPy has no bfloat16 of its own
]


@pytest.mark.parametrize(("library", "dtype"), LIBRARIES)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_agrees_with_the_authors_formulas(library: str, dtype: str, case: tuple[str, str, float, float]) -> None:
    objective, arrays = make(*case), batch(seed=zlib.crc32(repr(case).encode()))
    given_arrays = to_library(library, arrays, dtype)
    with jax.enable_x64():
        got = objective.pseudo_reward(**given_arrays)
    assert type(got) is type(given_arrays["ref_logprob"])
    assert got.dtype == given_arrays["ref_logprob"].dtype
    rows = zip(arrays["reward"], arrays["ref_logprob"], arrays["policy_logprob"], arrays["length"], strict=True)
    expected = np.array([authors_pseudo_reward(*case, float(r), float(p), float(q), int(n)) for r, p, q, n in rows])
    scale = max(1.0, max(abs(w) for w in objective.coefficients)) * 20.0
    computed = np.asarray(got.to(torch.float64) if isinstance(got, torch.Tensor) else got, dtype=np.float64)
    np.testing.assert_allclose(computed, expected, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype] * scale)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_only_the_standard_is_used(case: tuple[str, str, float, float]) -> None:
    """array-api-strict refuses everything that is not in the Python array API standard."""
    objective, arrays = make(*case), batch(seed=1)
    strict = {name: array_api_strict.asarray(x) for name, x in arrays.items()}
    got = objective.pseudo_reward(**strict)
    np.testing.assert_allclose(np.asarray(got), objective.pseudo_reward(**arrays), rtol=1e-14)


def categorical(seed: int, n: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {
        "reward": rng.normal(size=n),
        "ref_logprob": np.log(rng.dirichlet(np.ones(n))),
        "policy_logprob": np.log(rng.dirichlet(np.ones(n))),
        "length": rng.integers(1, 30, size=n),
    }


def textbook_value(w: Coefficients, x: dict[str, np.ndarray], exponent: float) -> float:
    """w_r E[r] + w_p E[s] + w_h H(pi), every likelihood term normalised by length."""
    pi = np.exp(x["policy_logprob"])
    s = x["ref_logprob"] / x["length"] ** exponent
    return float(w.w_r * pi @ x["reward"] + w.w_p * pi @ s - w.w_h * pi @ x["policy_logprob"])


@settings(max_examples=200)
@given(st.sampled_from(CASES), st.integers(0, 2**32 - 1), st.integers(1, 12))
def test_its_expectation_is_the_value_up_to_the_unnormalised_kl(case, seed: int, n: int) -> None:
    """E[pseudo-reward] = value(), and it misses the textbook J by w_h E[log p - s], which is 0 without lengths."""
    objective, x = make(*case), categorical(seed, n)
    pi = np.exp(x["policy_logprob"])
    expectation = float(pi @ objective.pseudo_reward(**x))
    w, exponent = objective.coefficients, objective.length_exponent
    np.testing.assert_allclose(expectation, objective.value(**x), rtol=1e-12, atol=1e-12)
    gap = w.w_h * float(pi @ (x["ref_logprob"] - objective.score(x["ref_logprob"], x["length"])))
    np.testing.assert_allclose(expectation - textbook_value(w, x, exponent), gap, rtol=1e-9, atol=1e-9)
    if objective.normalization in ("none", "sum") or objective.mode == "optimization":
        assert gap == 0.0


def test_gradients_stop_at_the_pseudo_reward() -> None:
    objective, arrays = make("sampling", "mean", 0.25, 2.0), batch(seed=3)
    tensors = {name: torch.tensor(x, requires_grad=x.dtype.kind == "f") for name, x in arrays.items()}
    assert not objective.pseudo_reward(**tensors).requires_grad
    gradient = jax.grad(lambda logpi: objective.pseudo_reward(**{**arrays, "policy_logprob": logpi}).sum())
    assert not np.any(gradient(jnp.asarray(arrays["policy_logprob"])))


def test_terms_without_weight_are_never_read() -> None:
    """What a sharpening run must not see cannot leak: NaN rewards, or none, change nothing."""
    arrays = batch(seed=4)
    for objective in (make("optimization", "sum", 0.0, 1.0), make("sampling", "mean", 0.0, 2.0)):
        clean = objective.pseudo_reward(**{**arrays, "reward": None})
        poisoned = objective.pseudo_reward(**{**arrays, "reward": np.full(16, np.nan)})
        np.testing.assert_array_equal(clean, poisoned)
    task = make("optimization", "sum", 1.0, 0.0)
    np.testing.assert_array_equal(task.pseudo_reward(reward=arrays["reward"]), arrays["reward"])


@pytest.mark.parametrize("missing", ["reward", "ref_logprob", "policy_logprob", "length"])
def test_a_missing_array_is_named(missing: str) -> None:
    objective = make("sampling", "mean", 0.25, 2.0)
    with pytest.raises(ValueError, match=f"^{missing}: got None"):
        objective.pseudo_reward(**{**batch(seed=5), missing: None})


def test_value_ignores_outcomes_without_mass() -> None:
    objective = Objective(alpha=2.0)
    inside = {"policy_logprob": np.log([0.5, 0.5]), "ref_logprob": np.log([0.3, 0.7])}
    outside = {name: np.append(x, -np.inf) for name, x in inside.items()}
    assert objective.value(**outside) == objective.value(**inside)
    gradient = jax.grad(lambda logpi: objective.value(policy_logprob=logpi, ref_logprob=outside["ref_logprob"]))
    assert np.all(np.isfinite(gradient(jnp.asarray(outside["policy_logprob"]))))
