"""Which checkpoint is the best: chosen on other problems and other samples than those it is reported on.

The base model is a candidate: a training that only loses has no better checkpoint. What the choice uses is told with
it, because a run without labels whose checkpoint is chosen by pass@1 has been stopped by an oracle.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from sharpen.llm.evaluation.intervals import bootstrap_interval
from sharpen.llm.evaluation.records import Record
from sharpen.llm.tasks.data import DataSource
from sharpen.objective.counts import least_samples, utility_values

if TYPE_CHECKING:
    from sharpen.llm.configs.train import TrainConfig

SAMPLES = 4  # samples per problem when the best checkpoint is chosen; the final evaluation takes more
BY = ("pass@1", "objective", "last")


def best(rows: Sequence[Mapping[str, Any]], by: str, apart: bool) -> int:
    """Return the number of updates of the best of the measured candidates; of equal ones, the earliest.

    Args:
        rows: ``step`` and measures of the base model (step 0) and of each checkpoint, in order.
        by: One of :data:`BY`.
        apart: Whether they were measured on other problems than those that are reported; if not, none is chosen.

    Example:
        >>> best([{"step": 0, "pass@1": 0.4}, {"step": 20, "pass@1": 0.4}], "pass@1", True)
        0
        >>> best([{"step": 0, "pass@1": 0.4}, {"step": 20, "pass@1": 0.3}], "pass@1", False)
        20
    """
    if by == "last" or not apart:
        return int(rows[-1]["step"])
    return int(max(rows, key=lambda row: (row[by], -row["step"]))["step"])


def samples(config: TrainConfig) -> int:
    """Return how many samples of each problem choose: more than usual where the objective's value takes more."""
    by_value = config.evaluation.choose_by == "objective"
    return max(SAMPLES, least_samples(config.objective.utility) if by_value else 0)


def uses_labels(config: TrainConfig, apart: bool) -> bool:
    """Return whether the choice of the best checkpoint opens gold answers."""
    by = config.evaluation.choose_by
    if by == "last" or not apart:
        return False
    return by == "pass@1" or (config.objective.needs_reward and config.reward.needs_answers)


def objective_value(config: TrainConfig, records: Sequence[Record], data: DataSource, seed: int) -> dict[str, Any]:
    """Return the estimate of J(pi) on the samples of ``records`` with its 95% bootstrap interval over problems.

    J(pi) = E[u(x) - w_h log pi(x)], u the objective's potential and p the base model. A utility of the success rate has
    no potential: of each problem it is f_n(P), the polynomial nearest to f that n samples estimate without bias
    (:func:`sharpen.objective.counts.utility_values`). It opens no answers unless the reward does.

    Args:
        config: Of the run: its objective and reward.
        records: With ``logprob`` and ``base_logprob``.
        data: Where the answers to ``records`` are, for a reward that needs them.
        seed: Of the random reward and the bootstrap.
    """
    objective = config.objective
    policy, base = (np.array([getattr(one, name) for one in records]) for name in ("logprob", "base_logprob"))
    lengths = np.array([record.lengths for record in records], dtype=float)
    reward = _rewards(config, records, data, seed) if objective.needs_reward else None
    w, bent = objective.coefficients, objective.utility != "identity"
    slope = 0.0 if bent else None  # with a utility, all but the reward term
    value = objective.potential(reward=reward, ref_logprob=base, length=lengths, slope=slope) - w.w_h * policy
    by_problem = value.mean(axis=1)
    if bent and reward is not None:
        by_problem = by_problem + w.w_r * utility_values(objective.utility, reward)
    return {"objective": float(by_problem.mean()), "objective_interval": bootstrap_interval(by_problem, seed)}


def _rewards(config: TrainConfig, records: Sequence[Record], data: DataSource, seed: int) -> np.ndarray:
    from sharpen.llm.rewards.firewall import Scoring, reward_for
    from sharpen.llm.rewards.registry import REWARDS

    of_marks = getattr(REWARDS.get(config.reward.kind), "of_marks", None)
    if of_marks is not None:  # the records know it
        return np.array([[of_marks(mark) for mark in record.marks] for record in records], dtype=float)
    reward = reward_for(config.objective, data, seed=seed, **config.reward.model_dump())
    assert reward is not None
    lengths = [length for record in records for length in record.lengths]
    entropies = [entropy for record in records for entropy in record.entropy or ()]
    scoring = Scoring(
        lengths=lengths,
        finished=[ended for record in records for ended in record.finished],
        entropies=[total / length for total, length in zip(entropies, lengths, strict=True)],
    )
    names = [record.id for record in records for _ in record.responses]
    texts = [text for record in records for text in record.responses]
    return np.array(reward(names, texts, scoring)).reshape(len(records), -1)
