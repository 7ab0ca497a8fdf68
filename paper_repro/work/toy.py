"""The simulated experiments: RLOO on a tabular policy over the embedded model's ways to answer, and toy findings."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from sharpen.objective import Objective
from sharpen.paper_repro.work.theory import WAYS_BASE, WAYS_LENGTH, WAYS_REWARD, ways
from sharpen.theory.optima.optimum import optimum
from sharpen.toy.studies.findings import FINDINGS, find
from sharpen.toy.sweeps.config import SweepConfig
from sharpen.toy.sweeps.summary import read
from sharpen.toy.sweeps.sweep import sweep

MEASURES = ("expected_reward", "length", "entropy", "kl_base", "kl_optimum", "effective_alpha", "top1")
COLLAPSED = 0.99  # mass of one outcome


def regimes(folder: Path, seed: int, *, seeds: int, steps: int, group: int, step_size: float) -> dict[str, Any]:
    """Return mean and spread over seeds of sampled RLOO in each regime, and where the theory says that it ends.

    Args:
        folder: For the sweeps.
        seed: Of all random numbers.
        seeds: Runs of each objective.
        steps: Updates.
        group: Samples of an update.
        step_size: eta.
    """
    objectives = {
        "task-reward": Objective(mode="optimization", alpha=0.0, beta_inv=1.0),
        "sharpening": Objective(mode="optimization"),
        "tempered": Objective(alpha=2.0),
        "tilted": Objective(alpha=2.0, beta_inv=10.0),
    }
    rows = []
    for name, objective in objectives.items():
        config = SweepConfig(
            **_ways(),  # pyright: ignore[reportArgumentType]
            mode=(objective.mode,),
            alpha=(objective.alpha,),
            beta_inv=(objective.beta_inv,),
            step_size=(step_size,),
            group_size=(group,),
            seeds=seeds,
            seed=seed,
            steps=steps,
            record_every=max(1, steps // 50),
        )
        table = read(sweep(config, folder / name))
        problem, found = ways(), optimum(objective, ways())
        predicted = {
            "expected_reward": found.expected_reward,
            "length": float(found.probabilities @ problem.length),
            "entropy": found.entropy,
        }
        rows.append({"name": name, "objective": objective.to_dict(), "theory": predicted} | _curves(table))
    return {"seeds": seeds, "rows": rows}


def _ways() -> dict[str, str]:
    texts = {"base": WAYS_BASE, "reward": WAYS_REWARD, "length": WAYS_LENGTH}
    return {name: ",".join(str(number) for number in numbers) for name, numbers in texts.items()}


def _curves(table: dict[str, Any]) -> dict[str, Any]:
    """Return each measure over updates: mean, and the 2.5 and 97.5 % points over seeds."""
    steps = np.unique(table["step"])
    shaped = {name: np.array([table[name][table["step"] == step] for step in steps], dtype=float) for name in MEASURES}
    found: dict[str, Any] = {"step": steps.tolist()}
    for name, values_KS in shaped.items():
        spread = np.nanquantile(values_KS, [0.025, 0.975], axis=1) if np.isfinite(values_KS).any() else None
        found[name] = {
            "mean": values_KS.mean(axis=1).tolist(),
            "low": spread[0].tolist() if spread is not None else None,
            "high": spread[1].tolist() if spread is not None else None,
        }
    found["end"] = {name: values_KS[-1].tolist() for name, values_KS in shaped.items()}
    found["collapsed"] = float((shaped["top1"][-1] >= COLLAPSED).mean())
    return found


def finding(folder: Path, seed: int, *, name: str, seeds: int) -> dict[str, Any]:
    """Return one of the toy's findings, decided by its own sweeps.

    Args:
        folder: For the sweeps.
        seed: Unused: a finding names its own.
        name: One of ``sharpen toy findings``.
        seeds: Runs of each sampled setting.
    """
    verdict = find(name, folder, seeds=seeds)
    numbers = {label: list(interval) for label, interval in verdict.numbers.items()}
    return {"name": name, "statement": FINDINGS[name].statement, "holds": bool(verdict.holds), "numbers": numbers}


COMPUTATIONS: dict[str, Callable[..., dict[str, Any]]] = {"regimes": regimes, "finding": finding}
