"""Settings that do nothing in the mode they are given in: an error, since whoever gives one expects an effect.

One table a command says when each setting has an effect; a setting without a row always has one. That of
``sharpen llm sample`` is made of the samplers' signatures (:func:`sharpen.llm.configs.sampling.effects`). What the base
of a configuration or the recipe of a model sets is not asked: only what a person gave.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from sharpen.llm.learners.parts.registry import those
from sharpen.objective import InputError

if TYPE_CHECKING:
    from sharpen.llm.configs.train import TrainConfig
    from sharpen.llm.learners.parts.learner import Learner


class Effect(NamedTuple):
    """When a setting has an effect.

    Args:
        found: Whether it has one in a configuration.
        when: The same in words, for the message; a function where it names parts, which are found when it is needed.
    """

    found: Callable[[Any], bool]
    when: str | Callable[[], str]


def _kl(config: Any) -> bool:
    return config.objective.coefficients.w_h != 0


def _taking(setting: str) -> str:
    return f"with a learner that takes it: {those(lambda learner: setting in learner.takes)}"


def _resamples(learner: Learner) -> bool:
    return learner.resamples


def _of_a_group(learner: Learner) -> bool:
    return getattr(learner, "by_group", False) and not learner.resamples


def _by_group(config: Any) -> bool:
    return _of_a_group(config.learner.learner)


def _vllm(config: Any) -> bool:
    return config.engine != "transformers"


def _offloads(config: Any) -> bool:
    return config.shard != "never" and config.device != "cpu"


def _clip(name: str) -> Effect:
    return Effect(
        lambda c: name in c.learner.learner.takes and c.learner.epochs > 1,
        lambda: f"{_taking(name)}; and epochs 2 or more: the first has ratio 1",
    )


_VLLM = Effect(_vllm, "with the engine vllm")
_SLEEPS = Effect(lambda c: _vllm(c) and not c.sample_ahead, "with the engine vllm and sample_ahead 0")
_ADAM = Effect(lambda c: c.optimizer.kind == "adamw", "with the optimizer adamw")
_REWARD = Effect(lambda c: c.objective.needs_reward, "with an objective that has a reward term")
TRAIN: dict[str, Effect] = {
    "learner.kl": Effect(_kl, "with mode sampling, whose objective has a KL"),
    "learner.clip_low": _clip("clip_low"),
    "learner.clip_high": _clip("clip_high"),
    "learner.rank_penalty": Effect(
        lambda c: "rank_penalty" in c.learner.learner.takes, lambda: _taking("rank_penalty")
    ),
    "learner.dynamic_rounds": Effect(
        lambda c: c.learner.learner.resamples, lambda: f"with a learner that samples again: {those(_resamples)}"
    ),
    "graph_tokens": Effect(
        lambda c: not c.learner.learner.resamples, lambda: f"with learners other than {those(_resamples)}"
    ),
    "one_pass": Effect(_by_group, lambda: f"with a learner of one group at a time: {those(_of_a_group)}"),
    "importance_cap": Effect(lambda c: c.importance != "none", "with importance token or sequence"),
    **dict.fromkeys((f"optimizer.{name}" for name in ("beta1", "beta2", "epsilon")), _ADAM),
    "optimizer.momentum": Effect(lambda c: c.optimizer.kind == "sgd", "with the optimizer sgd"),
    "optimizer.warmup_start": Effect(lambda c: c.optimizer.warmup_steps > 0, "with warm-up steps"),
    "engine_memory": _VLLM,
    "engine_sleep": _SLEEPS,
    "optimizer_offload": _SLEEPS,
    "rollout_noise": _VLLM,
    "tensor_parallel": _VLLM,
    "reference_every": Effect(
        lambda c: not c.objective.reads_reference,
        "with an objective that has no reference, task reward alone",
    ),
    "reference_offload": Effect(_offloads, "with a sharded reference on GPUs"),
    "reward.kind": _REWARD,
    "reward.target": _REWARD,
    "reward.prefer": Effect(lambda c: c.objective.needs_reward and c.reward.kind == "length", "with reward length"),
    "reward.probability": Effect(
        lambda c: c.objective.needs_reward and c.reward.kind == "random", "with reward random"
    ),
}
EVAL: dict[str, Effect] = {
    "base": Effect(lambda config: config.likelihoods, "with --likelihoods"),
    "top_p": Effect(lambda config: config.temperature > 0, "with a temperature above 0"),
}


def refuse_idle(config: Any, given: Iterable[str], effects: Mapping[str, Effect]) -> None:
    """Refuse settings that have no effect.

    Args:
        config: The resolved configuration.
        given: Names of the settings that a person gave, dotted where they are nested.
        effects: The command's table.

    Raises:
        InputError: one of them does nothing; the message says when it would.
    """
    for name in given:
        effect = effects.get(name)
        if effect is not None and not effect.found(config):
            value = config
            for part in name.split("."):
                value = getattr(value, part)
            when = effect.when if isinstance(effect.when, str) else effect.when()
            raise InputError(name, value, f"only {when}; it would have no effect here")


def named(changes: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Return the dotted names of nested settings.

    Example:
        >>> named({"steps": 3, "learner": {"kl": "k1-reward"}})
        ['steps', 'learner.kl']
    """
    found = []
    for name, given in changes.items():
        nested = isinstance(given, dict) and name != "objective"
        found += named(given, f"{prefix}{name}.") if nested else [f"{prefix}{name}"]
    return found


def departures(config: TrainConfig, changes: Mapping[str, Any]) -> list[str]:
    """Return which settings of a file depart from what its run would have without them.

    A file of all settings, as ``sharpen llm recipes --write`` makes it, names many that have no effect.
    """
    from sharpen.llm.configs.train import resolve

    learner, objective = {"kind": config.learner.kind, "options": config.learner.options}, config.objective.to_dict()
    usual = resolve({"model": config.model, "objective": objective, "learner": learner})
    found = []
    for name in named(changes):
        ours, theirs = config, usual
        for part in name.split("."):
            ours, theirs = getattr(ours, part, None), getattr(theirs, part, None)
        if ours != theirs:
            found.append(name)
    return found
