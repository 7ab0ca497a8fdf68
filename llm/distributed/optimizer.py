"""The optimizer, and how far one of its steps took the policy: measured on the step's samples, shrunk where too far.

A step from theta to theta + Delta, made of responses y of the policy before it, moves the policy by

    D = KL(pi_theta || pi_theta') = E_y sum_t [exp(d_t) - 1 - d_t],    d_t = log pi_theta'(y_t) - log pi_theta(y_t),

nats per response: E[exp(d_t)] = 1 at every prefix, so the mean over samples is unbiased, and no sample is below zero
(the estimator k3 of Schulman 2020, http://joschu.net/blog/kl-approx.html). With a bound the step becomes theta + c
Delta, c <= 1: while D is above the bound c is multiplied by min(1/2, sqrt(.9 bound / D)), since D is c^2 to second
order; after :data:`TRIES` of these it is not made at all (the line search of Schulman 2015, appendix C, without its
condition on the objective). The optimizer's averages stay as they are.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from sharpen.llm.configs.optimizer import OptimizerSettings
from sharpen.llm.distributed.world import World
from sharpen.llm.models.finite import NonFiniteError, listed, non_finite
from sharpen.llm.models.weights import own_part

TRIES = 8  # 2^-8 of a step is less than rounding leaves of most


class StepSize(NamedTuple):
    """How far a step went.

    Args:
        norm: |c Delta|, of all trained weights.
        kl: D there, nats per response.
        scale: c; 0 where no try came within the bound.
    """

    norm: float
    kl: float
    scale: float


def make_optimizer(settings: OptimizerSettings, weights: list[Tensor], *, fused: bool) -> torch.optim.Optimizer:
    """Return the optimizer of these settings.

    Args:
        settings: Of a run.
        weights: What is trained, as precise as it is known.
        fused: Whether AdamW updates each weight in one pass, which torch's default does on GPUs.
    """
    if settings.kind == "sgd":
        return torch.optim.SGD(
            weights, lr=settings.learning_rate, momentum=settings.momentum, weight_decay=settings.weight_decay
        )
    return torch.optim.AdamW(
        weights,
        lr=settings.learning_rate,
        betas=(settings.beta1, settings.beta2),
        eps=settings.epsilon,
        weight_decay=settings.weight_decay,
        fused=True if fused else None,
    )


def step_kl(before_RT: Tensor, after_RT: Tensor, mask_RT: Tensor) -> Tensor:
    """Return sum_t [exp(d_t) - 1 - d_t] of each response, shape [R], nats: see the module.

    Args:
        before_RT: log pi_theta of each token of responses that pi_theta sampled.
        after_RT: The same of pi_theta'.
        mask_RT: Which places hold tokens.

    Example:
        >>> step_kl(torch.tensor([[0.0, -1.0]]), torch.tensor([[-1.0, 9.0]]), torch.tensor([[True, False]]))
        tensor([0.3679])
    """
    change_RT = torch.where(mask_RT, after_RT - before_RT, 0.0).double()
    return (torch.expm1(change_RT) - change_RT).sum(dim=1).to(before_RT.dtype)


def mean_step_kl(before_RT: Tensor, after_RT: Tensor, mask_RT: Tensor, world: World) -> float:
    """Return the mean of :func:`step_kl` over the responses of all processes, nats per response."""
    every = world.gather(step_kl(before_RT, after_RT, mask_RT).tolist())
    return sum(every) / len(every)


def weights_of(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    """Return the weights that an optimizer updates."""
    return [weight for group in optimizer.param_groups for weight in group["params"]]


def take_step(
    optimizer: torch.optim.Optimizer,
    settings: OptimizerSettings,
    divergence: Callable[[], float],
    world: World,
    *,
    divided: bool,
) -> StepSize | None:
    """Make the optimizer's step, within the bound if there is one; return its size if the settings ask for it."""
    if not settings.measures:
        optimizer.step()
        return None
    return bounded_step(optimizer.step, weights_of(optimizer), divergence, settings.max_kl, world, divided=divided)


def clip_gradients(trained: Any, most: float) -> float:
    """Scale all gradients where their norm exceeds ``most``; return the norm that they had.

    Args:
        trained: Gives the trained weights by name, sharded or not; a collective if sharded.
        most: Norm.

    Raises:
        NonFiniteError: a gradient is NaN or infinite, or so large that the norm is: clipping would make all of them so.
    """
    named = [(name, weight) for name, weight in trained.named_parameters() if weight.requires_grad]
    norm = torch.nn.utils.get_total_norm([weight.grad for _, weight in named if weight.grad is not None])
    whole = getattr(norm, "full_tensor", None)
    number = float(norm if whole is None else whole())
    if not math.isfinite(number):
        bad = non_finite((name, weight.grad) for name, weight in named if weight.grad is not None)
        raise NonFiniteError("gradient", f"in {listed(bad)}" if bad else "in its norm")
    torch.nn.utils.clip_grads_with_norm_([weight for _, weight in named], most, norm)
    return number


def bounded_step(
    make: Callable[[], Any],
    weights: Iterable[Tensor],
    divergence: Callable[[], float],
    most: float | None,
    world: World,
    *,
    divided: bool = False,
) -> StepSize:
    """Make a step, measure it, and shrink it while it goes farther than it may.

    Args:
        make: Makes the whole step in place.
        weights: What it changes.
        divergence: D of the present weights, the same number in all processes.
        most: The bound on D, nats per response; None measures only.
        world: The processes that train together.
        divided: Whether each process has a part of every weight.
    """
    parts = [own_part(weight) for weight in weights]
    start = [part.clone() for part in parts]
    make()
    kl, scale = divergence(), 1.0
    for _ in range(TRIES):
        if most is None or kl <= most:
            break
        shorter = min(0.5, math.sqrt(0.9 * most / kl)) if math.isfinite(kl) else 0.5
        for part, first in zip(parts, start, strict=True):
            torch.lerp(first, part, shorter, out=part)
        scale *= shorter
        kl = divergence()
    if most is not None and not kl <= most:
        for part, first in zip(parts, start, strict=True):
            part.copy_(first)
        scale, kl = 0.0, divergence()
    square = sum(float((part - first).double().square().sum()) for part, first in zip(parts, start, strict=True))
    return StepSize(math.sqrt(sum(world.gather([square])) if divided else square), kl, scale)


def step_metrics(size: StepSize, advantages_R: Tensor, world: World) -> dict[str, float | None]:
    """Return what the log says of a step: its norm, KL, scale, and its size over that of the advantages.

    ``step_per_advantage`` is sqrt(2 D) / rms A, A the advantages of all samples: signal and noise of the update. A step
    of the natural gradient with the rate eta moves log pi by eta A, so D is eta^2 E[A^2] / 2 and the ratio is eta; a
    ratio that has no bound is a step that is not made of the advantages. None where all of them are zero.
    """
    squares = world.gather(advantages_R.double().square().tolist())
    rms = math.sqrt(sum(squares) / len(squares))
    ratio = math.sqrt(2.0 * size.kl) / rms if rms else None
    return {"step_norm": size.norm, "step_kl": size.kl, "step_scale": size.scale, "step_per_advantage": ratio}
