"""The label firewall: a run without a reward term cannot tell right answers from wrong, or from none."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from sharpen.llm.configs.train import resolve
from sharpen.llm.rewards.firewall import reward_for
from sharpen.llm.tasks.data import AnswerKey, DataSource, Prompt
from sharpen.llm.tasks.sources import load_source
from sharpen.llm.training.run import train
from sharpen.objective import PRESETS

PROBLEMS = [(11, 22, 33), (45, 16, 27), (38, 91, 12), (64, 75, 86), (10, 20, 30), (99, 98, 97)]
LABEL_FREE = ("sharpening", "tempered")


def write_problems(file: Path, answer: Any) -> Path:
    """Write the problems with ``answer(a, b, c)`` as the gold answer; None leaves the column out."""
    rows = []
    for numbers in PROBLEMS:
        gold = answer(*numbers)
        row = {"problem": "+".join(map(str, numbers)) + "=?"}
        rows.append(row if gold is None else {**row, "answer": str(gold)})
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def weights_after(data: Path, honest: Path, out: Path, preset: str, engine: str) -> dict[str, torch.Tensor]:
    config = resolve(
        {
            "objective": PRESETS[preset].to_dict(),
            "data": str(data),
            "steps": 3,
            "prompts_per_step": 4,
            "samples_per_prompt": 4,
            "max_length": 48,
            "checkpoint_every": 3,
            "engine": engine,
            "optimizer": {"learning_rate": 1e-3, "warmup_steps": 0},
            "evaluation": {"data": str(honest), "problems": 1, "samples": 1, "alpha_prompts": 0},
        }
    )
    train(config, out)
    return load_file(out / "checkpoints" / "last" / "model.safetensors")


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("preset", LABEL_FREE)
def test_poisoned_and_missing_labels_leave_every_bit_of_the_weights(preset: str, tmp_path: Path) -> None:
    honest = write_problems(tmp_path / "honest.jsonl", lambda a, b, c: a + b + c)
    poisoned = write_problems(tmp_path / "poisoned.jsonl", lambda a, b, c: a * b * c + 1)
    missing = write_problems(tmp_path / "missing.jsonl", lambda *_: None)
    expected = weights_after(honest, honest, tmp_path / "a", preset, "transformers")
    assert same(expected, weights_after(poisoned, honest, tmp_path / "b", preset, "transformers"))
    assert same(expected, weights_after(missing, honest, tmp_path / "c", preset, "transformers"))


def test_the_poison_works_where_labels_are_used(tmp_path: Path) -> None:
    """The control: the same poison changes a task-reward run, so the test above can fail."""
    honest = write_problems(tmp_path / "honest.jsonl", lambda a, b, c: a + b + c)
    poisoned = write_problems(tmp_path / "poisoned.jsonl", lambda a, b, c: a * b * c + 1)
    expected = weights_after(honest, honest, tmp_path / "a", "task-reward", "transformers")
    assert not same(expected, weights_after(poisoned, honest, tmp_path / "b", "task-reward", "transformers"))


@pytest.mark.vllm
def test_the_firewall_holds_with_vllm(tmp_path: Path) -> None:
    honest = write_problems(tmp_path / "honest.jsonl", lambda a, b, c: a + b + c)
    poisoned = write_problems(tmp_path / "poisoned.jsonl", lambda a, b, c: a * b * c + 1)
    expected = weights_after(honest, honest, tmp_path / "a", "sharpening", "vllm")
    assert same(expected, weights_after(poisoned, honest, tmp_path / "b", "sharpening", "vllm"))


class Trap(DataSource):
    """A source whose answers may not be opened."""

    def __init__(self, source: DataSource) -> None:
        self._prompts = source.prompts()

    def prompts(self) -> Any:
        return self._prompts

    def answers(self) -> AnswerKey:
        raise AssertionError("answers were opened")


class Witness(DataSource):
    """A source that notes when its answers are opened."""

    def __init__(self, source: DataSource, note: Callable[[], None]) -> None:
        self._source, self._note = source, note

    def prompts(self) -> Any:
        return self._source.prompts()

    def answers(self) -> AnswerKey:
        self._note()
        return self._source.answers()


def test_a_reward_is_built_only_for_an_objective_that_has_one() -> None:
    trap = Trap(load_source("embedded", "train", 4))
    for objective in PRESETS.values():
        if objective.needs_reward:
            with pytest.raises(AssertionError, match="answers were opened"):
                reward_for(objective, trap)
        else:
            assert reward_for(objective, trap) is None


def test_no_answer_is_opened_before_the_last_update(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every source is watched while training runs, also that of the evaluation."""
    from sharpen.llm.preflight import checks as preflight
    from sharpen.llm.training import final_evaluation
    from sharpen.llm.training.trainer import Trainer

    steps_done: list[int] = []
    opened_after: list[int] = []
    real_step, real_load = Trainer.step, preflight.load_source

    def step(self: Trainer) -> Any:
        steps_done.append(self.step_index)
        return real_step(self)

    def load(*arguments: Any) -> DataSource:
        return Witness(real_load(*arguments), lambda: opened_after.append(len(steps_done)))

    monkeypatch.setattr(Trainer, "step", step)
    for module in (preflight, final_evaluation):  # all that open data in a run's process
        monkeypatch.setattr(module, "load_source", load)
    honest = write_problems(tmp_path / "honest.jsonl", lambda a, b, c: a + b + c)
    weights_after(honest, honest, tmp_path / "run", "sharpening", "transformers")
    assert steps_done == [0, 1, 2]
    assert opened_after
    assert set(opened_after) == {3}


def test_a_prompt_has_no_room_for_an_answer() -> None:
    assert {field.name for field in dataclasses.fields(Prompt)} == {"id", "text"}
