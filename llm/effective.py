"""How far a trained policy got towards p^alpha, measured where it matters: on its own samples and on the base model's.

On policy, log pi has to follow log p where the policy is now; a policy that has collapsed has little spread left there
to measure. The base model's samples cover what the policy has given up. A policy equal to p^alpha / Z has slope alpha
on both.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from sharpen.llm.logprobs import token_logprobs
from sharpen.llm.measures import Slope, effective_alpha
from sharpen.llm.rollout import Engine, Rollout, Sampling
from sharpen.llm.rollout.requests import row_seed
from sharpen.llm.world import World

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
        ``{"policy": {"slope", "low", "high", "fixed_length": {"slope", "low", "high"}}, "base": the same}``, with None
        for what cannot be told, as the slope at fixed length where no two samples of a prompt are equally long.
    """
    first, last = (len(prompts) * place // world.size for place in (world.rank, world.rank + 1))
    own = list(prompts[first:last])
    seeds = [row_seed(seed, place, sample) for place in range(first, last) for sample in range(SAMPLES)]
    found = {}
    for name, model in (("policy", policy), ("base", base)):
        engine.push_weights(model)
        rollout = engine.generate(own, SAMPLES, sampling, seed, row_seeds=seeds)
        rows = _scored(policy, base, rollout, micro_batch_tokens) if own else []
        found[name] = _slopes(world.gather(rows))
    return found


def _scored(policy: Any, base: Any, rollout: Rollout, micro_batch_tokens: int) -> list[tuple[float, float, int]]:
    """Return log pi, log p and the length of each row."""
    rows = (rollout.prompt_ids, rollout.response_ids)
    sums = [
        token_logprobs(model, *rows, micro_batch_tokens=micro_batch_tokens).logprobs_BT.double().sum(dim=1).tolist()
        for model in (policy, base)
    ]
    return list(zip(*sums, [len(ids) for ids in rollout.response_ids], strict=True))


def _slopes(rows: list[tuple[float, float, int]]) -> dict[str, Any]:
    policy, base, length = (torch.tensor(column, dtype=torch.float64).view(-1, SAMPLES) for column in zip(*rows))  # noqa: B905
    free, fixed = effective_alpha(policy, base), effective_alpha(policy, base, length)
    return {**_named(free), "fixed_length": _named(fixed)}


def _named(slope: Slope | None) -> dict[str, float | None]:
    return {"slope": None, "low": None, "high": None} if slope is None else dict(slope._asdict())
