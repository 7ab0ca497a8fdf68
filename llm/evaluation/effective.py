"""How far a trained policy got towards p^alpha, measured where it matters: on its own samples and on the base model's.

On policy, log pi has to follow log p where the policy is now; a policy that has collapsed has little spread left there
to measure. The base model's samples cover what the policy has given up. A policy equal to p^alpha / Z has slope alpha
on both.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from sharpen.llm.distributed.world import World
from sharpen.llm.learners.measures import Slope, effective_alpha, reliability
from sharpen.llm.models.logprobs import token_logprobs
from sharpen.llm.rollout import Engine, Rollout, Sampling
from sharpen.llm.rollout.requests import row_seed

SAMPLES = 16  # of each prompt


def measure(
    engine: Engine,
    policy: Any,
    base: Any,
    prompts: Sequence[list[int]],
    sampling: Sampling,
    seed: int,
    *,
    micro_batch_tokens: int,
    world: World,
) -> dict[str, Any]:
    """Return the slope of log pi on log p, with 95 % intervals, over samples of each of the two models.

    Args:
        engine: Samples; it holds the base model's weights afterwards.
        policy: The trained policy, a plain model.
        base: p, a plain model.
        prompts: Token ids; with several processes, those of all.
        sampling: Length limit; at temperature 1.
        seed: Of the samples.
        micro_batch_tokens: Of a forward pass.
        world: The processes that share the prompts.

    Returns:
        ``{"policy": {"slope", "low", "high", "reliability", "fixed_length": {"slope", "low", "high"}}, "base": the same
        and "corrected": {"slope", "low", "high"}}``, with None for what cannot be told, as the slope at fixed length
        where no two samples of a prompt are equally long. On its own samples the engine has scored the base model a
        second time, which tells the noise of log p and corrects the slope for it. On the policy's it has scored the
        policy: its noise there stands in for that of log p, in ``reliability`` only.
    """
    part = world.part(len(prompts))
    own = [prompts[place] for place in part]
    seeds = [row_seed(seed, place, sample) for place in part for sample in range(SAMPLES)]
    found = {}
    for name, model in (("policy", policy), ("base", base)):
        engine.push_weights(model)
        rollout = engine.generate(own, SAMPLES, sampling, seed, row_seeds=seeds)
        rows = _scored(policy, base, rollout, micro_batch_tokens) if own else []
        found[name] = _slopes(world.gather(rows), of_base=model is base)
    return found


def _scored(policy: Any, base: Any, rollout: Rollout, micro_batch_tokens: int) -> list[tuple[float, float, int, float]]:
    """Return of each row log pi, log p, the length, and the engine's log-probability of what it sampled from."""
    rows = (rollout.prompt_ids, rollout.response_ids)
    sums = [
        token_logprobs(model, *rows, micro_batch_tokens=micro_batch_tokens).logprobs_BT.double().sum(dim=1).tolist()
        for model in (policy, base)
    ]
    engine = [sum(logprobs) for logprobs in rollout.logprobs]
    return list(zip(*sums, [len(ids) for ids in rollout.response_ids], engine, strict=True))


def _slopes(rows: list[tuple[float, float, int, float]], *, of_base: bool) -> dict[str, Any]:
    columns = (torch.tensor(column, dtype=torch.float64).view(-1, SAMPLES) for column in zip(*rows, strict=True))
    policy, base, length, engine = columns
    free, fixed = effective_alpha(policy, base), effective_alpha(policy, base, length)
    found = {**_named(free), "fixed_length": _named(fixed)}
    found["reliability"] = reliability(base, (base if of_base else policy) - engine)
    if of_base:
        found["corrected"] = _named(effective_alpha(policy, base, again_PG=engine))
    return found


def _named(slope: Slope | None) -> dict[str, float | None]:
    return {"slope": None, "low": None, "high": None} if slope is None else dict(slope._asdict())
