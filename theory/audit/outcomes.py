"""A model's known outcomes, prompt by prompt, as ``sharpen llm outcomes`` stores them, and the KL that they allow.

``outcomes.parquet`` has a row per response seen, ``frontier.parquet`` a row per prefix that was not followed, or,
with an exponent in the column ``alpha``, (1/alpha) log sum u^alpha over children of one depth that were cut together.
Such norms fall in alpha, so that of the nearest exponent below bounds the one that is asked.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from sharpen.objective import InputError, Objective
from sharpen.theory.audit.certified import Interval, Seen, expected_reward, log_normalizer
from sharpen.theory.core.problem import FloatArray, Problem

OUTCOMES, FRONTIER = "outcomes.parquet", "frontier.parquet"
SEEN_COLUMNS, FRONTIER_COLUMNS = ("logprob", "reward", "length"), ("depth", "logprob", "alpha")


class Known(NamedTuple):
    """What is known of one prompt's outcomes: those that were seen, and bounds of the rest.

    Args:
        name: The prompt's id.
        logprob: log p of each seen outcome, nats, shape [n].
        reward: Its reward in [0, 1], shape [n].
        length: Its tokens, shape [n].
        prefixes: log u of each prefix that was not followed, nats, shape [m].
        sums: By exponent, which has 1 if it has any: (1/alpha) log sum u^alpha of the children cut at each depth, nats,
            shape [depths], the same depths for every exponent.
    """

    name: str
    logprob: FloatArray
    reward: FloatArray
    length: FloatArray
    prefixes: FloatArray
    sums: dict[float, FloatArray]

    def cut(self, alpha: float) -> FloatArray:
        """Return the sums of the largest known exponent that is at most ``alpha``, shape [depths].

        Raises:
            InputError: alpha < 1.
        """
        if alpha < 1:
            raise InputError("alpha", alpha, "at least 1: below it unseen outcomes have no bound")
        return self.sums[max(known for known in self.sums if known <= alpha)] if self.sums else np.zeros(0)

    def seen(self, alpha: float) -> Seen:
        """Return the known part for bounds at an exponent, see :mod:`sharpen.theory.audit.certified`.

        Raises:
            InputError: alpha < 1.
        """
        return Seen.of(self.logprob, self.reward, np.concatenate([self.prefixes, self.cut(alpha)]))

    def problem(self) -> Problem:
        """Return the seen outcomes alone, in their order, as a problem: p on them, divided by their mass.

        Raises:
            InputError: none was seen.
        """
        if not self.logprob.size:
            raise InputError("problem", self.name, "one with outcomes that were seen")
        return Problem.from_log(self.logprob - np.logaddexp.reduce(self.logprob), self.reward, self.length)

    @property
    def unseen_mass(self) -> float:
        """Probability under p of all that is not seen."""
        return float(np.exp(self.prefixes).sum() + np.exp(self.cut(1.0)).sum())


def kl_to_base(known: Known, objective: Objective) -> Interval:
    """Return bounds of KL(pi*||p) = (alpha - 1) E[log p] + beta_inv E[r] - log Z, nats, for rewards in [0, 1].

    With w = p^alpha e^{beta_inv r}, A = (alpha - 1) sum w log p over the seen, all terms at most 0, and h(t) =
    (alpha - 1) t^{alpha-1} |log t|, an unseen outcome adds between -e^beta_inv p h(p) and 0 to A. h rises up to t =
    e^{-1/(alpha-1)}, where it is 1/e, so below a prefix the sum of p h(p) is at most u max over t <= u of h. Summed,
    with that B, and Z and U as in :mod:`sharpen.theory.audit.certified`,

        (A - B e^beta_inv) / Z  <=  (alpha - 1) E[log p]  <=  A / (Z + U e^beta_inv).

    Raises:
        InputError: see :func:`sharpen.theory.audit.certified.expected_reward`.

    Example:
        >>> half = Known("a", np.log([0.5, 0.5]), np.array([1.0, 0.0]), np.ones(2), np.zeros(0), {})
        >>> kl_to_base(half, Objective(alpha=2, beta_inv=0, mode="sampling"))
        Interval(low=0.0, high=0.0)
    """
    alpha, beta_inv = objective.alpha, objective.beta_inv
    seen = known.seen(alpha)
    reward, log_z = expected_reward(seen, objective, binary=False), log_normalizer(seen, objective)
    if not known.logprob.size:
        return Interval(0.0, math.inf)
    logs = alpha * known.logprob + beta_inv * known.reward
    top = float(logs.max())
    w = np.exp(logs - top)
    a, z = (alpha - 1) * float(w @ known.logprob), float(w.sum())
    mass = np.concatenate([known.prefixes, known.cut(1.0)])
    most = np.exp(beta_inv - top) * float(np.exp(mass) @ _highest(seen.frontier, alpha))
    unseen = float(np.exp(alpha * seen.frontier + beta_inv - top).sum())
    low = (a - most) / z + beta_inv * reward.low - log_z.high
    high = a / (z + unseen) + beta_inv * reward.high - log_z.low
    return Interval(max(0.0, low), max(0.0, high))


def _highest(log_t: FloatArray, alpha: float) -> FloatArray:
    """Return the largest (alpha - 1) s^{alpha-1} |log s| over s <= t."""
    x = (alpha - 1) * np.minimum(log_t, 0.0)
    return np.where(x <= -1, -x * np.exp(x), math.exp(-1)) if alpha > 1 else np.zeros_like(log_t)


def known_of(known: Sequence[Known], names: Sequence[str]) -> list[Known]:
    """Return what is known of some prompts, in their order.

    Raises:
        InputError: nothing is known of one of them.
    """
    by_name = {one.name: one for one in known}
    missing = next((name for name in names if name not in by_name), None)
    if missing is not None:
        has = f"{', '.join(list(by_name)[:3])}{', …' if len(by_name) > 3 else ''}"
        raise InputError("problem", missing, f"one of the {len(by_name)} problems with known outcomes: {has}")
    return [by_name[name] for name in names]


def read_known(file: Path) -> list[Known]:
    """Return the known outcomes of every prompt, in the file's order.

    Args:
        file: ``outcomes.parquet``, with ``frontier.parquet`` beside it; a frontier without the column ``alpha`` has
            prefixes only.

    Raises:
        InputError: a file cannot be read or lacks a column, or a number in it is not allowed.
    """
    seen, unseen = _rows(file, SEEN_COLUMNS), _rows(file.parent / FRONTIER, FRONTIER_COLUMNS)
    found = []
    for name in dict.fromkeys([*seen, *unseen]):
        log_p, reward, length = seen.get(name, np.zeros((0, 3))).T
        depth, logs, alpha = unseen.get(name, np.zeros((0, 3))).T
        of = {float(one): alpha == one for one in np.unique(alpha[~np.isnan(alpha)])}
        sums = {one: logs[places][np.argsort(depth[places])] for one, places in of.items()}
        if sums and (min(sums) != 1.0 or len({each.size for each in sums.values()}) > 1):
            raise InputError("problems", str(file.parent / FRONTIER), f"sums of {name} at 1 and the same at each alpha")
        found.append(Known(name, log_p, reward, length, logs[np.isnan(alpha)], sums))
        found[-1].seen(1.0)  # refuses rewards and log-probabilities that are none
    if not found:
        raise InputError("problems", str(file), "at least one outcome")
    return found


def _rows(file: Path, columns: tuple[str, ...]) -> dict[str, FloatArray]:
    """Return the rows of each prompt, shape [rows, columns]; a null is NaN."""
    import pyarrow as pa
    from pyarrow import parquet

    try:
        table: Any = parquet.read_table(file)
        if "alpha" in columns and "alpha" not in table.column_names:
            table = table.append_column("alpha", pa.nulls(table.num_rows, pa.float64()))
        rows = np.stack([np.array(table[name].to_pylist(), dtype=np.float64) for name in columns], axis=1)
        prompts = table["prompt_id"].to_pylist()
    except (OSError, pa.ArrowException, ValueError, TypeError, KeyError) as error:
        allowed = f"a table of sharpen llm outcomes, with the columns prompt_id, {', '.join(columns)}"
        raise InputError("problems", str(file), allowed) from error
    places: dict[str, list[int]] = {}
    for place, name in enumerate(prompts):
        places.setdefault(str(name), []).append(place)
    return {name: rows[own] for name, own in places.items()}
