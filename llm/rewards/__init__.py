"""Rewards behind the label firewall."""

from typing import TYPE_CHECKING

from sharpen.objective import lazy

if TYPE_CHECKING:
    from sharpen.llm.rewards.firewall import RewardConfig, reward_for
    from sharpen.llm.rewards.registry import REWARDS, Reward, Scoring, reward

__getattr__, __dir__, _ = lazy.exports(
    __name__,
    {
        "REWARDS": "sharpen.llm.rewards.registry:REWARDS",
        "Reward": "sharpen.llm.rewards.registry:Reward",
        "RewardConfig": "sharpen.llm.rewards.firewall:RewardConfig",
        "Scoring": "sharpen.llm.rewards.registry:Scoring",
        "reward": "sharpen.llm.rewards.registry:reward",
        "reward_for": "sharpen.llm.rewards.firewall:reward_for",
    },
)
__all__ = [  # the same names, where a type checker reads them
    "REWARDS",
    "Reward",
    "RewardConfig",
    "Scoring",
    "reward",
    "reward_for",
]
