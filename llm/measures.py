"""What a step's samples say about the policy.

Axis letters: P prompts, G samples of one prompt.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def effective_alpha(policy_PG: Tensor, reference_PG: Tensor) -> float | None:
    """Return the least-squares slope of log pi on log p over the samples, centred within each prompt.

    If pi = p^alpha / Z for each prompt, then log pi = alpha log p - log Z(prompt), and centring removes Z: the slope is
    alpha. It says how far a tempered run has come towards the alpha that its objective names.

    Args:
        policy_PG: Sequence log-probabilities under the policy, shape [P, G], nats.
        reference_PG: Under the reference, same shape.

    Returns:
        The slope, or None if the samples of every prompt are equally likely under the reference.

    Example:
        >>> import torch
        >>> log_p = torch.tensor([[-1.0, -2.0], [-5.0, -3.0]])
        >>> effective_alpha(2 * log_p + torch.tensor([[7.0], [9.0]]), log_p)
        2.0
    """
    x = (reference_PG - reference_PG.mean(dim=1, keepdim=True)).double()
    y = (policy_PG - policy_PG.mean(dim=1, keepdim=True)).double()
    spread = float((x * x).sum())
    return float((x * y).sum()) / spread if spread > 0.0 else None
