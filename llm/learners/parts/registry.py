"""The door of learners: those that are built in, and how a name and options become one."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from sharpen.llm.learners.parts.learner import Learner, PolicyGradient
from sharpen.objective import InputError
from sharpen.objective.registry import Registry

WITHOUT = ("by_group", "log_z_rate")  # a learner that lacks these does without
FACTS = tuple(name for name in vars(PolicyGradient) if name in Learner.__annotations__ and name not in WITHOUT)
PARTS = ("rewards", "advantages", "keeps", "loss")


class Factory(Protocol):
    """What is registered: a class of learners, or a function that returns one."""

    def __call__(self, *args: Any, **options: Any) -> Learner: ...  # noqa: D102


def _check(part: object) -> None:
    if not callable(part):
        raise TypeError("a class of learners, or a function that returns one")
    if isinstance(part, type):
        _check_whole(part)
        if unfinished := sorted(getattr(part, "__abstractmethods__", ())):
            raise TypeError(f"a class in which nothing is left open ({', '.join(unfinished)} missing)")


def _check_whole(learner: object) -> None:
    missing = [name for name in PARTS if not callable(getattr(learner, name, None))]
    missing += [name for name in FACTS if not hasattr(learner, name)] if not isinstance(learner, type) else []
    if missing:
        raise TypeError(f"what sharpen.llm.learners.Learner lists ({', '.join(missing)} missing)")


LEARNERS: Registry[Factory] = Registry("learner", _check)
# By their places: a learner's file is read when a run names it.
LEARNERS.register("rloo", "sharpen.llm.learners.algorithms.rloo:RLOO")
LEARNERS.register("reinforce", "sharpen.llm.learners.algorithms.reinforce:Reinforce")
LEARNERS.register("grpo", "sharpen.llm.learners.algorithms.grpo:GRPO")
LEARNERS.register("ppo", "sharpen.llm.learners.algorithms.ppo:PPO")
LEARNERS.register("dapo", "sharpen.llm.learners.algorithms.dapo:DAPO")
LEARNERS.register("unlikeliness", "sharpen.llm.learners.algorithms.unlikeliness:Unlikeliness")
LEARNERS.register("tb", "sharpen.llm.learners.algorithms.tb:TrajectoryBalance")
LEARNERS.register("tb-batch", "sharpen.llm.learners.algorithms.tb_batch:BatchBalance")
LEARNERS.register("best-of-n", "sharpen.llm.learners.algorithms.best_of_n:BestOfN")
LEARNERS.register("dr-grpo", "sharpen.llm.learners.algorithms.dr_grpo:DrGRPO")
LEARNERS.register("gspo", "sharpen.llm.learners.algorithms.gspo:GSPO")
LEARNERS.register("cispo", "sharpen.llm.learners.algorithms.cispo:CISPO")
LEARNERS.register("maxrl", "sharpen.llm.learners.algorithms.success.maxrl:MaxRL")
LEARNERS.register("maxrl-order-g", "sharpen.llm.learners.algorithms.success.maxrl_order_g:MaxRLOrderG")
LEARNERS.register("pass-k", "sharpen.llm.learners.algorithms.success.pass_k:PassK")
LEARNERS.register("nsr", "sharpen.llm.learners.algorithms.success.nsr:NSR")
LEARNERS.register("w-reinforce", "sharpen.llm.learners.algorithms.success.w_reinforce:WReinforce")
LEARNERS.register("power-distillation", "sharpen.llm.learners.algorithms.matching.power_distillation:PowerDistillation")
LEARNERS.register("alpha-divergence", "sharpen.llm.learners.algorithms.matching.alpha_divergence:AlphaDivergence")
LEARNERS.register("f-divergence", "sharpen.llm.learners.algorithms.matching.f_divergence:FDivergence")
LEARNERS.register("entropy-bonus", "sharpen.llm.learners.algorithms.entropy.entropy_bonus:EntropyBonus")
LEARNERS.register("adaptive-entropy", "sharpen.llm.learners.algorithms.entropy.adaptive_entropy:AdaptiveEntropy")


def make(name: str, options: Mapping[str, Any]) -> Learner:
    """Return the learner of a name.

    Args:
        name: Built-in, ``module:object``, or an entry point's.
        options: Its own parameters.

    Raises:
        InputError: there is no such learner, or it does not take these options.

    Example:
        >>> make("ppo", {}).published
        {'epochs': 4}
    """
    factory = LEARNERS.get(name, "kind")
    try:
        if options:  # refused by name; to read the signature of a class without its own `__init__` Python parses a text
            inspect.signature(factory).bind(**options)
        learner = factory(**options)
    except (TypeError, ValueError) as error:  # a learner refuses an option's value by ValueError
        raise InputError("options", dict(options), f"options that {name} takes ({error})") from error
    try:
        _check_whole(learner)
    except TypeError as error:
        raise InputError("kind", name, f"a learner: {error}") from error
    return learner


def those(fact: Callable[[Learner], object]) -> str:
    """Return the names of the registered learners of which something holds, for a message.

    Example:
        >>> those(lambda learner: learner.off_policy)
        'tb, tb-batch'
    """
    found = LEARNERS.where(lambda name: fact(make(name, {})))  # without one that needs options
    return ", ".join(found) or "none"
