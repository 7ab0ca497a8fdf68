"""What two models' samples tell of the change between them: from collected samples to the numbers of an audit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sharpen.llm.audit.collect import Collected, Side
    from sharpen.llm.evaluation.records import Record
    from sharpen.theory.audit.sampled import Pooled
    from sharpen.theory.core.intervals import Resampler

SPLIT = ("kl", "explained", "shapley", "rest", "shares", "fits", "alpha", "own_alpha", "ess")


def measure(collected: Collected, seed: int) -> dict[str, Any]:
    """Return the numbers of an audit.

    Args:
        collected: Samples of both models.
        seed: Of the intervals.

    Returns:
        ``base``, ``policy`` (where they are), ``data``, ``problems``, ``samples``; of scored samples what
        `sharpen.theory.audit.report.audit_split` returns, else None for each, and ``unscored`` says why; ``pass``: rows
        of pass@k and pass^k at k = 1, 2, 4, …; ``crossover``, ``tax``, ``support`` of `sharpen.theory.audit.counted`;
        ``answers``, ``token_entropy``: None where they are not known; ``verdict``.
    """
    from sharpen.llm.evaluation.summary import powers_of_two
    from sharpen.theory.audit.counted import Counted
    from sharpen.theory.audit.report import audit_split
    from sharpen.theory.core.intervals import Resampler

    base, policy = collected.base, collected.policy
    resampler = Resampler(len(policy.problems), seed)
    counted = Counted(*_counts(base), *_counts(policy))
    result: dict[str, Any] = {"base": base.name, "policy": policy.name, "data": collected.data}
    result |= {"problems": len(policy.problems), "samples": counted.least, "unscored": collected.unscored}
    split = audit_split(pooled(base, policy), seed) if collected.unscored is None else {}
    result |= {name: split.get(name) for name in SPLIT}
    result |= {"pass": counted.rows(powers_of_two(counted.least), resampler)}
    result |= {"crossover": counted.crossover(resampler), "tax": counted.tax(resampler)}
    result |= {"support": counted.support(resampler), "answers": _answers(base, policy, resampler)}
    result |= {"token_entropy": _token_entropy(base, policy, resampler)}
    told = split.get("verdict", f"What the change was made of cannot be told: {collected.unscored}.")
    return result | {"verdict": f"{told} {_solved(result)}"}


def pooled(base: Side, policy: Side) -> list[Pooled]:
    """Return both models' samples of each problem, scored by both.

    Args:
        base: Samples of p: ``logprob`` is log p and ``base_logprob`` log pi, since the other model was its base.
        policy: Samples of pi, the other way round.
    """
    from sharpen.theory.audit.sampled import Pooled, Scored

    def scored(one: Record, log_p: Any, log_pi: Any) -> Scored:
        return Scored.of(log_p, log_pi, one.marks, one.lengths)

    return [
        Pooled.of(scored(b, b.logprob, b.base_logprob), scored(p, p.base_logprob, p.logprob))
        for b, p in zip(base.records or [], policy.records or [], strict=True)
    ]


def _counts(side: Side) -> tuple[list[int], list[int]]:
    return [sum(one.right) for one in side.problems], [len(one.right) for one in side.problems]


def _answers(base: Side, policy: Side, resampler: Resampler) -> dict[str, Any] | None:
    from sharpen.theory.audit.counted import answers

    before, after = ([one.answers for one in side.problems if one.answers is not None] for side in (base, policy))
    if min(len(before), len(after)) < len(policy.problems):
        return None
    return answers(before, after, resampler)


def _token_entropy(base: Side, policy: Side, resampler: Resampler) -> dict[str, Any] | None:
    import numpy as np

    from sharpen.theory.audit.counted import token_entropy

    before, after = (
        [(sum(one.entropy), sum(one.lengths)) for one in side.records or [] if one.entropy is not None]
        for side in (base, policy)
    )
    if min(len(before), len(after)) < len(policy.problems):
        return None
    return token_entropy(np.array(before, dtype=float), np.array(after, dtype=float), resampler)


def _solved(result: dict[str, Any]) -> str:
    """Return in words whether the policy solves problems that the base does not."""
    support, first = result["support"], result["pass"][0]["pass@k"]
    gained, chance = support["gained"], support["gained_by_chance"]
    beyond = "more than" if gained["low"] > chance else "no more than"
    said = (
        f"Accuracy {first['base']['value']:.2f} -> {first['policy']['value']:.2f}; in {support['n']} samples the policy"
    )
    said += f" solves {100 * gained['value']:.0f} % of the problems that the base does not, {beyond} two equal models"
    return f"{said} ({100 * chance:.0f} %)."
