"""The reference policy p of a run: a frozen copy, the policy itself, or a copy that is renewed every K updates."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor

from sharpen.llm.models.logprobs import token_logprobs
from sharpen.llm.models.weights import copy_of, own_part
from sharpen.objective import InputError, Objective

if TYPE_CHECKING:
    from sharpen.llm.rollout import Rollout


class Reference(Protocol):
    """What the trainer asks of p."""

    @property
    def differs(self) -> bool:
        """Whether p can differ from the policy; if not, its log-probabilities are the policy's."""
        ...

    @property
    def model(self) -> Any | None:
        """The copy that has to be stored with a checkpoint, or None."""
        ...

    def logprobs(self, rollout: Rollout, **options: Any) -> Tensor:
        """Return token log-probabilities of the responses, shape [R, T]; options as for ``token_logprobs``."""
        ...

    def after_update(self, updates: int) -> None:
        """Renew p if it is due after so many updates."""
        ...


class PolicyItself:
    """p is the current policy, as in self-sharpening."""

    differs = False
    model = None

    def logprobs(self, rollout: Rollout, **options: Any) -> Tensor:
        """Never asked for."""
        raise AssertionError("the policy's own log-probabilities are known")

    def after_update(self, updates: int) -> None:
        """Nothing to renew."""


class Copy:
    """p is a copy of the policy, renewed every ``every`` updates, or never.

    Args:
        model: The copy.
        policy: Where it is renewed from.
        every: Updates between renewals; None for a frozen reference.
    """

    differs = True

    def __init__(self, model: Any, policy: Any, every: int | None) -> None:
        self.copy_of_policy, self._policy, self._every = model, policy, every

    @property
    def model(self) -> Any | None:
        """The copy if it moves; a frozen one is the base model, which need not be stored."""
        return self.copy_of_policy if self._every is not None else None

    def logprobs(self, rollout: Rollout, **options: Any) -> Tensor:
        """Return token log-probabilities of the responses, shape [R, T]."""
        return token_logprobs(self.copy_of_policy, rollout.prompt_ids, rollout.response_ids, **options).logprobs_BT

    def after_update(self, updates: int) -> None:
        """Copy the policy's weights and buffers if that is due."""
        if self._every is not None and updates % self._every == 0:
            # By parts: both are divided alike, and those of an offloaded copy are in the machine's memory.
            with torch.no_grad():
                for mine, current in zip(_state(self.copy_of_policy), _state(self._policy), strict=True):
                    own_part(mine).copy_(own_part(current))


def _state(model: Any) -> Iterator[Tensor]:
    yield from model.parameters()
    yield from model.buffers()


class AdaptersOff:
    """p is the model without its LoRA adapters: the base model, at no memory."""

    differs = True
    model = None

    def __init__(self, policy: Any) -> None:
        self._policy = policy

    def logprobs(self, rollout: Rollout, **options: Any) -> Tensor:
        """Return token log-probabilities of the responses, shape [R, T]."""
        with self._policy.disable_adapter():
            return token_logprobs(self._policy, rollout.prompt_ids, rollout.response_ids, **options).logprobs_BT

    def after_update(self, updates: int) -> None:
        """A frozen base does not move."""


def make_reference(objective: Objective, policy: Any, *, dtype: torch.dtype | None = None) -> Reference:
    """Return the reference that the objective names, for a policy that has not been sharded yet.

    Args:
        objective: Its ``reference`` is ``frozen``, ``policy`` or ``refresh:K``.
        policy: The model that is trained, with or without LoRA adapters.
        dtype: Of a copy; None keeps the policy's.

    Raises:
        InputError: a LoRA run asks for a reference that moves: the base weights are all it has beside the policy.
    """
    if objective.reference == "policy":
        return PolicyItself()
    if hasattr(policy, "disable_adapter"):
        if objective.refresh_every is not None:
            raise InputError("reference", objective.reference, "frozen or policy with LoRA")
        return AdaptersOff(policy)
    return Copy(copy_of(policy, dtype=dtype).eval().requires_grad_(False), policy, objective.refresh_every)
