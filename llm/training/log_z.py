"""The log Z of trajectory balance: a constant of each prompt, learned beside the policy (FlowRL, Zhu 2025).

z(x) estimates w_h log Z(x), Z(x) = sum_y exp(u(x, y) / w_h), in units of the reward. At any z the mean of the policy's
gradient is the same on its own samples, where z is a baseline; z decides the noise, and elsewhere the fixed point.

FlowRL's z is a network of three layers on the mean of the prompt's hidden states. Here z is linear in the last hidden
state of the prompt's last token, which is what the policy knows when it begins to answer, and no gradient goes on into
the policy. A linear z has no random start: it is 0 everywhere, then the first batch sets its intercept.

Axis letters: P prompts, G samples of one prompt, D hidden size.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean
from typing import Any

import torch
from torch import Tensor

from sharpen.llm.distributed.world import World
from sharpen.llm.models.logprobs import CHUNK_LOGITS, make_batches
from sharpen.llm.models.weights import compute_device, without_adapters
from sharpen.objective import InputError


def balance_gradient(z_P: Tensor, rewards_PG: Tensor, prompts: int) -> Tensor:
    """Return the gradient in z of 1/2 the mean over prompts and samples of (z - R)^2, shape [P].

    Args:
        z_P: z of these prompts.
        rewards_PG: R = u - w_h log pi of their samples.
        prompts: How many the mean is over, at least these.

    Example:
        >>> balance_gradient(torch.tensor([1.0]), torch.tensor([[0.0, 3.0]]), 2)
        tensor([-0.2500])
    """
    return (z_P - rewards_PG.mean(dim=1)) / prompts


class LogZ:
    """z of prompts, with Adam's moments; the same in all processes, and never divided among them.

    Args:
        model: The policy.
        rate: Adam's learning rate. The features of a prompt have absolute values that add up to 2, so z of no prompt
            changes by much more than twice this in a step.
        world: The processes that train together.
    """

    def __init__(self, model: Any, rate: float, world: World) -> None:
        self.model, self.world = model, world
        size = without_adapters(model).config.get_text_config().hidden_size
        self.weight_F = torch.zeros(size + 1, device=compute_device(model))
        self.optimizer = torch.optim.Adam([self.weight_F], lr=rate)
        self.begun = False

    @torch.no_grad()
    def features(self, prompts: Sequence[Sequence[int]]) -> Tensor:
        """Return h / |h|_1 and a 1 for the intercept, h the hidden state that predicts the first token, shape [P, D+1].

        Args:
            prompts: Token ids. Every process has to ask, for as many prompts as it has.
        """
        head = without_adapters(self.model).get_output_embeddings()
        most = max(1, CHUNK_LOGITS // without_adapters(self.model).config.get_text_config().vocab_size)
        device = compute_device(self.model)
        batches = make_batches(prompts, [[]] * len(prompts), micro_batch_tokens=most, device=device)
        found: dict[int, Tensor] = {}
        caught: list[Tensor] = []
        hook = head.register_forward_pre_hook(lambda _, given: caught.append(given[0]))
        try:
            for place in range(self.world.most(len(batches))):
                batch = batches[min(place, len(batches) - 1)]
                self.model(input_ids=batch.tokens_BL, use_cache=False)  # the whole model: it may be sharded
                rows = torch.arange(len(batch.rows), device=device)
                last_BD = caught.pop()[rows, batch.prompt_length_B - 1].float()
                found |= zip(batch.rows, last_BD, strict=True)
        finally:
            hook.remove()
        hidden_PD = torch.stack([found[row] for row in range(len(prompts))])
        return torch.nn.functional.pad(torch.nn.functional.normalize(hidden_PD, p=1.0), (0, 1), value=1.0)

    def values(self, features_PF: Tensor) -> Tensor:
        """Return z of each prompt, shape [P]."""
        return features_PF @ self.weight_F

    def step(self, features_PF: Tensor, rewards_PG: Tensor) -> Tensor:
        """Make a step of Adam on 1/2 the mean of (z - R)^2 over the prompts and samples of all processes.

        The first sets the intercept to the mean of R, and no more: there the intercept's gradient is rounding, of which
        Adam would make a whole step.

        Args:
            features_PF: What :meth:`features` returned.
            rewards_PG: R of the policy that its own step starts from, shape [P, G].

        Returns:
            z of the prompts before the step, after the first one; shape [P].
        """
        if not self.begun:
            self.weight_F[-1] = fmean(self.world.gather(rewards_PG.mean(dim=1).tolist()))
            self.begun = True
            return self.values(features_PF)
        z_P = self.values(features_PF)
        prompts = sum(self.world.gather([len(features_PF)]))
        own_F = balance_gradient(z_P, rewards_PG, prompts) @ features_PF
        parts = self.world.gather([own_F.cpu()])
        self.weight_F.grad = torch.stack(parts).sum(dim=0).to(self.weight_F)
        self.optimizer.step()
        return z_P

    def state(self) -> dict[str, Tensor]:
        """Return what a resumed run needs, on the CPU."""
        found = {"weight": self.weight_F, "begun": torch.tensor(self.begun)}
        moments = self.optimizer.state.get(self.weight_F, {})
        return {name: tensor.detach().cpu().clone() for name, tensor in {**found, **moments}.items()}

    def load_state(self, tensors: dict[str, Tensor], where: str) -> None:
        """Take up what :meth:`state` returned.

        Args:
            tensors: See there.
            where: Named in errors.

        Raises:
            InputError: the state is another model's.
        """
        found = tensors.get("weight")
        if found is None or found.shape != self.weight_F.shape:
            size = None if found is None else len(found) - 1
            raise InputError("checkpoint", where, f"one of this model (its log Z is of hidden size {size})")
        self.weight_F.copy_(found)
        self.begun = bool(tensors["begun"])
        moments = {name: tensors[name].clone() for name in tensors.keys() - {"weight", "begun"}}
        if moments:  # Adam counts its steps on the CPU
            on = {name: tensor.to(self.weight_F) if tensor.dim() else tensor for name, tensor in moments.items()}
            self.optimizer.state[self.weight_F] = on
