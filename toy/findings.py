"""What the toy shows, each statement with the sweeps that test it and the rule that decides it.

A rule reads the runs' ends and answers from intervals over seeds: it can say no.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sharpen.objective import InputError, Objective
from sharpen.theory.optimum import optimum
from sharpen.toy.measures import mean_interval
from sharpen.toy.summary import read
from sharpen.toy.sweep import sweep
from sharpen.toy.sweep_config import SweepConfig

SMALL = 0.01  # nats; a KL below it counts as none
Runs = dict[str, NDArray[Any]]


class Interval(NamedTuple):
    """A mean over seeds with its 95% t-interval."""

    mean: float
    low: float
    high: float


class Verdict(NamedTuple):
    """What a finding's runs say.

    Args:
        holds: Whether the rule found the statement borne out.
        numbers: The intervals that decided it, by name.
    """

    holds: bool
    numbers: dict[str, Interval]


@dataclass(frozen=True)
class Finding:
    """A statement and its test.

    Args:
        name: On the command line.
        statement: What is claimed.
        sweeps: From the number of seeds to the sweeps to run, by name.
        decide: From the sweeps' tables, by name, to the verdict.
    """

    name: str
    statement: str
    sweeps: Callable[[int], dict[str, SweepConfig]]
    decide: Callable[[dict[str, Runs]], Verdict]


def at_end(runs: Runs, measure: str, **axes: object) -> Interval:
    """Return a measure at the last step over the seeds of one setting."""
    chosen = runs["step"] == runs["step"].max()
    for axis, given in axes.items():
        chosen &= runs[axis] == given
    values = runs[measure][chosen].astype(float)
    mean, interval = mean_interval(values)
    low, high = interval or (mean, mean)
    return Interval(mean, low, high)


def _mode(seeds: int) -> dict[str, SweepConfig]:
    common = {"mode": ("optimization",), "seeds": seeds, "steps": 4000, "step_size": (0.3,), "learner": ("rloo",)}
    return {
        "wrong mode": SweepConfig.model_validate({**common, "reward": "1,3"}),
        "correct mode": SweepConfig.model_validate({**common, "reward": "0"}),
    }


def _mode_verdict(tables: dict[str, Runs]) -> Verdict:
    numbers = {name: at_end(runs, "expected_reward") for name, runs in tables.items()}
    holds = numbers["wrong mode"].high < SMALL and numbers["correct mode"].low > 1 - SMALL
    return Verdict(holds, numbers)


def _support(seeds: int) -> dict[str, SweepConfig]:
    common = {"alpha": (2.0,), "step_size": (3.0,), "steps": 400, "seeds": seeds}
    return {
        "flow": SweepConfig.model_validate({**common, "learner": ("softmax-flow",), "seeds": 1}),
        "2 samples": SweepConfig.model_validate({**common, "learner": ("rloo",), "group_size": (2,)}),
    }


def _support_verdict(tables: dict[str, Runs]) -> Verdict:
    numbers = {f"effective support, {name}": at_end(runs, "effective_support") for name, runs in tables.items()}
    flow, sampled = numbers.values()
    return Verdict(sampled.high < flow.low - 0.1, numbers)


def _self_sharpening(seeds: int) -> dict[str, SweepConfig]:
    common = {"alpha": (1.5,), "reference": ("policy",), "seeds": seeds, "record_every": 1}
    return {
        "flow": SweepConfig.model_validate(
            {**common, "learner": ("natural-flow",), "seeds": 1, "step_size": (0.1,), "steps": 30}
        ),
        "sampled": SweepConfig.model_validate({**common, "learner": ("rloo",), "step_size": (0.3,), "steps": 2000}),
    }


def _self_sharpening_verdict(tables: dict[str, Runs]) -> Verdict:
    """The flow's log effective alpha grows at the rate (alpha - 1) a unit of time; sampled runs end in one outcome."""
    flow = tables["flow"]
    rate = np.polyfit(0.1 * flow["step"], np.log(flow["effective_alpha"]), 1)[0]
    top = at_end(tables["sampled"], "top1")
    numbers = {"growth rate of log effective alpha": Interval(rate, rate, rate), "top-1 mass, sampled": top}
    return Verdict(abs(rate - 0.5) < 1e-6 and top.low > 0.95, numbers)


LENGTH_ALPHAS = (0.8, 1.0, 1.5)


def _length(seeds: int) -> dict[str, SweepConfig]:
    grid = {"policy": "tree", "alpha": LENGTH_ALPHAS, "step_size": (0.3,), "steps": 1500, "seeds": seeds}
    return {"tree": SweepConfig.model_validate({**grid, "longest": 4, "group_size": (32,)})}


def _length_verdict(tables: dict[str, Runs]) -> Verdict:
    """Mean lengths against those of p^alpha on the same sequences, from the theory."""
    (config,) = _length(2).values()
    problem, _ = config.problem()
    numbers, holds = {}, True
    for alpha in LENGTH_ALPHAS:
        predicted = float(optimum(Objective(alpha=alpha), problem).probabilities @ problem.length)
        found = at_end(tables["tree"], "length", alpha=alpha)
        numbers[f"alpha {alpha:g}: tokens"] = found
        numbers[f"alpha {alpha:g}: predicted"] = Interval(predicted, predicted, predicted)
        holds &= abs(found.mean - predicted) < 0.02 * predicted
    return Verdict(holds, numbers)


def _face(seeds: int) -> dict[str, SweepConfig]:
    common = {"mode": ("optimization",), "alpha": (0.0,), "beta_inv": (1.0,), "step_size": (0.2,), "steps": 2000}
    return {
        "natural": SweepConfig.model_validate({**common, "learner": ("natural",), "seeds": 1}),
        "rloo": SweepConfig.model_validate({**common, "learner": ("rloo",), "seeds": seeds}),
    }


def _face_verdict(tables: dict[str, Runs]) -> Verdict:
    numbers = {f"KL within the face, {name}": at_end(runs, "kl_correct") for name, runs in tables.items()}
    numbers |= {f"mass of the face, {name}": at_end(runs, "face_mass") for name, runs in tables.items()}
    natural, sampled, *masses = numbers.values()
    holds = all(mass.low > 1 - SMALL for mass in masses) and natural.mean < 1e-9 and sampled.low > SMALL
    return Verdict(holds, numbers)


def _rank(seeds: int) -> dict[str, SweepConfig]:
    common = {"mode": ("optimization",), "alpha": (0.0,), "beta_inv": (1.0,), "step_size": (0.1,), "steps": 1000}
    learners = ("grpo", "unlikeliness")
    return {"both": SweepConfig.model_validate({**common, "learner": learners, "group_size": (8,), "seeds": seeds})}


def _rank_verdict(tables: dict[str, Runs]) -> Verdict:
    numbers = {
        f"KL within the face, {name}": at_end(tables["both"], "kl_correct", learner=name)
        for name in ("grpo", "unlikeliness")
    }
    grpo, unlikely = numbers.values()
    return Verdict(grpo.low > SMALL and unlikely.high < grpo.low, numbers)


TO_GIBBS, ELSEWHERE = ("k1-reward", "k2-loss"), ("k2-reward", "k3-reward", "k1-loss", "k3-loss")


def _placements(seeds: int) -> dict[str, SweepConfig]:
    grid = {"kl": TO_GIBBS + ELSEWHERE, "beta_inv": (2.0,), "step_size": (0.3,), "steps": 2000, "seeds": seeds}
    return {"tilted": SweepConfig.model_validate(grid)}


def _placements_verdict(tables: dict[str, Runs]) -> Verdict:
    numbers = {kl: at_end(tables["tilted"], "kl_optimum", kl=kl) for kl in TO_GIBBS + ELSEWHERE}
    holds = all(numbers[kl].high < SMALL / 2 for kl in TO_GIBBS) and all(numbers[kl].low > SMALL for kl in ELSEWHERE)
    return Verdict(holds, {f"KL to the Gibbs optimum, {kl}": found for kl, found in numbers.items()})


FINDINGS = {
    finding.name: finding
    for finding in (
        Finding("mode", "sharpening ends at the mode of the base, whatever its reward", _mode, _mode_verdict),
        Finding(
            "support",
            "sampled tempered updates with a large step lose support that the exact flow keeps",
            _support,
            _support_verdict,
        ),
        Finding(
            "self-sharpening",
            "with p = pi and alpha > 1 the exponent grows like exp((alpha - 1) t), and sampled runs collapse",
            _self_sharpening,
            _self_sharpening_verdict,
        ),
        Finding(
            "length",
            "tempering shortens sequences for alpha > 1 and lengthens them for alpha < 1, by as much as p^alpha says",
            _length,
            _length_verdict,
        ),
        Finding(
            "face",
            "task reward ends on the face of correct outcomes; only the natural gradient keeps the base's ratios",
            _face,
            _face_verdict,
        ),
        Finding(
            "rank",
            "GRPO sharpens among correct outcomes, and the unlikeliness reward does so less",
            _rank,
            _rank_verdict,
        ),
        Finding(
            "placements",
            "of k1, k2, k3 in reward or loss, only k1 in the reward and k2 in the loss lead to the Gibbs optimum",
            _placements,
            _placements_verdict,
        ),
    )
}


def find(
    name: str, out: Path, *, seeds: int = 64, progress: Callable[[int, int], None] = lambda done, total: None
) -> Verdict:
    """Run, or continue, a finding's sweeps under ``out/name`` and return its verdict.

    Args:
        name: One of ``FINDINGS``.
        out: Folder of the sweeps.
        seeds: Runs of each sampled setting.
        progress: Called with the work of the present sweep done and in all.

    Raises:
        InputError: no finding has that name, fewer than two seeds, or a folder cannot be used.
    """
    if name not in FINDINGS:
        raise InputError("finding", name, ", ".join(FINDINGS))
    if seeds < 2:
        raise InputError("seeds", seeds, "at least 2, for an interval")
    finding = FINDINGS[name]
    tables = {
        title: read(sweep(config, out / name / title.replace(" ", "-"), progress=progress))
        for title, config in finding.sweeps(seeds).items()
    }
    return finding.decide(tables)
