"""The samples of one step with everything that the learner and the metrics read.

Axis letters: P prompts, G samples of one prompt, R = P G sequences (prompt-major), T response positions (padded).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from sharpen.llm.learners.parts.loss import Mismatch
from sharpen.llm.models.logprobs import TokenLogprobs
from sharpen.llm.rollout import Rollout


@dataclass(frozen=True)
class Experience:
    """One process's samples of a step.

    Args:
        chosen: Place of each prompt in the training set, P of them.
        rollout: Prompts, responses and the engine's log-probabilities, R rows.
        texts: Decoded responses.
        policy: Token log-probabilities under the policy before the update, shape [R, T], with entropies.
        reference_RT: Token log-probabilities under the reference.
        mismatch: Importance weights of the trainer against the engine, shape [R, T].
        rewards_R: Task rewards; None if the objective has no reward term.
        graph_RT: ``policy.logprobs_BT`` with its graph, if that was kept for the update.
        first_loss: This process's part of the first update's loss, if its gradient has been added with the scores.
        log_z_P: What is learned of w_h log Z of each prompt and taken off its rewards, shape [P], where a learner asks
            for it.
        stand_in: Whether these samples only let this process take part in what the others do: they add nothing to the
            loss and do not count.
    """

    chosen: list[int]
    rollout: Rollout
    texts: list[str]
    policy: TokenLogprobs
    reference_RT: Tensor
    mismatch: Mismatch
    rewards_R: Tensor | None
    graph_RT: Tensor | None = None
    first_loss: float | None = None
    log_z_P: Tensor | None = None
    stand_in: bool = False

    @property
    def group_size(self) -> int:
        """Samples of a prompt, G."""
        return len(self.texts) // len(self.chosen)

    @property
    def lengths(self) -> list[int]:
        """Response tokens of each row, end-of-sequence included."""
        return [len(ids) for ids in self.rollout.response_ids]

    @property
    def policy_R(self) -> Tensor:  # noqa: N802  # axis letters
        """Sequence log-probabilities under the policy before the update, nats."""
        return self.policy.logprobs_BT.sum(dim=1)

    @property
    def reference_R(self) -> Tensor:  # noqa: N802
        """Sequence log-probabilities under the reference, nats."""
        return self.reference_RT.sum(dim=1)

    def grouped(self, values_R: Tensor) -> Tensor:
        """Return one value a row as an array [P, G]."""
        return values_R.view(len(self.chosen), self.group_size)

    def take(self, prompts: Sequence[int]) -> Experience:
        """Return the samples of some of the prompts, by their place in ``chosen``; of none, a stand-in for a process.

        The mismatch keeps the statistics of all samples; only what has one entry per row is of those taken.
        """
        if not prompts:
            return replace(self.take([0]), stand_in=True)
        G = self.group_size
        rows = [prompt * G + sample for prompt in prompts for sample in range(G)]
        r = self.rollout
        rollout = Rollout(
            [r.prompt_ids[i] for i in rows],
            [r.response_ids[i] for i in rows],
            [r.logprobs[i] for i in rows],
            [r.finished[i] for i in rows],
        )
        entropy = self.policy.entropy_BT
        policy = TokenLogprobs(
            self.policy.logprobs_BT[rows], None if entropy is None else entropy[rows], self.policy.mask_BT[rows]
        )
        return Experience(
            [self.chosen[prompt] for prompt in prompts],
            rollout,
            [self.texts[i] for i in rows],
            policy,
            self.reference_RT[rows],
            self.mismatch._replace(
                weights_BT=self.mismatch.weights_BT[rows], difference_B=self.mismatch.difference_B[rows]
            ),
            None if self.rewards_R is None else self.rewards_R[rows],
            log_z_P=None if self.log_z_P is None else self.log_z_P[list(prompts)],
        )


def joined(parts: Sequence[Experience]) -> Experience:
    """Return the samples of several rounds as one; the mismatch statistics are those of all rounds together."""
    if len(parts) == 1:
        return parts[0]
    rollouts, policies = [part.rollout for part in parts], [part.policy for part in parts]
    entropies = [policy.entropy_BT for policy in policies if policy.entropy_BT is not None]
    rewards = [part.rewards_R for part in parts if part.rewards_R is not None]
    return Experience(
        [place for part in parts for place in part.chosen],
        Rollout(
            [ids for r in rollouts for ids in r.prompt_ids],
            [ids for r in rollouts for ids in r.response_ids],
            [row for r in rollouts for row in r.logprobs],
            [flag for r in rollouts for flag in r.finished],
        ),
        [text for part in parts for text in part.texts],
        TokenLogprobs(
            _stacked([policy.logprobs_BT for policy in policies]),
            _stacked(entropies) if entropies else None,
            _stacked([policy.mask_BT for policy in policies]),
        ),
        _stacked([part.reference_RT for part in parts]),
        _joined_mismatch([part.mismatch for part in parts]),
        torch.cat(rewards) if rewards else None,
    )


def _stacked(arrays: Sequence[Tensor], fill: float = 0) -> Tensor:
    widest = max(array.shape[1] for array in arrays)
    return torch.cat([torch.nn.functional.pad(array, (0, widest - array.shape[1]), value=fill) for array in arrays])


def _joined_mismatch(parts: Sequence[Mismatch]) -> Mismatch:
    return Mismatch(
        _stacked([part.weights_BT for part in parts], fill=1.0),
        max(part.max_error for part in parts),
        sum(part.error_sum for part in parts),
        sum(part.kl_sum for part in parts),
        max(part.max_ratio for part in parts),
        sum(part.capped for part in parts),
        sum(part.units for part in parts),
        sum(part.tokens for part in parts),
        torch.cat([part.errors_N for part in parts]),
        torch.cat([part.difference_B for part in parts]),
    )
