from __future__ import annotations

import json
import random
import re
import sys
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest

from sharpen.llm.tasks.data import AnswerKey
from sharpen.llm.tasks.gym import judge, problems, tasks
from sharpen.llm.tasks.gym.names import CATEGORIES, categories, chosen, library, without_plots
from sharpen.llm.tasks.gym.problems import Item, make, questions
from sharpen.llm.tasks.gym.tasks import GymTask, Marker, answer_tags, task
from sharpen.llm.tasks.marking import marks
from sharpen.llm.tasks.registry import TASKS
from sharpen.llm.tasks.seal import sealed
from sharpen.llm.tasks.sources import load_source
from sharpen.llm.tasks.templates import Template, read_template
from sharpen.llm.tasks.verification.verify import Verifier
from sharpen.objective import InputError, MissingError

SMALL = "gym:chain_sum?min_terms=2&max_terms=2&min_digits=1&max_digits=1"
gym = pytest.mark.usefixtures("_reasoning_gym")


@pytest.fixture(name="_reasoning_gym")
def reasoning_gym() -> None:
    pytest.importorskip("reasoning_gym", reason="the optional package reasoning-gym is not installed")


def test_without_the_package_the_command_that_gets_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "reasoning_gym.factory", None)
    with pytest.raises(MissingError, match=r"task: got 'gym:', missing: reasoning-gym is not installed"):
        load_source("gym:a_generator", "train")


@gym
def test_names() -> None:
    found = categories()
    assert set(CATEGORIES) < set(found)
    assert {"probability", "all"} <= set(found)
    assert "arc_agi" in found["cognition"]
    assert "coin_flip" not in found["all"]
    assert len(library()) >= 100
    assert chosen("chain_sum?min_terms=3&allow_negation=true").options == {"min_terms": 3, "allow_negation": True}
    assert chosen("category/logic").generators == found["logic"]
    assert isinstance(TASKS.get(SMALL), GymTask)
    assert TASKS.origin(SMALL) is None


@gym
@pytest.mark.parametrize("imported", [True, False])
def test_what_draws_is_not_imported_and_can_be(imported: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the automata cannot be imported without it, as another version may not."""
    drawing = ("matplotlib", "mpl_toolkits", "cellpylib")
    for name in [name for name in sys.modules if name.partition(".")[0] in drawing]:
        monkeypatch.delitem(sys.modules, name)
    if not imported:
        monkeypatch.setitem(sys.modules, "cellpylib", None)
    without_plots()
    assert not [name for name in sys.modules if name.partition(".")[0] in drawing[:2]]
    assert not imported or callable(sys.modules["cellpylib"].evolve2d)


@gym
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("chain_sums", r"close: chain_sum"),
        ("category/maths", r"one of algebra, algorithmic"),
        ("chain_sum?terms=3", r"the settings min_terms, .*; not terms"),
        ("chain_sum?seed=3", r"not seed"),
        ("chain_sum?min_terms", r"NAME\?setting=value"),
        ("chain_sum?min_terms=0", r"the generator takes \(.*min_terms"),
        ("chain_sum?min_terms=many", r"the generator takes"),
        ("composite", r"gym:composite"),
    ],
)
def test_names_of_nothing(name: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        task(name)


@gym
def test_parts_share_no_question_whatever_is_asked_for() -> None:
    parts = {part: make(chosen(SMALL.removeprefix("gym:")), part, 10_000) for part in problems.SEEDS}
    asked = {part: [item.entry["question"] for item in found] for part, found in parts.items()}
    every = [question for part in asked.values() for question in part]
    assert len(set(every)) == len(every) > 150  # nearly all of the 2 · 9 · 9 there are, or more
    seeds = {part: {item.settings["seed"] for item in found} for part, found in parts.items()}
    assert not seeds["train"] & seeds["validation"]
    assert not seeds["train"] & seeds["test"]
    assert not seeds["test"] & seeds["validation"]


@gym
def test_a_category_takes_one_problem_of_each_generator_in_turn() -> None:
    found = make(chosen("category/algebra"), "train", 8)
    assert [item.generator for item in found[:6]] == list(categories()["algebra"])
    assert found[6].generator == found[0].generator


def state() -> str:
    return repr((random.getstate(), np.random.get_state()))  # noqa: NPY002, the one that is whole processes' own


@gym
def test_the_same_in_every_process_which_stays_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """ransom_note follows the order of sets, pool_matrix seeds NumPy, bf prints."""
    seen = []
    before = state()
    for seed in ("1", "2"):
        monkeypatch.setenv("PYTHONHASHSEED", seed)
        questions.cache_clear()
        seen.append([questions(name, "train", 5) for name in ("ransom_note", "pool_matrix", "bf")])
    assert seen[0] == seen[1]
    assert before == state()


@gym
def test_a_process_that_asks_for_questions_is_sent_no_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    sent = []
    ours = problems.pickle.loads
    monkeypatch.setattr(problems.pickle, "loads", lambda data: sent.append(data) or ours(data))
    questions.cache_clear()
    source = load_source(SMALL, "validation", 5)
    with sealed("a training without labels"):
        prompts = source.prompts().prompts
        with pytest.raises(InputError, match="answers: got 'gym:chain_sum"):
            source.answers()
    assert len(prompts) == 5
    assert len(sent) == 1
    assert b"metadata" not in sent[0]
    assert list(source.answers()) == [prompt.id for prompt in prompts]
    assert b"metadata" in sent[1]


@gym
def test_limits_and_parts_are_checked() -> None:
    with pytest.raises(InputError, match="split: got 'dev', allowed: train, validation, test"):
        load_source(SMALL, "dev").prompts()
    with pytest.raises(InputError, match="problems: got 100001, allowed: at most 100000"):
        load_source(SMALL, "train", 100_001).prompts()


def key_of(name: str, count: int) -> tuple[AnswerKey, list[Item]]:
    found = make(chosen(name), "train", count)
    numbered = {str(number): item for number, item in enumerate(found)}
    texts = {number: str(item.entry["answer"] or "") for number, item in numbered.items()}
    return AnswerKey(texts, mark=Marker(numbered)), found


def score(key: AnswerKey, ids: list[str], answers: list[str]) -> list[float]:
    with Verifier(workers=1) as verifier:
        return marks(key, ids, [f"so <answer>{answer}</answer>" for answer in answers], None, verifier)


@gym
def test_scores_are_the_generators_own() -> None:
    """Called in this process, on answers that are safe: the library's own scorer is the oracle."""
    from reasoning_gym.factory import create_dataset

    for name in ("category/algebra", "category/games", "category/graphs", "number_sorting", "rectangle_count"):
        key, found = key_of(name, 12)
        for answer in ("gold", "7", "zzz"):
            texts = [str(item.entry["answer"] or "") if answer == "gold" else answer for item in found]
            wanted = [by_itself(create_dataset, item, text or None) for item, text in zip(found, texts, strict=True)]
            assert score(key, list(key), texts) == pytest.approx(wanted), name


def by_itself(create, item: Item, answer: str | None) -> float:
    try:
        return float(create(item.generator, **item.settings).score_answer(answer, item.entry))
    except (ValueError, TypeError):  # as some do on what they cannot read
        return 0.0


@gym
@pytest.mark.parametrize(
    ("name", "listed", "worth"),
    [
        ("binary_matrix", lambda answer: str([[int(c) for c in row.split()] for row in answer.splitlines()]), 0.1),
        ("spiral_matrix", lambda answer: str([int(c) for c in answer.split()]), 0.1),
        ("string_insertion", lambda answer: str(list(answer)), 0.1),
        ("n_queens", lambda answer: str([row.split() for row in answer.splitlines()]), 0.5),
    ],
)
def test_scorers_that_would_evaluate_read_lists_and_run_nothing(name, listed, worth, tmp_path: Path) -> None:
    key, found = key_of(name, 2)
    mark = tmp_path / "ran"
    program = f"__import__('pathlib').Path({str(mark)!r}).touch() or [[1]]"
    answers = [item.entry["answer"] for item in found]
    assert score(key, list(key), answers) == [1.0, 1.0]
    assert score(key, list(key), [listed(answer) for answer in answers]) == [worth, worth]
    assert score(key, list(key), [program, program]) == [0.0, 0.0]
    assert not mark.exists()


@gym
@pytest.mark.parametrize("name", ["countdown", "puzzle24", "simple_integration", "polynomial_multiplication"])
def test_scorers_that_would_parse_by_evaluating_do_not(name: str, tmp_path: Path) -> None:
    key, found = key_of(name, 2)
    mark = tmp_path / "ran"
    program = f"__import__('pathlib').Path({str(mark)!r}).touch()"
    assert score(key, list(key), [item.entry["answer"] for item in found]) == [1.0, 1.0]
    assert max(score(key, list(key), [program, program])) <= 0.05
    assert not mark.exists()


@gym
def test_an_answer_that_takes_too_long_is_worth_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "TIME_LIMIT", 3.0)
    monkeypatch.setattr(tasks, "_pool", lru_cache(tasks._pool.__wrapped__))
    key, _ = key_of("countdown", 1)
    assert score(key, ["0"], ["9**9**9**9**9"])[0] <= 0.05
    assert score(key, ["0"], ["1+1"])[0] <= 0.05


@gym
def test_every_generator_makes_problems_and_marks_its_own_answer() -> None:
    """All but those whose answer is any that solves the problem, and one that is slow to make."""
    open_ended = {"boxnet", "graph_color", "propositional_logic", "rubiks_cube", "rush_hour"}
    names = [name for name in library() if name not in open_ended | {"knight_swap"}]
    items = {name: make(chosen(name), "train", 1)[0] for name in names}
    answers = [f"<answer>{item.entry['answer']}</answer>" for item in items.values()]
    found = dict(zip(items, Marker(items)(list(items), answers, None), strict=True))
    assert {name: one for name, one in found.items() if one < 0.99} == {}


@gym
def test_the_judge_answers_error_where_a_scorer_fails() -> None:
    item = make(chosen("prime_factorization"), "train", 1)[0]
    row = (item.generator, json.dumps(item.settings), judge.packed(item.entry))
    assert judge.score(*row, json.dumps("zzz")) == judge.ERROR
    assert judge.score(*row, json.dumps(item.entry["answer"])) == "1.0"
    assert judge.score(*row, json.dumps(None)) == "0.0"


@gym
def test_a_template_shows_worked_examples_that_are_problems_of_no_part() -> None:
    shown = read_template(SMALL)
    assert isinstance(shown, Template)
    assert (len(shown.examples), shown.chat, shown.stop) == (4, False, ("</answer>",))
    asked = {question for part in problems.SEEDS for question in questions(SMALL.removeprefix("gym:"), part, 10_000)}
    assert len(asked) > 150
    assert not {question for question, _ in shown.examples} & asked
    for question, response in shown.examples:
        first, sign, second = re.findall(r"\d+|[+-]", question)
        assert response == f"<answer>{int(first) + int(second) if sign == '+' else int(first) - int(second)}</answer>"
    for name in ("gym:category/algebra", "gym:rush_hour"):
        with pytest.raises(InputError, match="a task of one generator whose problems have one answer each"):
            read_template(name)


def test_the_template_asks_for_tags() -> None:
    assert read_template("answer-tags") is answer_tags
    assert "<answer>" in (answer_tags.system or "")
    assert GymTask.template == "answer-tags"
