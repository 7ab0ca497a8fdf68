"""A reward that does not declare that it needs answers, and tries to get at them anyway."""

from __future__ import annotations

import gc
import inspect
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from sharpen.llm.configs.train import resolve
from sharpen.llm.rewards import REWARDS, RewardConfig, reward, reward_for
from sharpen.llm.tasks import AnswerKey, load_source, problems
from sharpen.llm.tasks.listed import hold
from sharpen.llm.training.run import train
from sharpen.objective import PRESETS, InputError

TASK = PRESETS["task-reward"]
SECRET = 918273645  # what no problem, prompt or response of the run holds
LOOT: list[object] = []  # what the hostile reward brought home
TRIED: list[str] = []


def hostile(prompt_ids: Sequence[str], responses: Sequence[str], scoring: object) -> list[float]:
    """Look for answers among all objects and all callers' variables, and open the data by the package's door."""
    LOOT.extend(one for one in gc.get_objects() if type(one) is AnswerKey)
    for frame in inspect.stack():
        for value in list(frame.frame.f_locals.values()):
            for found in (
                value,
                *getattr(value, "__dict__", {}).values(),
                *(value if isinstance(value, tuple) else ()),
            ):
                if callable(getattr(type(found), "answers", None)):
                    _open(found, "a source on the stack")
                LOOT.extend([found] if isinstance(found, str) and str(SECRET) in found else [])
    config = next(f.frame.f_locals["config"] for f in inspect.stack() if "config" in f.frame.f_locals)
    _open(load_source(config.data, config.split), "the package's door")
    return [0.0 if index % 2 else 1.0 for index in range(len(responses))]


def _open(source: Any, how: str) -> None:
    TRIED.append(how)
    try:
        LOOT.append(source.answers())
    except InputError as error:
        place = error.__traceback__
        while place is not None:  # what was parsed before it was refused would be in these
            LOOT.extend(one for one in place.tb_frame.f_locals.values() if str(SECRET) in repr(one))
            place = place.tb_next


def test_a_reward_that_needs_no_answers_finds_none_in_a_whole_training(tmp_path: Path) -> None:
    file = tmp_path / "data.jsonl"
    rows = [{"problem": f"{n}+11=?", "answer": str(SECRET)} for n in range(20, 26)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    LOOT.clear()
    TRIED.clear()
    config = resolve(
        {
            "objective": TASK.to_dict(),
            "reward": {"kind": f"{__name__}:hostile"},
            "data": str(file),
            "steps": 1,
            "prompts_per_step": 2,
            "samples_per_prompt": 2,
            "max_length": 32,
            "evaluation": {"data": "embedded", "problems": 2, "samples": 1, "alpha_prompts": 0},
        }
    )
    result = train(config, tmp_path / "run")
    assert {"a source on the stack", "the package's door"} <= set(TRIED)
    assert LOOT == []
    assert result["labels"]["training"] is False
    kept = json.loads((tmp_path / "run" / "provenance.json").read_text())
    (part,) = kept["parts"][f"reward {__name__}:hostile"]
    assert part["file"] == __file__
    assert dict(load_source(str(file), "train").answers())  # open again, once training has ended


def test_answers_asked_for_without_saying_so_are_refused() -> None:
    with pytest.raises(InputError, match="has to declare needs_answers=True"):
        REWARDS.get(f"{__name__}:undeclared")
    found = reward_for(TASK, load_source("embedded", "train", 2), kind=f"{__name__}:declared")
    assert found is not None
    (first, *_) = load_source("embedded", "train", 2).prompts().prompts
    assert found([first.id], [str(sum(map(int, first.text[:-2].split("+"))))]) == [1.0]
    assert RewardConfig(kind=f"{__name__}:declared").needs_answers
    assert reward_for(PRESETS["sharpening"], load_source("embedded", "train", 2), kind=f"{__name__}:declared") is None


def undeclared(responses: Sequence[str], *, answers: AnswerKey) -> list[float]:
    return []


@reward(needs_answers=True)
def declared(
    prompt_ids: Sequence[str], responses: Sequence[str], scoring: object, *, answers: AnswerKey
) -> list[float]:
    return [float(answers[name] == text) for name, text in zip(prompt_ids, responses, strict=True)]


class Weighted:
    """A reward that is a class: its constructor takes the settings."""

    def __init__(self, weight: float = 2.0) -> None:
        self.weight = weight

    def __call__(self, responses: Sequence[str]) -> list[float]:
        return [self.weight * len(text) for text in responses]


def test_a_class_with_settings_and_what_it_returns() -> None:
    source = load_source("embedded", "train", 2)
    found = reward_for(TASK, source, kind=f"{__name__}:Weighted", options={"weight": 3.0})
    assert found is not None
    assert found(["a", "b"], ["x", "xx"]) == [3.0, 6.0]
    with pytest.raises(ValueError, match="options: got height, allowed: weight"):
        RewardConfig(kind=f"{__name__}:Weighted", options={"height": 1})
    for weight in (float("nan"), float("inf")):
        broken = reward_for(TASK, source, kind=f"{__name__}:Weighted", options={"weight": weight})
        assert broken is not None
        with pytest.raises(InputError, match="finite numbers"):
            broken(["a"], ["x"])


def test_a_list_of_problems_with_its_own_score_trains_by_it() -> None:
    task = problems([("1+2=?", "3"), ("3+4=?", "7")], score=lambda response, answer: 0.25 * (answer in response))
    source = load_source(hold(task), "train")
    found = reward_for(TASK, source)
    assert found is not None
    ids = [prompt.id for prompt in source.prompts().prompts]
    assert found(ids, ["it is 3", "it is 8"]) == [0.25, 0.0]
    with pytest.raises(InputError, match="pairs of a problem's text and its answer"):
        problems([("1+2=?",)])  # type: ignore[list-item]
