"""Scores between 0 and 1: in records, pass@k and maj@k with a threshold, comparisons, and the majority reward."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sharpen.llm.evaluation.records import Record, append, judged, read
from sharpen.llm.evaluation.summary import compare, summarise
from sharpen.llm.rewards.firewall import Scoring, reward_for
from sharpen.llm.tasks.listed import hold, problems
from sharpen.llm.tasks.sources import load_source
from sharpen.objective import PRESETS, InputError


def record(name: str, scores: list[float], votes: list[str | None], threshold: float = 1.0) -> Record:
    """Return a record of samples with these scores and votes."""
    count = len(scores)
    columns = judged(scores, threshold)
    return Record(name, None, None, ["text"] * count, votes, lengths=[3] * count, finished=[True] * count, **columns)


SCORES = st.lists(st.sampled_from([0.0, 0.2, 0.5, 0.9, 1.0]), min_size=4, max_size=4)


@settings(max_examples=40, deadline=None)
@given(rows=st.lists(SCORES, min_size=1, max_size=4), threshold=st.sampled_from([0.2, 0.5, 1.0]))
def test_pass_and_maj_at_k_against_enumeration(rows: list[list[float]], threshold: float) -> None:
    # Each score is an answer of its own, as graded answers are; the vote goes to the commonest, ties shared.
    records = [record(str(i), row, [f"{score}" for score in row], threshold) for i, row in enumerate(rows)]
    summary = summarise(records, 0, threshold=threshold)
    for k in (1, 2, 4):
        passed, voted = [], []
        for row in rows:
            subsets = list(itertools.combinations(row, k))
            passed.append(np.mean([max(chosen) >= threshold for chosen in subsets]))
            winners = []
            for chosen in subsets:
                most = max(chosen.count(score) for score in chosen)
                top = {score for score in chosen if chosen.count(score) == most}
                winners.append(np.mean([score >= threshold for score in top]))
            voted.append(np.mean(winners))
        assert summary[f"pass@{k}"] == pytest.approx(np.mean(passed))
        assert summary[f"maj@{k}"] == pytest.approx(np.mean(voted))
    graded = any(score not in (0.0, 1.0) for row in rows for score in row)
    assert ("score" in summary) == graded
    assert ("threshold" in summary) == (graded or threshold != 1.0)
    if graded:
        assert summary["score"] == pytest.approx(np.mean(rows))
        assert len(summary["score_interval"]) == 2


def test_an_evaluation_of_right_and_wrong_says_nothing_of_scores() -> None:
    summary = summarise([record("a", [1.0, 0.0], ["1", "2"])], 0)
    assert not {"score", "threshold"} & summary.keys()


def test_records_of_an_earlier_version_load_and_scores_come_back(tmp_path: Path) -> None:
    file = tmp_path / "records.jsonl"
    append(file, [record("a", [0.5, 1.0], ["1", "2"]), record("b", [0.0, 1.0], ["1", "2"])])
    assert [one.marks for one in read(file)] == [[0.5, 1.0], [0.0, 1.0]]
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    for row in rows:
        del row["scores"]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    assert [one.marks for one in read(file)] == [[0.0, 1.0], [0.0, 1.0]]
    file.write_text(
        json.dumps({name: one for name, one in rows[0].items() if name != "correct"}) + "\n", encoding="utf-8"
    )
    with pytest.raises(InputError, match="records"):
        read(file)


def test_two_evaluations_are_compared_by_score_where_one_of_them_grades() -> None:
    ours, theirs = [record("a", [0.5, 0.25], ["1", "2"])], [record("a", [1.0, 0.0], ["1", "2"])]
    found = compare(ours, theirs, 0)["measures"]["score"]
    assert (found["ours"], found["theirs"]) == (0.375, 0.5)
    assert "score" not in compare(theirs, theirs, 0)["measures"]


def test_the_task_reward_is_the_score_and_the_majority_follows_the_form() -> None:
    task = problems([("opposite of up?", ["down", "below"])], find="first-line", compare="words")
    source = load_source(hold(task), "train")
    ids = [prompt.id for prompt in source.prompts().prompts] * 4
    responses = ["Down.", " the DOWN\nQuestion", "left", ""]
    for kind, expected in (("task", [1, 1, 0, 0]), ("inverted", [0, 0, 1, 1]), ("majority", [1, 1, 0, 0])):
        reward = reward_for(PRESETS["task-reward"], source, kind=kind)
        assert reward is not None
        assert reward(ids, responses, Scoring(groups=[0] * 4)) == expected


def test_graded_scores_are_what_is_rewarded() -> None:
    task = problems([("say aaa", "aaa")], score=lambda response, right: min(1.0, response.count("a") / 3))
    source = load_source(hold(task), "train")
    (name,) = [prompt.id for prompt in source.prompts().prompts]
    reward = reward_for(PRESETS["task-reward"], source, kind="task")
    assert reward is not None
    assert reward([name] * 3, ["a", "aa!", "aaaa"]) == pytest.approx([1 / 3, 2 / 3, 1.0])
