"""Which checkpoint is the best, what that took, and what a result owes to labels."""

from __future__ import annotations

import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sharpen.llm.configs.targets import find_target
from sharpen.llm.configs.train import TrainConfig, resolve
from sharpen.llm.distributed.world import World
from sharpen.llm.evaluation import selection
from sharpen.llm.evaluation.records import Record
from sharpen.llm.models.registry import ModelSource
from sharpen.llm.preflight import checks as preflight
from sharpen.llm.tasks import overlap
from sharpen.llm.tasks.data import Prompt, PromptSet
from sharpen.llm.tasks.labels import HISTORY, history, saw_labels, shown_answers, shown_problems, worked_answers
from sharpen.llm.tasks.sources import load_source
from sharpen.llm.training.run import Report, train
from sharpen.llm.training.trainer import Trainer
from sharpen.objective import PRESETS, InputError

TINY: dict[str, Any] = {
    "steps": 2,
    "problems": 32,
    "prompts_per_step": 2,
    "samples_per_prompt": 2,
    "max_length": 32,
    "checkpoint_every": 1,
    "engine": "transformers",
    "evaluation": {"problems": 2, "samples": 2, "alpha_prompts": 0},
}


def tiny(name: str = "tempered", evaluation: dict[str, Any] | None = None, **changes: Any) -> TrainConfig:
    fields = {**TINY, "objective": PRESETS[name].to_dict(), **changes}
    return resolve({**fields, "evaluation": {**TINY["evaluation"], **(evaluation or {})}})


def problems(file: Path, count: int, *, answers: bool = True) -> str:
    rows = [{"id": str(n), "problem": f"{10 + n}+20+30=?", "answer": str(60 + n)} for n in range(count)]
    lines = (json.dumps(row if answers else {"problem": row["problem"]}) + "\n" for row in rows)
    file.write_text("".join(lines))
    return str(file)


def read(file: Path) -> Any:
    return json.loads(file.read_text())


sets = st.lists(st.integers(0, 12), min_size=1, max_size=12, unique=True)


@given(candidates=sets, reported=sets, most=st.integers(1, 12))
def test_no_problem_both_chooses_and_is_reported(candidates: list[int], reported: list[int], most: int) -> None:
    def made(numbers: list[int], before: str) -> PromptSet:
        return PromptSet("x", tuple(Prompt(f"{before}{n}", f"{before}{n} + 1") for n in numbers))

    # The same problem set in another way, by another id, is the same problem.
    found = overlap.chosen_problems(made(candidates, "what is "), made(reported, "What  is "), most)
    left = [n for n in candidates if n not in reported][:most]
    assert ([] if found is None else [prompt.id for prompt in found.prompts]) == [f"what is {n}" for n in left]


def test_a_test_set_that_stands_in_for_a_validation_set_is_divided(tmp_path: Path) -> None:
    data = problems(tmp_path / "test.jsonl", 5)
    ready = preflight.for_training(tiny(evaluation={"data": data}), World(), tmp_path / "run")
    assert [prompt.id for prompt in ready.reported.prompts] == ["0", "1"]
    assert ready.selection is not None
    assert [prompt.id for prompt in ready.selection.prompts] == ["2", "3"]


@given(values=st.lists(st.sampled_from([0.0, 0.25, 0.5]), min_size=2, max_size=6))
def test_the_earliest_of_the_best_is_taken_and_the_base_is_a_candidate(values: list[float]) -> None:
    rows = [{"step": 10 * place, "pass@1": value, "objective": -value} for place, value in enumerate(values)]
    assert selection.best(rows, "pass@1", True) == 10 * values.index(max(values))
    assert selection.best(rows, "objective", True) == 10 * values.index(min(values))
    for by, apart in (("last", True), ("pass@1", False), ("objective", False)):
        assert selection.best(rows, by, apart) == rows[-1]["step"]


@pytest.mark.parametrize("name", list(PRESETS))
def test_the_objectives_value_is_the_mean_of_its_formula(name: str) -> None:
    rng = np.random.default_rng(0)
    config = tiny(name)
    o, records, values = config.objective, [], []
    w_r = 1.0 if o.beta_inv > 0 else 0.0
    w_p = o.alpha / o.beta_inv if o.beta_inv > 0 else o.alpha
    w_h = 0.0 if o.mode == "optimization" else 1.0 / o.beta_inv if o.beta_inv > 0 else 1.0
    for problem in range(3):
        own = []
        logprob, base = rng.normal(size=(2, 4))
        correct = [bool(bit) for bit in rng.integers(0, 2, 4)]
        for r, log_pi, log_p in zip(correct, logprob, base, strict=True):
            own.append(w_r * r + w_p * log_p - w_h * log_pi)
        values.append(own)
        few: dict[str, Any] = {"responses": ["x"] * 4, "votes": [None] * 4, "lengths": [3] * 4, "finished": [True] * 4}
        lists = {"logprob": logprob.tolist(), "base_logprob": base.tolist(), "entropy": [1.0] * 4}
        records.append(Record(str(problem), None, None, correct=correct, **few, **lists))
    found = selection.objective_value(config, records, load_source("embedded", "train", 2), seed=1)
    assert found["objective"] == pytest.approx(math.fsum(x for own in values for x in own) / 12, abs=1e-12)
    low, high = found["objective_interval"]
    assert low <= found["objective"] <= high


@pytest.mark.parametrize(
    ("by", "name", "labelled"),
    [("pass@1", "tempered", True), ("objective", "tempered", False), ("objective", "task-reward", True)],
)
def test_a_run_says_how_its_best_was_chosen(by: str, name: str, labelled: bool, tmp_path: Path) -> None:
    result = train(tiny(name, {"choose_by": by}), tmp_path / "run")
    assert result["choice"]["by"] == by
    assert result["choice"]["labels"] == result["labels"]["choice"] == labelled
    assert result["choice"]["candidates"] == [0, 1, 2] == [row["step"] for row in result["selection"]]
    assert result["labels"]["training"] == (name == "task-reward")
    assert result["best"]["step"] == selection.best(result["selection"], by, True)
    assert ("objective" in result["selection"][0]) == (by == "objective")
    assert result["engine"] == read(tmp_path / "run" / "provenance.json")["engine"] == "transformers"


def test_the_choice_takes_other_random_numbers_than_the_report(tmp_path: Path) -> None:
    """Where no other problems are left nothing is chosen, and even there the samples are others."""
    data = problems(tmp_path / "data.jsonl", 2)
    result = train(tiny(evaluation={"data": data, "samples": selection.SAMPLES}), tmp_path / "run")
    choice = result["choice"]
    assert (choice["by"], choice["labels"], choice["data"], choice["problems"]) == ("last", False, None, 0)
    assert result["best"] == result["last"]
    base, chosen_on = result["base"], result["selection"][0]
    assert base["problems"] == chosen_on["problems"] == 2
    assert base["response_length"] != chosen_on["response_length"]


def test_a_run_that_only_lost_has_its_base_for_the_best(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selection, "best", lambda rows, by, apart: 0)
    result = train(tiny(), tmp_path / "run")
    assert result["best"] == {**result["base"], "step": 0}
    assert not (tmp_path / "run" / "checkpoints" / "best").exists()
    target = find_target(str(tmp_path / "run"), "best")
    assert target.location == target.base


def test_a_base_model_that_was_trained_on_labels_is_told(tmp_path: Path) -> None:
    """The firewall keeps labels from a run; what its model saw before is part of its history, and exports keep it."""
    from sharpen.llm.export.folder import export

    train(tiny("task-reward"), tmp_path / "task")
    last = tmp_path / "task" / "checkpoints" / "last"
    export(str(tmp_path / "task"), tmp_path / "exported")
    for folder in (last, tmp_path / "exported"):
        (only,) = history(str(folder))
        assert (only["regime"], only["labels"], only["reward"]) == ("task-reward", True, "task")
    notes: list[str] = []
    config = tiny(
        model=str(tmp_path / "exported"), template="plain", data="embedded", max_length=80, tokens_per_microbatch=1024,
        device="cpu", evaluation={"data": "embedded"},
    )  # fmt: skip
    result = train(config, tmp_path / "after", report=Report(note=notes.append))
    assert any("was itself trained on labels (task-reward)" in note for note in notes)
    told = read(tmp_path / "after" / "provenance.json")["labels"]
    assert (told["training"], told["base_saw_labels"]) == (False, True)
    assert result["labels"]["any"]
    grown = history(str(tmp_path / "after" / "checkpoints" / "last"))
    assert [one["regime"] for one in grown] == ["task-reward", "tempered"]
    assert HISTORY in read(tmp_path / "after" / "checkpoints" / "last" / "config.json")
    assert history(find_target("embedded").location) == []
    assert not saw_labels([])


def test_a_template_that_shows_answers_of_the_data_is_told(tmp_path: Path) -> None:
    data = problems(tmp_path / "data.jsonl", 6)
    template = tmp_path / "shots.txt"
    template.write_text("11+20+30=?\n\\boxed{61}\n\n12+20+30=?\n\\boxed{99}\n\n{problem}\n")
    source = load_source(data, "train")
    shown = shown_problems(str(template), source.prompts())
    assert shown == ["1", "2"]
    assert worked_answers(str(template), source.prompts()) == {"template_boxed": 2, "template_examples": 0}
    assert worked_answers("boxed-cot", source.prompts()) == {"template_boxed": 0, "template_examples": 0}
    assert shown_answers(str(template), shown, source) == 1  # 99 is not the answer to the second
    assert shown_problems("boxed-cot", source.prompts()) == []

    notes: list[str] = []
    config = tiny(data=data, template=str(template), evaluation={"data": "embedded"}, max_length=80)
    result = train(config, tmp_path / "run", report=Report(note=notes.append))
    assert any("shows 2 problems of the data" in note for note in notes)
    assert result["labels"]["template_answers"] == {"--data": 1}
    assert result["labels"]["any"]


def test_answers_beside_examples_are_not_opened_where_no_problem_is_shown() -> None:
    class Trap:
        def answers(self) -> Any:
            raise AssertionError("answers were opened")

    assert shown_answers("boxed-cot", [], Trap()) == 0  # type: ignore[arg-type]


def test_a_finished_training_whose_evaluation_failed_can_be_asked_other_problems(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sharpen.llm.training import final_evaluation

    real = final_evaluation._measure

    def fail(*arguments: Any) -> Any:
        raise RuntimeError("the disk with the test problems is gone")

    monkeypatch.setattr(final_evaluation, "_measure", fail)
    out = tmp_path / "run"
    first, second = (problems(tmp_path / f"{name}.jsonl", 6) for name in ("first", "second"))
    with pytest.raises(RuntimeError, match="is gone"):
        train(tiny(evaluation={"data": first}), out)
    assert (out / "checkpoints" / "step_000002").is_dir()
    monkeypatch.setattr(final_evaluation, "_measure", real)
    monkeypatch.setattr(Trainer, "step", fail)  # nothing is trained again
    with pytest.raises(InputError, match="steps: 2 -> 3"):
        train(tiny(evaluation={"data": first}, steps=3), out)
    result = train(tiny(evaluation={"data": second}), out)
    assert result["choice"]["data"] == second
    assert train(tiny(evaluation={"data": second}), out) == result
    with pytest.raises(InputError, match=r"`sharpen llm eval --model .*`, which asks a finished run other problems"):
        train(tiny(evaluation={"data": first}), out)


@pytest.mark.parametrize("where", ["prepare", "step"])
def test_a_start_that_failed_leaves_nothing(where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from sharpen.llm.training import run

    def fail(*arguments: Any, **settings: Any) -> Any:
        raise InputError("engine", "auto", "transformers: vLLM does not start")

    monkeypatch.setattr(*((run, "prepare", fail) if where == "prepare" else (Trainer, "step", fail)))
    with pytest.raises(InputError, match="does not start"):
        train(tiny(), tmp_path / "a" / "run")
    assert list(tmp_path.iterdir()) == []
    mine = tmp_path / "mine"
    mine.mkdir()
    with pytest.raises(InputError, match="does not start"):
        train(tiny(), mine)
    assert list(mine.iterdir()) == []  # the user's empty folder stays, empty


def test_a_run_that_has_begun_stays_when_it_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Trainer.step

    def fail_later(self: Trainer) -> Any:
        if self.step_index == 1:
            raise RuntimeError("later")
        return real(self)

    monkeypatch.setattr(Trainer, "step", fail_later)
    with pytest.raises(RuntimeError, match="later"):
        train(tiny(), tmp_path / "run")
    assert (tmp_path / "run" / "checkpoints" / "step_000001").is_dir()
    monkeypatch.setattr(Trainer, "step", real)
    assert train(tiny(), tmp_path / "run")["last"]["step"] == 2


@pytest.mark.parametrize(
    ("two", "loaded"), [(True, ["base", "step_1", "step_2", "step_1"]), (False, ["base", "step_1", "step_2", "base"])]
)
def test_a_model_is_loaded_again_only_where_memory_would_hold_one_more(
    two: bool, loaded: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two: as many as measuring log pi against log p needs. Each is what was asked for, in eval mode."""
    from sharpen.llm.training import final_evaluation

    opened: list[str] = []

    def load(source: ModelSource, *_: Any) -> torch.nn.Module:
        opened.append(source.name)
        model = torch.nn.Dropout()
        object.__setattr__(model, "name", source.name)
        return model

    monkeypatch.setattr(final_evaluation, "load_model", load)
    setup: Any = SimpleNamespace(source=ModelSource("base", "base"), device="cpu", compute=torch.float32)
    models: Any = final_evaluation.Models(setup, two=two)
    first, second = tmp_path / "step_1", tmp_path / "step_2"
    for path in (None, first, first, second, second, None, first if two else None):
        model = models.of(path)
        assert model.name == ("base" if path is None else path.name)
        assert not model.training
        assert len(models._held) <= 1 + two
    assert opened == loaded
