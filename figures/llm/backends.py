"""One objective in three backends, side by side: theory's optimum, toy's trajectories, a language model's training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sharpen.figures.style import BASE_COLOR, REGIME_COLORS, paper_style, save_figure
from sharpen.figures.toy.dynamics import Trajectories, read_trajectories
from sharpen.objective import InputError, Objective
from sharpen.objective.storage.parsing import TABLE, parse_json
from sharpen.objective.storage.reading import read_json, read_lines, read_yaml
from sharpen.theory.core.flow import limit, softmax_limit
from sharpen.theory.core.problem import Problem

FloatArray = NDArray[np.float64]
LEARNER = "rloo"  # the toy's learner that is also the language model's
REWARD, LIKELIHOOD = 0, 1  # rows of the figure
SMOOTH = 5  # updates of the moving mean of one run's likelihood
SOFTMAX = "optimum of softmax gradients"


@dataclass(frozen=True)
class Curve:
    """Expected reward and likelihood of one regime in one backend, along training.

    Args:
        regime: Of the objective.
        reward_updates: Updates at which the reward is known, shape [A].
        reward: Expected reward, or held-out pass@1, shape [A].
        reward_interval: Lower and upper end of its 95% interval, shape [2, A].
        likelihood_updates: Updates at which the likelihood is known, shape [B].
        likelihood: E[log p] under the base, nats, shape [B].
        threshold: Score from which a response is right in pass@1.
        softmax_end: Expected reward and likelihood where softmax gradients end, as toy and language model follow them;
            None where training shows it.
    """

    regime: str
    reward_updates: FloatArray
    reward: FloatArray
    reward_interval: FloatArray
    likelihood_updates: FloatArray
    likelihood: FloatArray
    threshold: float = 1.0
    softmax_end: tuple[float, float] | None = None


@dataclass(frozen=True)
class Claim:
    """A statement about one backend and whether its numbers bear it out."""

    backend: str
    statement: str
    holds: bool


def theory_curves(toy: Trajectories) -> list[Curve]:
    """Return base and limit of the natural-gradient flow of each regime, on the problem of a simulation.

    And where softmax gradients end: where several right answers tie they keep others than natural gradients do.
    """
    problem = Problem(*(toy.summary["problem"][name] for name in ("base", "reward", "length")))
    curves = []
    for name, objective in _objectives(toy).items():
        policies = np.stack([problem.base, limit(objective, problem, problem.base)])
        reward, likelihood = policies @ problem.reward, policies @ _finite_log(problem)
        ends, other = np.array([0.0, 1.0]), softmax_limit(objective, problem, problem.base)
        softmax_end = (float(other @ problem.reward), float(other @ _finite_log(problem)))
        interval = np.stack([reward, reward])
        curves.append(Curve(name, ends, reward, interval, ends, likelihood, softmax_end=softmax_end))
    return curves


def toy_curves(toy: Trajectories) -> list[Curve]:
    """Return the mean over seeds of each regime's RLOO runs, with 95% of the seeds as the interval."""
    problem = Problem(*(toy.summary["problem"][name] for name in ("base", "reward", "length")))
    curves = []
    for name in _objectives(toy):
        policy_KSn = toy.policy[f"{name}/{LEARNER}"]
        reward_KS = policy_KSn @ problem.reward
        interval = np.percentile(reward_KS, (2.5, 97.5), axis=1)
        likelihood = (policy_KSn @ _finite_log(problem)).mean(axis=1)
        updates = toy.updates.astype(float)
        curves.append(Curve(name, updates, reward_KS.mean(axis=1), interval, updates, likelihood))
    return curves


def llm_curve(folder: Path) -> Curve:
    """Return a language-model run: held-out pass@1 of its checkpoints and log p of its samples.

    Raises:
        InputError: the folder does not hold a finished run.
    """
    where = "llm folder"
    try:
        config = read_yaml(folder / "config.yaml", where)
        selection = read_json(folder / "evaluation.json", where, TABLE, finite=False)["selection"]
        lines = read_lines(folder / "metrics.jsonl", where)
        records = [parse_json(line, where, finite=False) for _, line in lines]
        measured = [record for record in records if record["ref_logprob"] is not None]  # every `reference_every` steps
        return Curve(
            regime=Objective.model_validate(config["objective"]).regime,
            reward_updates=np.array([row["step"] for row in selection], dtype=float),
            reward=np.array([row["pass@1"] for row in selection]),
            reward_interval=np.array([row["pass@1_interval"] for row in selection]).T,
            likelihood_updates=np.array([record["step"] for record in measured], dtype=float),
            likelihood=np.array([record["ref_logprob"] for record in measured], dtype=float),
            threshold=max(row.get("threshold", 1.0) for row in selection),
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(where, str(folder), "a finished run of `sharpen llm train`") from error


def claims(backend: str, curves: Sequence[Curve]) -> list[Claim]:
    """Return what the paper says of task reward and of sharpening, checked on a backend's numbers.

    The reward has changed if its last 95% interval lies beyond the first one. The likelihood, noisy from update to
    update in a language model, is compared by the means of its first and last tenth.
    """
    found = []
    for curve in curves:
        low, high = curve.reward_interval
        if curve.regime == "task-reward":
            found.append(Claim(backend, "task reward raises the expected reward", bool(low[-1] > high[0])))
        if curve.regime == "sharpening":
            few = max(1, len(curve.likelihood) // 10)
            risen = curve.likelihood[-few:].mean() > curve.likelihood[:few].mean()
            found.append(Claim(backend, "sharpening raises the base's likelihood", bool(risen)))
            found.append(Claim(backend, "sharpening lowers the expected reward", bool(high[-1] < low[0])))
    return found


def plot_backends(toy_folder: Path, llm_folders: Sequence[Path], out: Path) -> list[Claim]:
    """Draw the three backends side by side into ``out`` and return what they say about the paper's claims.

    Args:
        toy_folder: A finished run of ``sharpen toy simulate`` with the learner RLOO; theory takes its problem.
        llm_folders: Finished runs of ``sharpen llm train``, at least one.
        out: .png, .pdf or .svg file.

    Raises:
        InputError: a folder holds no finished run, or the file cannot be written.
    """
    import matplotlib.pyplot as plt

    toy = read_trajectories(toy_folder)
    if not any(row["learner"] == LEARNER for row in toy.summary["tracks"]):
        raise InputError("toy folder", str(toy_folder), f"a simulation with the learner {LEARNER}")
    columns = {
        "theory: base and optimum": theory_curves(toy),
        "toy: sampled RLOO, tabular policy": toy_curves(toy),
        f"llm: RLOO, language model, {len(llm_folders)} run{'s' * (len(llm_folders) > 1)}": [
            llm_curve(folder) for folder in llm_folders
        ],
    }
    with paper_style():
        fig, axes = plt.subplots(2, 3, figsize=(9.0, 4.8), sharex="col")
        for column, (title, curves) in enumerate(columns.items()):
            axes[REWARD, column].set_title(title)
            for curve in curves:
                _draw(axes[:, column], curve, marks=column != 1)
            axes[REWARD, column].set_ylim(-0.03, 1.03)
        _label(axes, columns)
        for row in (REWARD, LIKELIHOOD):  # theory and toy are of one problem; the language model is another base
            axes[row, 1].sharey(axes[row, 0])
        handles, labels = axes[REWARD, 0].get_legend_handles_labels()
        fig.legend(handles, labels, loc="outside lower center", ncols=len(labels))
        save_figure(fig, out)
        plt.close(fig)
    return [claim for title, curves in columns.items() for claim in claims(title.partition(":")[0], curves)]


def _draw(axes: Any, curve: Curve, marks: bool) -> None:
    color = REGIME_COLORS.get(curve.regime, BASE_COLOR)
    dashes = "--" if curve.regime == "tilted" else "-"  # it often lies on task-reward
    style: dict[str, Any] = {"color": color, "label": curve.regime, "lw": 1.6, "ls": dashes}
    top, bottom = axes
    top.plot(curve.reward_updates, curve.reward, marker="o" if marks else None, ms=4, **style)
    top.fill_between(curve.reward_updates, *curve.reward_interval, color=color, alpha=0.15, linewidth=0)
    few = len(curve.likelihood_updates) == 2
    updates, likelihood = curve.likelihood_updates, curve.likelihood
    if marks and len(updates) >= 2 * SMOOTH:  # one run, from batch to batch: its moving mean, and itself behind
        bottom.plot(updates, likelihood, color=color, lw=0.7, alpha=0.3)
        updates, likelihood = (np.convolve(x, np.ones(SMOOTH) / SMOOTH, mode="valid") for x in (updates, likelihood))
    bottom.plot(updates, likelihood, marker="o" if few else None, ms=4, **style)
    if curve.softmax_end is not None:
        for ax, end in zip(axes, curve.softmax_end, strict=True):
            label = SOFTMAX if ax is top and curve.regime == "task-reward" else None
            ax.plot(1.0, end, "D", color=color, mfc="none", ms=6, ls="", label=label)


def reward_label(curves: Sequence[Curve]) -> str:
    """Return what the language models' upper axis shows, with the score from which a response is right if not 1."""
    right = sorted({curve.threshold for curve in curves})
    least = "" if right == [1.0] else f", score ≥ {' or '.join(f'{one:g}' for one in right)}"
    return f"held-out pass@1{least} (95%)"


def _label(axes: Any, columns: dict[str, list[Curve]]) -> None:
    axes[REWARD, 0].set_ylabel("expected reward")
    axes[REWARD, 2].set_ylabel(reward_label(list(columns.values())[2]))
    for column in (0, 2):
        axes[LIKELIHOOD, column].set_ylabel("E[log p], nats")
    axes[LIKELIHOOD, 0].set_xticks([0, 1], ["base", "optimum"])
    axes[LIKELIHOOD, 0].set_xlim(-0.25, 1.25)
    axes[LIKELIHOOD, 1].set_xscale("symlog", linthresh=10)
    axes[LIKELIHOOD, 1].set_xlim(left=0)
    axes[LIKELIHOOD, 1].set_xlabel("update (log scale from 10 on)")
    axes[LIKELIHOOD, 2].set_xlabel("update")


def _objectives(toy: Trajectories) -> dict[str, Objective]:
    """Return the simulated objectives by name, those with the learner that is drawn."""
    return {
        row["objective"]: Objective.model_validate(row["spec"])
        for row in toy.summary["tracks"]
        if row["learner"] == LEARNER
    }


def _finite_log(problem: Problem) -> FloatArray:
    return np.where(problem.support, problem.log_base, 0.0)  # no policy has mass where the base has none
