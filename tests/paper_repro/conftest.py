"""Results made up for the tests of statistics, verdicts and pages; nothing in the repository shows them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

P, N, STEPS = 24, 16, 12
Made = Callable[..., dict[str, Any]]


def table(rng: np.random.Generator, rate: float, length: float, alpha: float | None, distinct: float) -> dict[str, Any]:
    correct = rng.binomial(N, rate, size=P)
    base = -rng.uniform(1, 3, size=P)
    found = {
        "samples": N,
        "ids": [f"{i}+1=?" for i in range(P)],
        "correct": correct.tolist(),
        **{f"maj@{k}": (correct / N).tolist() for k in (1, 2, 4, 8, 16)},
        "response_length": (length + rng.normal(0, 0.3, size=P)).tolist(),
        "finished": [1.0] * P,
        "answered": [1.0] * P,
        "distinct": [distinct] * P,
        "base_logprob": base.tolist(),
    }
    if alpha is not None:
        found |= {"logprob": (base + 0.5).tolist(), "entropy": [1.0] * P}
        found |= {"alpha_xx": [1.0] * P, "alpha_xy": [alpha + 0.01 * rng.normal() for _ in range(P)]}
    return found


@pytest.fixture(scope="session")
def made() -> Made:
    """Return a maker of stored results of a trained arm, or of the base."""

    def make(
        arm: str,
        seed: int,
        objective: dict[str, Any] | None,
        rate: float,
        *,
        best: float | None = None,
        length: float = 16.0,
        alpha: float = 1.0,
        distinct: float = 9.0,
        fixed: bool = False,
        model: str = "embedded",
    ) -> dict[str, Any]:
        rng = np.random.default_rng([seed, len(arm), int(1000 * rate)])
        kind = "train" if objective is not None else "sample"
        config: dict[str, Any] = {"model": model}
        if objective is None:
            checkpoints = {"base": {"step": 0, "problems": {"embedded": table(rng, rate, length, None, distinct)}}}
            result: dict[str, Any] = {"checkpoints": checkpoints, "cost": {}}
            config |= {"method": "plain", "alpha": 1.0}
        else:
            config |= {"objective": objective, "ignore_eos": fixed}
            top = rate if best is None else best
            checkpoints = {
                name: {"step": step, "problems": {"embedded": table(rng, share, length, alpha, distinct)}}
                for name, step, share in (("last", 12, rate), ("best", 6, top))
            }
            metrics = ("reward", "pseudo_reward", "response_length", "finished", "entropy", "kl_ref", "ref_logprob")
            training: dict[str, Any] = {m: rng.normal(1, 0.1, STEPS).tolist() for m in metrics}
            training |= {m: rng.normal(1, 0.1, STEPS).tolist() for m in ("effective_alpha", "gradient_norm")}
            selection = [{"step": 0, "pass@1": 0.4}, {"step": 6, "pass@1": top}, {"step": 12, "pass@1": rate}]
            result = {"training": training, "selection": selection, "checkpoints": checkpoints}
        return {
            "id": f"{arm}-s{seed}",
            "arm": arm,
            "experiment": "made",
            "kind": kind,
            "seed": seed,
            "settings": {"config": config, "evaluate": []},
            "settings_hash": "0",
            "code_hash": "0",
            "expected_tokens": {"trained": 10, "evaluated": 10},
            "result": result,
            "provenance": {
                "finished": "2026-01-01T00:00:00+00:00",
                "commit": "0" * 40,
                "python": "3",
                "versions": {"torch": "2"},
                "hardware": {"model": "cpu <test>", "cores": 2, "gpu": None},
                "command": f"sharpen paper run --scale embedded --run {arm}-s{seed}",
                "tokens": {"trained": 5, "evaluated": 6},
                "seconds": 1.0,
                "cpu_seconds": 1.0,
            },
        }

    return make


TASK = {"mode": "optimization", "alpha": 0.0, "beta_inv": 1.0}
SHARPENING = {"mode": "optimization", "alpha": 1.0, "beta_inv": 0.0}


def tempered(alpha: float) -> dict[str, Any]:
    return {"mode": "sampling", "alpha": alpha, "beta_inv": 0.0}


@pytest.fixture(scope="session")
def story(made: Made) -> dict[str, dict[str, Any]]:
    """Return results in which every claim of the paper about training holds, three seeds each."""
    rows = []
    for seed in (1, 2, 3):
        rows += [
            made("base", seed, None, 0.4),
            made("task-reward-0-1", seed, TASK, 0.95, length=35.0),
            made("sharpening-1-0", seed, SHARPENING, 0.02, best=0.3, length=5.0, distinct=1.1),
            made("sharpening-1-0-fixed", seed, SHARPENING, 0.3, length=20.0, fixed=True),
            made("tempered-2-0", seed, tempered(2.0), 0.25, length=10.0, alpha=1.05),
            made("tempered-2-0-fixed", seed, tempered(2.0), 0.35, length=18.0, alpha=1.0, fixed=True),
            made("tempered-1-0", seed, tempered(1.0), 0.4),
        ]
    return {row["id"]: row for row in rows}
