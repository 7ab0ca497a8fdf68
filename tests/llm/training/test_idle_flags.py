"""A flag that does nothing in its mode is an error, and every flag of train, eval and sample says when it does."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import pytest

from sharpen.cli.llm import eval as llm_eval
from sharpen.cli.llm import sample as llm_sample
from sharpen.cli.llm import train as llm_train
from sharpen.cli.main import main
from sharpen.cli.shared import options
from sharpen.llm.configs import idle
from sharpen.llm.configs.recipes import write
from sharpen.llm.configs.sampling import SampleConfig, effects
from sharpen.llm.configs.train import TrainConfig, merge, resolve
from sharpen.llm.evaluation.run import EvalConfig
from sharpen.objective import PRESETS, InputError

TASK, TEMPERED, TILTED = (PRESETS[name].to_dict() for name in ("task-reward", "tempered", "tilted"))
PPO = {"learner": {"kind": "ppo"}}
SGD = {"optimizer": {"kind": "sgd"}}
SAMPLE = effects()
# For each row of the table of train: settings in which it has an effect, and settings in which it has none.
TRAIN_MODES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "learner.kl": ({"objective": TEMPERED}, {"objective": TASK}),
    "learner.clip_low": (PPO, {}),
    "learner.clip_high": ({"learner": {"kind": "grpo", "epochs": 2}}, {"learner": {"kind": "dapo"}}),
    "learner.rank_penalty": ({"learner": {"kind": "unlikeliness"}}, PPO),
    "learner.dynamic_rounds": ({"learner": {"kind": "dapo"}}, PPO),
    "graph_tokens": ({}, {"learner": {"kind": "dapo"}}),
    "one_pass": ({}, {"learner": {"kind": "dapo"}}),
    "importance_cap": ({}, {"importance": "none"}),
    **dict.fromkeys((f"optimizer.{name}" for name in ("beta1", "beta2", "epsilon")), ({}, SGD)),
    "optimizer.momentum": (SGD, {}),
    "optimizer.warmup_start": ({"optimizer": {"warmup_steps": 2}}, {"optimizer": {"warmup_steps": 0}}),
    "engine_memory": ({"engine": "vllm"}, {"engine": "transformers"}),
    "engine_sleep": ({"engine": "auto"}, {"engine": "auto", "sample_ahead": 1}),
    "optimizer_offload": ({"engine": "vllm"}, {"engine": "transformers"}),
    "rollout_noise": ({"engine": "vllm"}, {"engine": "transformers"}),
    "tensor_parallel": ({"engine": "vllm"}, {"engine": "transformers"}),
    "reference_every": ({"objective": TASK}, {"objective": TEMPERED}),
    "reference_offload": ({"device": "cuda"}, {"shard": "never"}),
    "reward.kind": ({"objective": TILTED}, {"objective": TEMPERED}),
    "reward.target": (
        {"reward": {"kind": "length", "target": 5}},
        {"objective": TEMPERED, "reward": {"kind": "length", "target": 5}},
    ),
    "reward.prefer": ({"reward": {"kind": "length", "target": 5}}, {"reward": {"kind": "task"}}),
    "reward.probability": ({"reward": {"kind": "random"}}, {"reward": {"kind": "format"}}),
}
SAMPLE_MODES: dict[str, tuple[str, str]] = {
    "alpha": ("low-temperature", "plain"),
    "budget": ("best-of-n", "plain"),
    **dict.fromkeys(("block", "steps", "proposal_temperature", "chunk", "early_stop", "cut"), ("power", "best-of-n")),
    **dict.fromkeys(("particles", "grow", "populations"), ("power-smc", "power")),
    "pool": ("reweighted", "power-smc"),
    **dict.fromkeys(("candidates", "rollouts", "horizon", "jackknife"), ("scalable-power", "power")),
    "n": ("best-of-n", "power"),
    "score": ("best-of-n", "scalable-power"),
}
EVAL_MODES = {"base": ({}, {"likelihoods": False}), "top_p": ({}, {"temperature": 0.0})}

# Flags that always have an effect; a new flag belongs here or into a table of llm/configs/idle.py.
ALWAYS = {
    "train": {
        *("preset", "objective", "alpha", "beta_inv", "mode", "normalization", "weight", "reference"),
        *("utility", "alpha_right"),
        *("steps", "seed", "checkpoint_every", "data", "split", "problems", "template", "wandb", "tracker"),
        *("prompts_per_step", "samples_per_prompt", "max_length", "ignore_eos", "temperature", "engine", "learner"),
        *("epochs", "aggregation", "importance", "learning_rate", "warmup_steps", "weight_decay", "gradient_clip"),
        *("device", "dtype", "microbatch_tokens", "activation_checkpointing", "lora_rank", "lora_alpha", "shard"),
        *("eval_problems", "eval_samples", "eval_data", "eval_split", "eval_selection_data", "eval_selection_split"),
        *(
            "task",
            "chat_option",
            "long_prompts",
            "eval_choose_by",
            "out",
            "model",
            "recipe",
            "config",
            "set_",
            "dry_run",
            "gpu",
            "force",
            "json_output",
        ),
    },
    "eval": {
        *("model", "checkpoint", "out", "compare", "data", "split", "problems", "template", "samples", "temperature"),
        *("max_length", "seed", "likelihoods", "engine", "device", "dtype", "batch", "json_output"),
        *("task", "chat_option", "long_prompts"),
    },
    "sample": {
        *(
            "method",
            "option",
            "model",
            "checkpoint",
            "out",
            "beside",
            "data",
            "split",
            "problems",
            "template",
            "samples",
        ),
        *("max_length", "seed", "engine", "device", "dtype", "prompts_per_batch", "json_output"),
        *("task", "chat_option", "long_prompts"),
    },
}
BESIDE = {"train": {"processes"}, "eval": {"force"}, "sample": {"force"}}  # only with another flag, tested below
TABLES = {"train": idle.TRAIN, "eval": idle.EVAL, "sample": SAMPLE}
COMMANDS = {"train": llm_train.train, "eval": llm_eval.evaluate, "sample": llm_sample.sample}


@pytest.mark.parametrize("command", COMMANDS)
def test_every_flag_says_when_it_has_an_effect(command: str) -> None:
    flags = set(inspect.signature(COMMANDS[command]).parameters)
    places = llm_train.PLACES if command == "train" else {}
    ruled = {flag for flag in flags if places.get(flag, flag) in TABLES[command]}
    assert flags == ruled | ALWAYS[command] | BESIDE[command]
    assert not ruled & (ALWAYS[command] | BESIDE[command])


def test_every_row_is_tested() -> None:
    assert set(TRAIN_MODES) == set(idle.TRAIN)
    assert set(SAMPLE_MODES) == set(SAMPLE)
    assert set(EVAL_MODES) == set(idle.EVAL)


@pytest.mark.parametrize("setting", TRAIN_MODES)
def test_a_setting_of_train_in_both_modes(setting: str) -> None:
    with_effect, without = TRAIN_MODES[setting]
    idle.refuse_idle(resolve(with_effect), [setting], idle.TRAIN)
    with pytest.raises(InputError, match=r"only with .*no effect") as refused:
        idle.refuse_idle(resolve(without), [setting], idle.TRAIN)
    assert refused.value.field == setting


@pytest.mark.parametrize("setting", SAMPLE_MODES)
def test_a_setting_of_sample_in_both_modes(setting: str) -> None:
    with_effect, without = (SampleConfig.model_validate({"method": name}) for name in SAMPLE_MODES[setting])
    idle.refuse_idle(with_effect, [setting], SAMPLE)
    with pytest.raises(InputError, match=f"{setting}: got .*no effect"):
        idle.refuse_idle(without, [setting], SAMPLE)


@pytest.mark.parametrize("setting", EVAL_MODES)
def test_a_setting_of_eval_in_both_modes(setting: str) -> None:
    given = {"model": "embedded"}
    with_effect, without = (EvalConfig.model_validate({**given, **mode}) for mode in EVAL_MODES[setting])
    idle.refuse_idle(with_effect, [setting], idle.EVAL)
    with pytest.raises(InputError, match=f"{setting}: got .*no effect"):
        idle.refuse_idle(without, [setting], idle.EVAL)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["train", "--dry-run", "--preset", "sharpening", "--reward", "majority"], "reward.kind"),
        (["train", "--dry-run", "--kl", "k3-loss"], "learner.kl"),
        (["train", "--dry-run", "--set", "learner.rank_penalty=0.1"], "learner.rank_penalty"),
        (["train", "--dry-run", "--engine", "transformers", "--no-engine-sleep"], "engine_sleep"),
        (["train", "--processes", "2"], "processes"),
        (["eval", "--force"], "force"),
        (["eval", "--temperature", "0", "--top-p", "0.9"], "top_p"),
        (["eval", "--no-likelihoods", "--base", "embedded"], "base"),
        (["sample", "--force"], "force"),
        (["sample", "--method", "plain", "--alpha", "2"], "alpha"),
        (["sample", "--method", "best-of-n", "--no-jackknife"], "jackknife"),
        (["sample", "--method", "best-of-n", "--early-stop"], "early_stop"),
        (["data", "--show", "2", "--json"], "show"),
        (["recipes", "--json", "--write", "x"], "json"),
    ],
)
def test_the_commands_refuse_it_before_anything_is_done(
    arguments: list[str],
    named: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as exited:
        main(["llm", *arguments])
    assert exited.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {named}: got")
    assert error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["run", "--slurm", "--jobs", "2"], "jobs"),
        (["run", "--ray", "local", "--jobs", "2"], "jobs"),
        (["run", "--slurm", "--dry-run"], "dry-run"),
        (["run", "--slurm", "--ray", "local"], "ray"),
        (["run", "--json"], "json"),
        (["verify", "--run", "base-s1", "--sample", "2"], "sample"),
        (["verify", "--run", "base-s1", "--seed", "2"], "seed"),
    ],
)
def test_flags_of_paper(arguments: list[str], named: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exited:
        main(["paper", *arguments])
    assert exited.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {named}: got")
    assert error.count("\n") == 1


def test_a_file_of_all_settings_is_taken_and_one_that_asks_for_something_idle_is_not(tmp_path: Path) -> None:
    none = options.ObjectiveFlags()
    for file in write(tmp_path, "embedded")[:3]:
        assert isinstance(llm_train.resolved(none, {}, None, file, []), TrainConfig)
    wanting = tmp_path / "wanting.yaml"
    wanting.write_text("learner: {clip_low: 0.3}\n")
    with pytest.raises(InputError, match=r"learner\.clip_low: got 0\.3"):
        llm_train.resolved(none, {}, None, wanting, [])
    wanting.write_text("learner: {kind: ppo, clip_low: 0.3}\n")
    assert llm_train.resolved(none, {}, None, wanting, []).learner.clip_low == 0.3


def test_set_changes_one_setting_of_the_objective_and_swallows_nothing() -> None:
    tilted = options.ObjectiveFlags(preset="tilted")
    found = llm_train.resolved(tilted, {}, None, None, ["objective.alpha=3"]).objective
    assert (found.alpha, found.beta_inv) == (3.0, PRESETS["tilted"].beta_inv)
    with pytest.raises(InputError, match=r"learner: got .grpo.*a mapping of settings"):
        merge({"learner": "grpo"}, {"learner": {"kl": "k1-reward"}})
    for wrong in ("steps", "steps=", "=3", "a..b=1", ".=1", "steps=[", "steps={a: 1, a: 2}", "a b=1"):
        with pytest.raises(InputError, match=r"^set: got"):
            llm_train.resolved(tilted, {}, None, None, [wrong])
    for wrong in ("steps=true", "steps.x=1", "learner=3", "steps=.5", "ignore_eos=1", "seed=18446744073709551616"):
        with pytest.raises(ValueError, match=wrong.partition("=")[0].partition(".")[0]):
            llm_train.resolved(tilted, {}, None, None, [wrong])
