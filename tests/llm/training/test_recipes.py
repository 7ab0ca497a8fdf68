"""The paper's grid by name, and every setting within reach of the command line."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from sharpen.cli.llm import train as llm_train
from sharpen.cli.llm.settings import assigned
from sharpen.cli.main import main
from sharpen.cli.shared.options import ObjectiveFlags
from sharpen.llm.configs import recipes
from sharpen.llm.configs.train import TrainConfig, load_changes, resolve
from sharpen.objective import InputError

# The published tables, written out: model -> fixed length too?, beta_inv of the sampling rows.
PUBLISHED = {
    "llama-3.2-3b": (True, ("0", "100", "10000")),
    "qwen2.5-3b": (True, ("0", "100", "10000")),
    "qwen3-4b": (False, ("0", "10000")),
}


@pytest.mark.parametrize("model", list(PUBLISHED))
def test_every_row_of_the_paper_has_a_recipe_and_no_other_has_no_suffix(model: str) -> None:
    fixed, weights = PUBLISHED[model]
    rows = {"sharpening-1-0", "task-reward-0-1"}
    for alpha in ("0.5", "1", "1.25", "2", "4"):
        rows |= {f"{'tempered' if weight == '0' else 'tilted'}-{alpha}-{weight}" for weight in weights}
    rows |= {f"{row}-fixed" for row in rows} if fixed else set()
    own = {name.partition("/")[2] for name in recipes.names(model)}
    assert {name for name in own if not name.endswith("mean")} == rows
    # The other normalizations: of every row whose objective has a likelihood term beyond the KL's own.
    changed = {row for row in rows if not re.match(r"task-reward|\w+-1-(?!0(-fixed)?$)|tempered-1-", row)}
    assert own - rows == {f"{row}-{suffix}" for row in changed for suffix in ("mean", "weighted_mean")}


@pytest.mark.parametrize("name", recipes.names())
def test_every_recipe_is_a_valid_run_that_its_name_describes(name: str) -> None:
    config = resolve(recipes.load(name))
    model, _, rest = name.partition("/")
    match = re.fullmatch(r"([a-z-]+?)-([\d.]+)-(\d+)(-fixed)?(?:-(mean|weighted_mean))?", rest)
    assert match is not None
    regime, alpha, beta_inv, fixed, normalization = match.groups()
    objective = config.objective
    assert (config.model, objective.regime) == (model, regime)
    assert (objective.alpha, objective.beta_inv) == (float(alpha), float(beta_inv))
    assert config.ignore_eos == (fixed is not None)
    assert objective.normalization == (normalization or "sum")
    assert objective.weight == (0.5 if normalization == "weighted_mean" else None)
    assert objective.reference == "frozen"


def test_the_papers_training_settings() -> None:
    config = resolve(recipes.load("llama-3.2-3b/tempered-2-0"))
    assert (config.data, config.split) == ("math", "train")
    assert (config.steps, config.prompts_per_step, config.samples_per_prompt, config.max_length) == (500, 32, 8, 2048)
    assert (config.checkpoint_every, config.importance_cap, config.importance) == (20, 20.0, "token")
    assert (config.learner.kind, config.learner.kl, config.aggregation) == ("rloo", "k1-reward", "token_mean")
    optimizer = config.optimizer
    assert (optimizer.learning_rate, optimizer.beta1, optimizer.beta2, optimizer.epsilon) == (1e-6, 0.9, 0.999, 1e-8)
    assert (optimizer.weight_decay, optimizer.gradient_clip) == (0.01, 1.0)
    assert [optimizer.learning_rate_at(step) for step in (0, 25, 50, 400)] == pytest.approx([1e-7, 5.5e-7, 1e-6, 1e-6])
    larger = resolve(recipes.load("qwen3-4b/task-reward-0-1"))
    assert (larger.data, larger.steps, larger.prompts_per_step, larger.max_length) == ("deepscaler", 1000, 64, 4096)
    assert (larger.evaluation.data, larger.seed) == ("aime24", 42)


def test_a_written_recipe_is_the_recipe(tmp_path: Path) -> None:
    written = recipes.write(tmp_path, "qwen3-4b")
    assert len(written) == len(recipes.names("qwen3-4b"))
    for file in written:
        name = str(file.relative_to(tmp_path)).removesuffix(".yaml")
        assert resolve(load_changes(str(file))) == resolve(recipes.load(name))


def test_an_unknown_recipe_names_similar_ones() -> None:
    with pytest.raises(InputError, match=r"recipe: got 'qwen2.5-3b/temperd-2-0'.*qwen2.5-3b/tempered-2-0"):
        recipes.load("qwen2.5-3b/temperd-2-0")


def test_flags_change_a_recipe_and_a_file_and_set_changes_both(tmp_path: Path) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text("steps: 9\nseed: 5\n")
    flags = llm_train.nested({"seed": 6, "learner": "dapo", "lora_rank": 4, "reward": None})
    got = llm_train.resolved(
        ObjectiveFlags(), flags, "embedded/tilted-2-100-fixed-mean", file, ["optimizer.beta2=0.5", "lora.alpha=3"]
    )
    assert (got.steps, got.seed, got.learner.kind, got.ignore_eos) == (9, 6, "dapo", True)
    assert (got.objective.normalization, got.optimizer.beta2) == ("mean", 0.5)
    assert got.lora is not None
    assert (got.lora.rank, got.lora.alpha) == (4, 3.0)


@pytest.mark.parametrize("text", ["steps", "=3", "steps=[", "."])
def test_an_assignment_of_another_form_is_refused(text: str) -> None:
    with pytest.raises(InputError, match=r"^set: got"):
        assigned(text)


def test_set_refuses_settings_that_do_not_exist() -> None:
    with pytest.raises(ValidationError, match="nesterov"):
        llm_train.resolved(ObjectiveFlags(), {}, None, None, ["optimizer.nesterov=true"])


def leaves(model: type[BaseModel], prefix: str = "") -> set[str]:
    """Dotted names of all settings."""
    found: set[str] = set()
    for name, field in model.model_fields.items():
        kinds = [field.annotation, *getattr(field.annotation, "__args__", ())]
        inner = next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)), None)
        found |= {f"{prefix}{name}"} if inner is None else leaves(inner, f"{prefix}{name}.")
    return found


def test_every_flag_is_a_setting() -> None:
    groups: list[Any] = [llm_train.RunFlags, llm_train.RolloutFlags, llm_train.LearnerFlags, llm_train.RewardFlags]
    groups += [llm_train.ScaleFlags, llm_train.EvaluationFlags]
    flags = {name for group in groups for name in group.__dataclass_fields__} - {"task"}  # which stands for several
    places = {llm_train.PLACES.get(flag, flag) for flag in flags}
    assert places <= leaves(TrainConfig)
    assert len(places) == len(flags)
    # What has no flag of its own is for --set.
    without = {name for name in leaves(TrainConfig) - places if not name.startswith("objective.")}
    assert without == {
        "engine_tolerance",
        "engine_restarts",
        "evaluation.alpha_prompts",
        "graph_tokens",
        "one_pass",
        "optimizer_offload",
        "process_timeout",
        "rollout_noise",
        "sample_ahead",
        "learner.options",
        "learner.rank_penalty",
        "learner.dynamic_rounds",
        "reward.options",
        "reference_every",
        "share_prompts",
        "tracker_options",
        *(f"optimizer.{name}" for name in ("kind", "beta1", "beta2", "epsilon", "momentum", "warmup_start")),
        *("optimizer.max_kl", "optimizer.measure_step"),
    } | {"model"}  # a flag of the command itself


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as exited:
        main(["llm", *arguments])
    assert isinstance(exited.value.code, int)
    return exited.value.code


def test_the_command_lists_recipes(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("recipes", "--model", "qwen3-4b", "--json") == 0
    assert json.loads(capsys.readouterr().out) == recipes.names("qwen3-4b")
    assert run("recipes", "--model", "gpt-17") == 2
    assert "embedded, llama-3.2-3b" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--recipe", "x"], "recipe: got 'x'"),
        (["--set", "steps"], "set: got 'steps'"),
        (["--learner", "sarsa"], "learner.kind: got 'sarsa'"),
        (["--kl", "k4-loss"], "learner.kl: got 'k4-loss'"),
        (["--reward", "money"], "reward.kind: got 'money'"),
        (["--importance", "word"], "importance: got 'word'"),
        (["--temperature", "2"], "temperature: got 2.0, allowed: 1 for rloo"),
        (["--microbatch-tokens", "40"], "tokens_per_microbatch: got 40"),
        (["--lora-rank", "0"], "lora.rank: got 0"),
        (["--tensor-parallel", "3", "--dry-run", "--processes", "4"], "tensor_parallel: got 3"),
        (["--processes", "0", "--dry-run"], "processes: got 0"),
        (["--prompts-per-step", "5", "--dry-run", "--processes", "6"], "prompts_per_step: got 5"),
    ],
    ids=lambda x: " ".join(x) if isinstance(x, list) else "",
)
def test_bad_flags_are_one_line(flags: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("train", *flags) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1, error
    assert message in error
