"""A configuration made in Python is that of the command with the same flags, and old files mean what they meant."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from sharpen.cli.llm import eval as llm_eval
from sharpen.cli.llm import sample as llm_sample
from sharpen.cli.llm import train as llm_train
from sharpen.cli.shared.options import ObjectiveFlags
from sharpen.llm.configs.evaluation import EvalConfig
from sharpen.llm.configs.optimizer import OptimizerSettings
from sharpen.llm.configs.sampling import SampleConfig
from sharpen.llm.configs.train import TrainConfig
from sharpen.llm.models.registry import REGISTRY, resolve
from sharpen.objective import PRESETS

MODELS = ("embedded", *REGISTRY, "some/model")


def by_train_command(preset: str | None = None, **flags: Any) -> TrainConfig:
    return llm_train.resolved(ObjectiveFlags(preset=preset), llm_train.nested(flags), None, None, [])


def by_eval_command(monkeypatch: pytest.MonkeyPatch, **flags: Any) -> EvalConfig:
    """Return what ``sharpen llm eval`` asks for; nothing is evaluated."""
    asked: list[EvalConfig] = []

    class Enough(Exception):  # noqa: N818
        pass

    def stop(config: EvalConfig, *_: object, **__: object) -> None:
        asked.append(config)
        raise Enough

    monkeypatch.setattr("sharpen.llm.evaluation.run.run_evaluation", stop)
    with pytest.raises(Enough):
        llm_eval.evaluate(**{"out": None, "compare": None, **flags})
    return asked[0]


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("preset", PRESETS)
def test_training(model: str, preset: str) -> None:
    assert TrainConfig(model=model, objective=PRESETS[preset]) == by_train_command(preset, model=model)


def test_no_flags_and_no_arguments() -> None:
    assert TrainConfig() == by_train_command()
    assert TrainConfig().max_length == 80


def test_what_is_given_stands_beside_the_models_settings() -> None:
    config = TrainConfig.model_validate({"optimizer": {"learning_rate": 0.5}})
    assert (config.optimizer.learning_rate, config.optimizer.warmup_steps) == (0.5, 10)
    assert TrainConfig(optimizer=OptimizerSettings(learning_rate=0.5)).optimizer.warmup_steps == 50  # a whole object
    with pytest.raises(ValidationError, match="stepz"):
        TrainConfig.model_validate({"stepz": 3})


def test_a_stored_configuration_gets_nothing_from_its_model() -> None:
    assert TrainConfig.as_written({"model": "embedded"}).graph_tokens == 0  # a folder from before graphs were kept
    assert TrainConfig.as_written({}).one_pass == "never"
    assert TrainConfig.as_written({}).steps == 500
    assert TrainConfig.as_written(TrainConfig().model_dump(mode="json")) == TrainConfig()
    assert SampleConfig.as_written({}).model == "embedded"
    assert SampleConfig.as_written({}).max_length == 4096


@pytest.mark.parametrize("model", MODELS)
def test_evaluation(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = EvalConfig(model=model), by_eval_command(monkeypatch, model=model)
    assert ours == theirs
    assert ours.model == resolve(model).location


@pytest.mark.parametrize("model", MODELS)
def test_sampling(model: str) -> None:
    theirs = llm_sample._config({"model": model, "alpha": 2.0})
    assert SampleConfig(model=model, alpha=2.0) == theirs
    assert theirs.model == resolve(model).location


def test_names_are_resolved_once() -> None:
    for config in (EvalConfig(base="embedded"), SampleConfig()):
        assert type(config).model_validate(config.model_dump()) == config
        assert config.base == config.model == resolve("embedded").location
        assert config.max_length == 80


def test_a_name_of_no_model_says_which_there_are() -> None:
    for kind in (EvalConfig, SampleConfig):
        with pytest.raises(ValidationError, match="model: got 'nowhere', allowed: embedded, smollm2, qwen2"):
            kind(model="nowhere")
