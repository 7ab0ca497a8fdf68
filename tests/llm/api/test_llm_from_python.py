"""Training, evaluating and sampling from Python: own rewards and lists go through the doors of the commands."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from sharpen import InputError, Objective, llm
from sharpen.llm.api import asking
from sharpen.llm.evaluation import records as records_file
from sharpen.llm.sampling import store
from sharpen.llm.tasks.listed import PairSource

SUMS = ["23+58+17=?", "11+12+13=?", "21+12+13=?"]
ANSWERS = [98, 36, 46]
TINY: dict[str, Any] = {"prompts_per_step": 2, "samples_per_prompt": 2, "engine": "transformers", "seed": 7}
TINY |= {"max_length": 40}  # room for 29 tokens: most responses end
TINY |= {"evaluation": {"problems": 3, "samples": 2, "alpha_prompts": 2}}
SEEN: list[str] = []


def brief(responses: Sequence[str]) -> list[float]:
    SEEN.extend(responses)
    return [float(len(text) < 12) for text in responses]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> llm.Run:
    out = tmp_path_factory.mktemp("api") / "run"
    return llm.train(reward=brief, problems=SUMS, steps=2, out=out, **TINY)


def test_an_own_reward_and_texts_without_answers(run: llm.Run) -> None:
    shown = run.samples
    assert all(any(text in prompt for text in SUMS) for prompt in shown["prompt"])
    assert set(shown["response"]) <= set(SEEN)  # the function was asked
    assert [float(len(text) < 12) for text in shown["response"]] == shown["reward"].tolist()
    assert run.settings["reward"]["kind"] == f"{__name__}:brief"
    assert run.config.reward.kind == run.settings["reward"]["kind"]
    assert run.config.data is not None
    assert run.config.data.startswith("list:")


def test_a_run_as_tables(run: llm.Run) -> None:
    assert run.finished
    lines = [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text().splitlines()]
    assert run.metrics["step"].tolist() == [0, 1]
    assert run.metrics["loss"].tolist() == [line["loss"] for line in lines]
    assert run.metrics["seconds.total"].tolist() == [line["seconds"]["total"] for line in lines]
    result = json.loads((run.folder / "evaluation.json").read_text())
    assert list(run.evaluation.index) == ["base", "last", "best"]
    assert run.evaluation.loc["last", "pass@1"] == result["last"]["pass@1"]
    assert run.evaluation.loc["base", "pass@1_low"] == result["base"]["pass@1_interval"][0]
    assert run.effective_alpha.loc["base", "slope"] == result["effective_alpha"]["base"]["slope"]


def test_the_policy_of_a_run(run: llm.Run) -> None:
    import torch

    assert 2 in run.checkpoints
    (last, tokenizer), (base, _) = run.policy(), run.policy("base")
    ids = torch.tensor([tokenizer(SUMS[0], add_special_tokens=False)["input_ids"]])
    with torch.no_grad():
        assert not torch.equal(last(ids).logits, base(ids).logits)
    with pytest.raises(InputError, match="checkpoint: got '77', allowed: base, "):
        run.policy(77)
    with pytest.raises(InputError, match="device: got 'tpu', allowed: cpu or cuda"):
        run.policy(device="tpu")


def test_a_partial_and_an_older_run_and_one_whose_reward_is_elsewhere(run: llm.Run, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(run.folder, folder, symlinks=True)
    (folder / "evaluation.json").unlink()
    settings = yaml.safe_load((folder / "config.yaml").read_text())
    settings["reward"]["kind"] = "a_module_that_is_not_here:brief"
    del settings["graph_tokens"]
    (folder / "config.yaml").write_text(yaml.safe_dump(settings))
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"step": 2, "lo')  # as a kill leaves it
    partial = llm.load_run(folder)
    assert not partial.finished
    assert len(partial.metrics) == 2
    assert partial.evaluation.empty
    assert partial.effective_alpha.empty
    assert partial.policy("2")[0].num_parameters() > 0
    with pytest.raises(InputError, match="run folder"):
        _ = partial.config
    settings["reward"]["kind"] = "format"
    (folder / "config.yaml").write_text(yaml.safe_dump(settings))
    assert llm.load_run(folder).config.graph_tokens == 0


def test_the_same_call_returns_the_finished_run_and_another_is_refused(run: llm.Run) -> None:
    asked = len(SEEN)
    again = llm.train(reward=brief, problems=SUMS, steps=2, out=run.folder, **TINY)
    assert len(SEEN) == asked
    assert again.result == run.result
    with pytest.raises(InputError, match="steps: 2 -> 3"):
        llm.train(reward=brief, problems=SUMS, steps=3, out=run.folder, **TINY)


@pytest.mark.parametrize("answers", [ANSWERS, ["", "", ""]], ids=["with answers", "without"])
def test_no_answers_are_opened_for_an_objective_without_reward(
    answers: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    answers_of: Callable[[PairSource], Any] = PairSource.answers
    monkeypatch.setattr(PairSource, "answers", lambda self: opened.append(self._name) or answers_of(self))
    pairs = list(zip(SUMS, answers, strict=True))
    run = llm.train("embedded", "tempered", problems=pairs, steps=1, out=tmp_path / "run", **TINY)
    assert opened == []
    assert set(run.metrics["reward"]) == {None}
    assert not run.result["labels"]["training"]


def test_the_task_reward_needs_answers_and_own_test_problems_are_asked(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="with answers"):
        llm.train(problems=SUMS, steps=1, out=tmp_path / "none", **TINY)
    assert not (tmp_path / "none").exists()
    pairs = list(zip(SUMS, ANSWERS, strict=True))
    run = llm.train(problems=pairs[:2], test=pairs[2:], steps=1, out=tmp_path / "run", **TINY)
    assert run.result["last"]["problems"] == 1
    told = json.loads((run.folder / "overlap.json").read_text())
    assert told["problems_trained_on"] == 2


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"objective": "taks-reward"}, "preset: got 'taks-reward', allowed: task-reward, "),
        ({"objective": 3}, "objective: got 3, allowed: an Objective, "),
        ({"steps": 0}, "steps: got 0, "),
        ({"stepz": 3}, "stepz: got 3, "),
        ({"model": "nowhere"}, "model: got 'nowhere', allowed: embedded, "),
        ({"reward": "tusk"}, "reward: got 'tusk', allowed: task, "),
        ({"reward": 3}, "reward: got 3, allowed: a reward: "),
        ({"learner": "rl"}, "learner: got 'rl', allowed: rloo, "),
        ({"problems": 0}, "problems: got 0, "),
        ({"problems": []}, "problems: got .*, allowed: a data set's name, "),
        ({"problems": [("a", "b", "c")]}, "problems: got .*, allowed: a data set's name, "),
        ({"problems": "nowhere"}, "data: got 'nowhere', allowed: embedded, "),
        ({"test": 4.5}, "test: got 4.5, allowed: a data set's name, "),
        ({"objective": Objective(alpha=2.0), "reward": "format"}, "reward.kind: got 'format', allowed: only with"),
        ({"optimizer": {"learning_rate": -1}}, "optimizer.learning_rate: got -1, "),
    ],
)
def test_a_mistake_in_an_argument_of_train(arguments: dict[str, Any], says: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=says):
        llm.train(**{"steps": 1, "out": tmp_path / "run", "engine": "transformers", **arguments})
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("function", [llm.sample, llm.evaluate])
@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"model": "nowhere"}, "model: got 'nowhere', allowed: embedded, "),
        ({"checkpoint": "best"}, "checkpoint: got 'best', allowed: none for embedded"),
        ({"samples": 0}, "samples: got 0, "),
        ({"sample": 1}, "sample: got 1, "),
        ({"problems": -1}, "problems: got -1, "),
        ({"problems": "nowhere"}, "data: got 'nowhere', allowed: embedded, "),
        ({"engine": "none"}, "engine: got 'none', "),
    ],
)
def test_a_mistake_in_an_argument_of_asking(function: Callable[..., Any], arguments: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        function(**arguments)


def test_settings_of_sample_that_do_nothing_or_do_not_exist() -> None:
    with pytest.raises(InputError, match=r"alpha: got 2.0, allowed: only with the method"):
        llm.sample(method="plain", alpha=2.0)
    with pytest.raises(InputError, match=r"method: got 'pwoer', allowed: .*power"):
        llm.sample(method="pwoer")


def test_samples_are_those_that_the_run_kept(tmp_path: Path) -> None:
    pairs = list(zip(SUMS, ANSWERS, strict=True))
    asked: dict[str, Any] = {"samples": 2, "engine": "transformers", "max_length": 48, "steps": 2}
    table = llm.sample("embedded", pairs, alpha=4.0, out=tmp_path / "s", **asked)
    kept = store.read(tmp_path / "s" / "samples.jsonl")
    assert table["response"].tolist() == [text for one in kept for text in one.responses]
    assert table["logprob"].tolist() == [value for one in kept for value in one.logprob]
    assert table["problem"].tolist() == [text for text in SUMS for _ in range(2)]
    marks = records_file.read(tmp_path / "s" / "records.jsonl")
    assert table["correct"].tolist() == [good for one in marks for good in one.correct]
    assert table.attrs["measures"]["pass@1"] == pytest.approx(table["correct"].mean())
    without = llm.sample(llm.list_models().location["embedded"], SUMS, alpha=4.0, template="plain", **asked)
    assert set(without["correct"]) == {None}  # a plain model folder, and nothing to mark by
    assert without["response"].tolist() == table["response"].tolist()


def test_an_evaluation_as_tables() -> None:
    found = llm.evaluate("embedded", list(zip(SUMS, ANSWERS, strict=True)), samples=4, engine="transformers")
    table = found.frame()
    assert len(table) == 12
    assert found.at_k()["k"].tolist() == [1, 2, 4]
    counts = [int(own["correct"].to_numpy().sum()) for _, own in table.groupby("id", sort=False)]
    at = llm.pass_at_k(counts, 4, [1, 2, 4]).mean(axis=0)
    assert found.at_k()["pass"].tolist() == pytest.approx(at.tolist())
    assert found.measures["kl_base"] == 0.0
    marks = llm.verify_many(table["response"].tolist(), [a for a in ANSWERS for _ in range(4)])
    assert [mark == 1.0 for mark in marks] == table["correct"].tolist()


def test_marking() -> None:
    assert llm.verify(r"\boxed{0.5}", "1/2") == 1.0
    assert llm.verify_many([r"\boxed{0.5}", r"\boxed{0.5}"], ["1/2", 2], finished=[True, False]) == [1.0, 0.0]
    for wrong, says in (
        (lambda: llm.verify_many(["a"], ["1", "2"]), "answers: got '2 of them', allowed: 1"),
        (lambda: llm.verify_many(["a", 3], "1"), r"responses\[1\]: got 3, allowed: a text"),  # type: ignore[list-item]
        (lambda: llm.verify_many("a", "1"), "responses: got 'a', allowed: a list"),
        (lambda: llm.verify("a", None), "answer: got None, allowed: a text or a number"),  # type: ignore[arg-type]
    ):
        with pytest.raises(InputError, match=says):
            wrong()


def test_a_folder_that_is_no_run(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("model: embedded\n")
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(InputError, match=r"run: got .*, allowed: a run folder of sharpen llm train"):
            llm.load_run(folder)


def test_an_own_sampler_given_as_an_object(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(asking.SAMPLERS, "name_of", lambda given, field: asked.append((given, field)) or "nope")
    with pytest.raises(InputError, match="method: got 'nope'"):
        llm.sample(method=brief)
    assert asked == [(brief, "method")]
