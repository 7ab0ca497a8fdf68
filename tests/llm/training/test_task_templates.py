"""Runs of a task with a template of its own: which template, when a response ends, which prompts are left out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sharpen import llm
from sharpen.cli.llm.train import given
from sharpen.llm.configs.evaluation import EvalConfig
from sharpen.llm.configs.sampling import SampleConfig
from sharpen.llm.configs.targets import complete
from sharpen.llm.configs.train import resolve
from sharpen.llm.distributed.world import World
from sharpen.llm.evaluation.run import EvalReport, run_evaluation
from sharpen.llm.models.registry import REGISTRY, ModelSource
from sharpen.llm.preflight import checks as preflight
from sharpen.llm.sampling.sampling_run import run_sampling
from sharpen.llm.tasks.sources import template_for
from sharpen.llm.training.run import train
from sharpen.objective import InputError, MissingError

TASK = '''
from sharpen.llm.tasks import Template


def task(split, limit=None):
    """Sums whose prompts are of two lengths."""
    start = {"train": 10, "validation": 40, "test": 70}[split]
    pairs = [(f"{a}+{a}+10=?", str(2 * a + 10)) for a in range(start, start + 8)]
    return [*pairs, ("+".join(["1"] * (start + 30)) + "=?", str(start + 30))][:limit]


lines = Template("{problem}", examples=(("11+11+10=?", "\\\\boxed{32}"),), chat=False, stop=("}",))
task.template = "NAME:lines"


def other(split, limit=None):
    return task(split, limit)


other.template = Template("{problem}\\n")
'''
LINES = "11+11+10=? \\boxed{32}"


@pytest.fixture(scope="module")
def name(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A module with two tasks that can be imported from the working folder."""
    import sys

    folder = tmp_path_factory.mktemp("tasks")
    (folder / "sums_of_mine.py").write_text(TASK.replace("NAME", "sums_of_mine"))
    sys.path.append(str(folder))
    return "sums_of_mine"


def config(name: str, **changes: Any) -> Any:
    return resolve(
        {
            "data": f"{name}:task",
            "steps": 2,
            "prompts_per_step": 2,
            "samples_per_prompt": 4,
            "engine": "transformers",
            "trackers": [],
            "evaluation": {"data": f"{name}:task", "problems": 9, "samples": 2, "alpha_prompts": 2},
            **changes,
        }
    )


@pytest.fixture(scope="module")
def run(name: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "run"
    train(config(name), out)
    return out


def test_a_run_is_asked_with_its_tasks_template_and_its_responses_end_as_that_says(run: Path) -> None:
    provenance, evaluation = (json.loads((run / f"{file}.json").read_text()) for file in ("provenance", "evaluation"))
    assert provenance["template"] == evaluation["template"] == "sums_of_mine:lines"
    parts = provenance["parts"]
    assert {"template sums_of_mine:lines", "task sums_of_mine:task"} <= parts.keys()
    assert parts["task sums_of_mine:task"][0]["file"].endswith("sums_of_mine.py")
    responses = [json.loads(line)["response"] for line in (run / "samples.jsonl").read_text().splitlines()]
    assert any("}" in response for response in responses)
    assert all(response.find("}") in (-1, len(response) - 1) for response in responses)
    labels = evaluation["labels"]
    assert (labels["template_examples"], labels["template_boxed"], labels["any"]) == (1, 1, True)
    assert labels["template_shows"] == {"--data": [_id("11+11+10=?")]}
    assert labels["template_answers"] == {"--data": 1}


def _id(text: str) -> str:
    import hashlib

    return hashlib.sha256(text.encode()).hexdigest()[:16]


def long(start: int) -> str:
    return _id("+".join(["1"] * (start + 30)) + "=?")


def test_prompts_without_room_are_left_out_everywhere_and_counted(run: Path) -> None:
    evaluation, provenance = (json.loads((run / f"{file}.json").read_text()) for file in ("evaluation", "provenance"))
    starts = {"--data": 10, "--eval-data": 70, "--eval-selection-data": 40}
    assert provenance["left_out"] == {flag: [long(start)] for flag, start in starts.items()}
    assert evaluation["left_out"] == dict.fromkeys(provenance["left_out"], 1)
    assert evaluation["base"]["problems"] == 8
    overlap = json.loads((run / "overlap.json").read_text())
    assert (overlap["problems"], overlap["problems_trained_on"], overlap["problems_removed"]) == (9, 8, 0)


def test_evaluating_and_sampling_leave_out_the_same(run: Path, name: str, tmp_path: Path) -> None:
    notes: list[str] = []
    settings = EvalConfig(
        model=str(run), data=f"{name}:task", split="test", samples=2, engine="transformers", likelihoods=False
    )
    assert settings.template == "sums_of_mine:lines"
    summary, records = run_evaluation(settings, tmp_path / "eval", report=EvalReport(note=notes.append))
    assert (summary["left_out"], summary["problems"], len(records)) == (1, 8, 8)
    assert all(text.find("}") in (-1, len(text) - 1) for record in records for text in record.responses)
    assert any("1 of 9 prompts leave no room for a response within 80 tokens" in note for note in notes)
    again, same = run_evaluation(settings, tmp_path / "eval")  # finished: no tokenizer is loaded
    assert (again, same) == (summary, records)
    drawn = SampleConfig(model=str(run), data=f"{name}:task", problems=9, engine="transformers", steps=1, alpha=2.0)
    sampled = run_sampling(drawn, tmp_path / "sample")
    assert (sampled["left_out"], sampled["problems"], sampled["template_examples"]) == (1, 8, 1)
    assert run_sampling(drawn, tmp_path / "sample") == sampled
    lines = (tmp_path / "sample" / "samples.jsonl").read_text().splitlines()
    assert long(70) not in {json.loads(line)["id"] for line in lines}
    texts = [text for line in lines for text in json.loads(line)["responses"]]
    assert all(text.find("}") in (-1, len(text) - 1) for text in texts)


def test_long_prompts_may_be_refused_and_some_have_to_be_left(name: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"3 things are missing or wrong"):
        preflight.for_training(config(name, long_prompts="refuse"), World(), tmp_path / "run")
    few = {"max_length": 20, "evaluation": {"data": "embedded", "problems": 2}}
    with pytest.raises(InputError, match=r"max_length: got 20, .* 9 of 9 prompts leave no room"):
        preflight.for_training(config(name, **few), World(), tmp_path / "run")
    ready = preflight.for_training(config(name), World(), tmp_path / "run")
    assert [len(part) for part in (ready.prompts.prompts, ready.reported.prompts)] == [8, 8]
    assert len(ready.notes) == 3


def test_a_stop_string_that_a_chain_could_miss_is_refused(name: str) -> None:
    template = llm.Template("{problem}", stop=("=?",))
    asked: dict[str, Any] = {"problems": 2, "engine": "transformers", "template": template, "max_length": 40}
    with pytest.raises(
        InputError, match=r"template.stop: got '=\?', allowed: one ASCII character with the method power"
    ):
        llm.sample("embedded", **asked)
    texts = llm.sample("embedded", method="plain", **asked)["response"]
    assert len(texts) == 2


def test_which_template(run: Path, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own, other = f"{name}:task", f"{name}:other"
    assert template_for("plain", own, "boxed-cot") == "plain"
    assert template_for(None, own, "boxed-cot") == f"{name}:lines"
    assert template_for(None, other, "boxed-cot").startswith("template:")
    for data in ("math500", str(tmp_path), "org/name", "nothing", None):
        assert template_for(None, data, "boxed-cot") == "boxed-cot"
    assert complete({"model": "embedded"})["template"] == "plain"
    assert complete({"model": "embedded", "data": own})["template"] == f"{name}:lines"
    assert complete({"model": "embedded", "data": own, "template": "boxed-cot"})["template"] == "boxed-cot"
    assert complete({"model": str(run)})["template"] == f"{name}:lines"
    assert complete({"model": str(run), "data": "embedded"})["template"] == f"{name}:lines"  # what it was trained with
    monkeypatch.setitem(REGISTRY, "mine", ModelSource("mine", "org/name", "boxed-cot", default_data=own))
    assert complete({"model": "mine"})["template"] == f"{name}:lines"
    assert complete({"model": "mine", "data": "math500"})["template"] == "boxed-cot"
    assert complete({"model": str(run), "data": other})["template"].startswith("template:")


def test_a_run_carries_its_template_and_chat_options_to_its_evaluation(run: Path, name: str, tmp_path: Path) -> None:
    import shutil

    import yaml

    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    settings = yaml.safe_load((copy / "config.yaml").read_text())
    named = {"template": "boxed-cot", "chat_options": {"enable_thinking": False}}
    (copy / "config.yaml").write_text(yaml.safe_dump(settings | named))
    found = complete({"model": str(copy), "data": f"{name}:task"})
    assert {key: found[key] for key in named} == named
    assert complete({"model": str(copy), "chat_options": {}})["chat_options"] == {}


def test_one_flag_names_the_task_of_a_whole_run() -> None:
    flags: dict[str, Any] = dict.fromkeys(("task", "data", "eval_data", "chat_option", "eval_split", "long_prompts"))
    changes = given(flags | {"task": "math", "eval_split": "validation", "chat_option": ["a=1", "b.c=false"]})
    assert changes["chat_options"] == {"a": 1, "b": {"c": False}}
    found = resolve({"model": "qwen3-4b", **changes})
    assert (found.data, found.split, found.evaluation.data, found.evaluation.split) == (
        *("math", "train", "math"),
        "validation",
    )
    assert (found.evaluation.selection_data, found.evaluation.selection_split) == (None, "validation")
    for other in ("data", "eval_data"):
        with pytest.raises(InputError, match=r"^task: got 'math', allowed: none with --"):
            given(flags | {"task": "math", other: "gsm8k"})


def test_one_argument_names_the_task_from_python(name: str, tmp_path: Path) -> None:
    small = {"prompts_per_step": 2, "samples_per_prompt": 2, "engine": "transformers", "trackers": []}
    evaluation = {"problems": 2, "samples": 2, "alpha_prompts": 0}
    task = f"{name}:task"
    done = llm.train(task=task, steps=1, out=tmp_path / "run", evaluation=evaluation, **small)
    assert (done.config.data, done.config.evaluation.data, done.config.evaluation.problems) == (task, task, 2)
    assert json.loads((tmp_path / "run" / "evaluation.json").read_text())["template"] == f"{name}:lines"
    with pytest.raises(InputError, match=r"^test: got .*none with task"):
        llm.train(task=task, test=[("1+1=?", "2")])


def test_tasks_are_listed_with_a_line_each(capsys: pytest.CaptureFixture[str]) -> None:
    from sharpen.cli.main import main

    with pytest.raises(SystemExit):
        main(["llm", "tasks", "--json"])
    rows = {row["task"]: row["about"] for row in json.loads(capsys.readouterr().out)}
    assert "MATH-500" in rows["math500"]
    assert all(rows.values())


def test_a_task_of_a_package_that_is_not_installed_is_told_once_with_what_gets_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "reasoning_gym.factory", None)
    gym = "gym:never_looked_up_before"
    with pytest.raises(MissingError) as refused:
        preflight.for_training(config("none", data=gym, evaluation={"data": gym}), World(), tmp_path / "run")
    assert list(refused.value.get) == ["pip install '.[reasoning-gym]' (in a checkout of sharpen)"]
    assert template_for(None, gym, "boxed-cot") == "boxed-cot"


def test_a_list_with_another_template_is_another_task() -> None:
    from sharpen.llm.tasks.listed import hold, problems

    pairs = [("1+1=?", "2")]
    asked = [None, "plain", llm.Template("{problem}\n"), llm.Template("{problem} =")]
    names = [hold(problems(pairs, template=template)) for template in asked]
    assert len(set(names)) == len(names)
    assert [template_for(None, name, "boxed-cot") for name in names[:2]] == ["boxed-cot", "plain"]
    found = llm.evaluate("embedded", problems(pairs, template=asked[2]), samples=1, engine="transformers")
    assert (found.measures["problems"], found.measures["template_examples"]) == (1, 0)
