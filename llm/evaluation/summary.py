"""From records of problems to the measures of an evaluation, and the differences of two."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from sharpen.llm.evaluation.intervals import bootstrap_interval, paired
from sharpen.llm.evaluation.passk import answers_maj_at_k
from sharpen.llm.evaluation.records import Record
from sharpen.objective import InputError
from sharpen.objective.counts import pass_at_k

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95, 1.0)


def powers_of_two(limit: int) -> list[int]:
    """Return 1, 2, 4, … up to ``limit``.

    Example:
        >>> powers_of_two(16)
        [1, 2, 4, 8, 16]
    """
    return [2**i for i in range(limit.bit_length())]


def summarise(records: Sequence[Record], seed: int, *, threshold: float = 1.0) -> dict[str, Any]:
    """Return the measures of one evaluation.

    Args:
        records: At least one problem, each with as many samples.
        seed: Of the bootstrap.
        threshold: Score from which a response counted as right when it was marked.

    Returns:
        ``problems``, ``samples``; ``pass@k`` (unbiased) and ``maj@k`` (exact) for k = 1, 2, 4, … up to the number of
        samples; where the task scores between 0 and 1 also ``score`` (mean) and ``threshold``, from which a response
        is right in pass@k and maj@k; ``response_length`` (mean tokens) with ``response_length_quantiles``;
        ``finished`` (share that ended by itself), ``cut`` (share cut at the limit), ``answered`` (share with a final
        answer); ``entropy`` (nats per token), ``logprob`` (mean log pi(x)), ``base_logprob`` (mean log p(x)),
        ``kl_base`` (mean of log pi - log p, an unbiased estimate of KL(pi || p), nats per sequence), each None if not
        measured; ``by_subject`` and ``by_level``. A measure
        is followed by its 95% bootstrap interval over problems under ``<name>_interval``.
    """
    samples = len(records[0].responses)
    summary: dict[str, Any] = {"problems": len(records), "samples": samples}
    scores = scores_by_problem(records, samples)
    if "score" in scores or threshold != 1.0:
        summary["threshold"] = threshold
    for name, column in scores.items():
        summary |= _mean(name, column, seed)
    lengths = np.array([record.lengths for record in records], dtype=float)
    at = np.quantile(lengths, QUANTILES)
    summary["response_length_quantiles"] = {str(q): float(x) for q, x in zip(QUANTILES, at, strict=True)}
    summary["cut"] = 1.0 - summary["finished"]
    summary |= _likelihoods(records, lengths, seed)
    shown = dict.fromkeys(("pass@1", *(f"{kind}@{powers_of_two(samples)[-1]}" for kind in ("pass", "maj"))))
    shown["response_length"] = None
    for label in ("subject", "level"):
        summary[f"by_{label}"] = _table(records, label, {name: scores[name] for name in shown}, seed)
    return summary


def scores_by_problem(records: Sequence[Record], samples: int) -> dict[str, np.ndarray]:
    """Return the measures that are means over problems, each of shape [problems].

    Args:
        records: Problems with at least ``samples`` samples each.
        samples: Largest k.
    """
    correct = [sum(record.correct) for record in records]
    counts = [len(record.correct) for record in records]
    scores: dict[str, Any] = {}
    for k in powers_of_two(samples):
        scores[f"pass@{k}"] = pass_at_k(correct, counts, k)
        scores[f"maj@{k}"] = [answers_maj_at_k(record.classes, record.correct, k) for record in records]
    if any(record.scores is not None for record in records):
        scores["score"] = [np.mean(record.marks) for record in records]
    scores["response_length"] = [np.mean(record.lengths) for record in records]
    scores["finished"] = [np.mean(record.finished) for record in records]
    scores["answered"] = [np.mean([vote is not None for vote in record.votes]) for record in records]
    return {name: np.array(column, dtype=float) for name, column in scores.items()}


def compare(ours: Sequence[Record], theirs: Sequence[Record], seed: int) -> dict[str, Any]:
    """Return how two evaluations of the same problems differ, ours minus theirs, problem by problem.

    Args:
        ours: Records.
        theirs: Records with some of the same problems; those that one side alone has are left out.
        seed: Of the bootstrap and the permutations.

    Returns:
        ``problems`` (common ones), ``left_out``, and under ``measures`` for every measure that both have
        :class:`sharpen.llm.evaluation.intervals.Paired`'s fields and both means.

    Raises:
        InputError: no problem is common.
    """
    other = {record.id: record for record in theirs}
    pairs = [(record, other[record.id]) for record in ours if record.id in other]
    if not pairs:
        raise InputError(
            "compare", f"{len(other)} problems", "an evaluation of the same problems; none has the same id"
        )
    left, right = [a for a, _ in pairs], [b for _, b in pairs]
    samples = min(min(len(a.responses), len(b.responses)) for a, b in pairs)
    a, b = scores_by_problem(left, samples), scores_by_problem(right, samples)
    if ("score" in a) != ("score" in b):  # one side happens to have none between 0 and 1
        for scores, records in ((a, left), (b, right)):
            scores["score"] = np.array([np.mean(record.marks) for record in records])
    for name in ("logprob", "base_logprob"):
        if all(getattr(record, name) is not None for record in (*left, *right)):
            for scores, records in ((a, left), (b, right)):
                scores[name] = np.array([np.mean(getattr(record, name)) for record in records])
    measures = {}
    for name in a:
        found = paired(a[name], b[name], seed)
        measures[name] = {"ours": float(a[name].mean()), "theirs": float(b[name].mean()), **found._asdict()}
    left_out = len(ours) + len(theirs) - 2 * len(pairs)
    return {"problems": len(pairs), "left_out": left_out, "measures": measures}


def _mean(name: str, scores: np.ndarray, seed: int) -> dict[str, Any]:
    return {name: float(scores.mean()), f"{name}_interval": bootstrap_interval(scores, seed)}


def _likelihoods(records: Sequence[Record], lengths: np.ndarray, seed: int) -> dict[str, Any]:
    """Return entropy per token and log-probabilities per sequence, None where they were not measured."""
    names = ("entropy", "logprob", "base_logprob", "kl_base")
    found: dict[str, Any] = {key: None for name in names for key in (name, f"{name}_interval")}
    column = {
        name: np.array([getattr(record, name) for record in records], dtype=float)
        for name in names[:3]
        if all(getattr(record, name) is not None for record in records)
    }
    if "entropy" in column:
        # A ratio of sums: every token counts once, also when the problems' responses differ in length.
        total, tokens = column["entropy"].sum(axis=1), lengths.sum(axis=1)
        found["entropy"] = float(total.sum() / tokens.sum())
        found["entropy_interval"] = bootstrap_interval(total, seed, weights=tokens)
    for name in ("logprob", "base_logprob"):
        if name in column:
            found |= _mean(name, column[name].mean(axis=1), seed)
    if "logprob" in column and "base_logprob" in column:
        found |= _mean("kl_base", (column["logprob"] - column["base_logprob"]).mean(axis=1), seed)
    return found


def _table(
    records: Sequence[Record], label: str, scores: dict[str, np.ndarray], seed: int
) -> dict[str, dict[str, Any]]:
    """Return some measures of each subject or level, sorted by its name."""
    groups: dict[str, list[int]] = {}
    for place, record in enumerate(records):
        if getattr(record, label) is not None:
            groups.setdefault(getattr(record, label), []).append(place)
    table: dict[str, dict[str, Any]] = {}
    for group in sorted(groups):
        table[group] = {"problems": len(groups[group])}
        for name, column in scores.items():
            table[group] |= _mean(name, column[groups[group]], seed)
    return table
