"""Configuration, run folder and metrics files: nothing is lost, nothing is half written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError

from sharpen.llm.configs.train import TrainConfig, load_changes, resolve
from sharpen.llm.training import metrics
from sharpen.llm.training.run import MADE
from sharpen.objective import PRESETS, InputError
from sharpen.objective.storage import runfolder


def test_the_papers_defaults() -> None:
    config = resolve({"model": "qwen2.5-3b"})
    assert (config.steps, config.prompts_per_step, config.samples_per_prompt, config.max_length) == (500, 32, 8, 2048)
    assert (config.optimizer.learning_rate, config.importance_cap, config.aggregation) == (1e-6, 20.0, "token_mean")
    larger = resolve({"model": "qwen3-4b"})
    assert (larger.steps, larger.prompts_per_step, larger.max_length) == (1000, 64, 4096)


def test_changes_reach_nested_settings_and_replace_objectives_whole() -> None:
    config = resolve({"optimizer": {"learning_rate": 0.5}, "objective": {"alpha": 3}})
    assert config.optimizer.learning_rate == 0.5
    assert config.optimizer.warmup_steps == resolve({}).optimizer.warmup_steps
    assert config.objective.alpha == 3.0
    assert config.objective.mode == "sampling"


@pytest.mark.parametrize(
    "changes",
    [
        {"steps": 0},
        {"samples_per_prompt": 1},
        {"optimizer": {"learning_rate": float("nan")}},
        {"optimizer": {"nesterov": True}},
        {"engine": "sglang"},
        {"max_length": 99999},
        {"seed": -1},
        {"objective": {"mode": "x"}},
    ],
)
def test_bad_settings_are_refused(changes: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        resolve(changes)


def open_folder(out: Path, config: TrainConfig, force: bool = False) -> None:
    with runfolder.opened(out, config, force, MADE):
        pass


def test_config_round_trips_through_the_run_folder(tmp_path: Path) -> None:
    config = resolve({"objective": PRESETS["tilted"].to_dict(), "steps": 7})
    open_folder(tmp_path / "run", config)
    assert runfolder.read_config(tmp_path / "run", TrainConfig) == config
    assert resolve(load_changes(str(tmp_path / "run" / "config.yaml"))) == config
    provenance = json.loads((tmp_path / "run" / "provenance.json").read_text())
    assert provenance["versions"]["torch"]
    assert provenance["command"]


def test_a_folder_belongs_to_one_configuration(tmp_path: Path) -> None:
    out, config = tmp_path / "run", resolve({"steps": 7})
    open_folder(out, config)
    (out / "metrics.jsonl").write_text("{}\n")
    open_folder(out, config)
    other = resolve({"steps": 7, "optimizer": {"learning_rate": 0.5}})
    with pytest.raises(InputError, match=r"optimizer.learning_rate: 0.0003 -> 0.5"):
        open_folder(out, other)
    assert (out / "metrics.jsonl").exists()
    open_folder(out, other, force=True)
    assert not (out / "metrics.jsonl").exists()
    assert runfolder.read_config(out, TrainConfig) == other


@pytest.mark.parametrize("force", [False, True])
def test_a_folder_of_something_else_is_left_alone(tmp_path: Path, force: bool) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    (tmp_path / "config.yaml").write_text("{}")  # many a project has one
    with pytest.raises(InputError, match="a new or empty folder"):
        open_folder(tmp_path, TrainConfig(), force=force)
    with pytest.raises(InputError, match="a new or empty folder"):
        open_folder(tmp_path / "thesis.tex", TrainConfig(), force=force)
    assert (tmp_path / "thesis.tex").read_text() == "years of work"


def test_an_unwritable_place_is_bad_input() -> None:
    with pytest.raises(InputError, match=r"^out: got ./proc/"):
        open_folder(Path("/proc/run"), TrainConfig())


def test_differences_name_the_field() -> None:
    assert runfolder.differences(resolve({}), resolve({"objective": PRESETS["sharpening"].to_dict()})) == [
        "objective.alpha: 0.0 -> 1.0",
        "objective.beta_inv: 1.0 -> 0.0",
    ]


@pytest.mark.parametrize("content", ["[1]", "a: [", "\x00"])
def test_unusable_config_files(tmp_path: Path, content: str) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(content)
    with pytest.raises(InputError, match=r"^config: got"):
        load_changes(str(file))
    with pytest.raises(InputError, match=r"^config: got"):
        load_changes(str(tmp_path / "missing.yaml"))


def test_metrics_after_a_kill_hold_every_step_once(tmp_path: Path) -> None:
    writer = metrics.MetricsWriter(tmp_path, 0)
    for step in range(5):
        writer.write({"step": step, "reward": None, "seconds": {"total": 0.1}}, [{"step": step, "response": "x"}])
    writer.close()
    file = tmp_path / "metrics.jsonl"
    file.write_text(file.read_text() + '{"step": 5, "rew')  # killed while writing
    metrics.MetricsWriter(tmp_path, 3).close()
    assert [record["step"] for record in metrics.read(file)] == [0, 1, 2]
    assert [record["step"] for record in metrics.read(tmp_path / "samples.jsonl")] == [0, 1, 2]


def test_metrics_refuse_what_json_lacks(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        metrics.append(tmp_path / "metrics.jsonl", [{"loss": float("nan")}])


def test_config_file_is_plain_yaml(tmp_path: Path) -> None:
    open_folder(tmp_path / "run", TrainConfig())
    fields = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    assert fields["objective"] == PRESETS["task-reward"].to_dict()
