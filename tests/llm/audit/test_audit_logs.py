"""Per-sample logs as lm-eval 0.4.13 writes them: what is read of them, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sharpen.llm.audit.logs import is_log, read_logs
from sharpen.objective import InputError


def row(doc: int, answer: Any, score: Any, **changes: Any) -> dict[str, Any]:
    """Return a row as ``EvaluationTracker.save_results_samples`` writes one of a generated answer."""
    return {
        "doc_id": doc,
        "doc": {"question": f"{doc} + 1?", "answer": f"so {doc + 1} #### {doc + 1}"},
        "target": f"so {doc + 1} #### {doc + 1}",
        "arguments": {"gen_args_0": {"arg_0": f"Q: {doc} + 1?\nA:", "arg_1": {"until": ["Q:"]}}},
        "resps": [[f"The answer is {answer}."]],
        "filtered_resps": [answer],
        "filter": "strict-match",
        "metrics": ["exact_match"],
        "doc_hash": f"hash{doc}",
        "prompt_hash": "p",
        "target_hash": "t",
        "exact_match": score,
    } | changes


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(one) + "\n" for one in rows))
    return path


def test_runs_with_several_seeds_are_samples_of_the_same_documents(tmp_path: Path) -> None:
    for seed, answers in enumerate((["1", "2"], ["1", "7"], ["[invalid]", "2"])):
        rows = [row(doc, answer, float(answer == str(doc + 1))) for doc, answer in enumerate(answers)]
        write(tmp_path / f"samples_gsm8k_2026-01-0{seed + 1}.jsonl", rows)
    (tmp_path / "results_2026.json").write_text("{}")
    assert is_log(tmp_path)
    first, second = read_logs(tmp_path)
    assert (first.id, first.right) == ("hash0", [True, True, False])
    assert first.answers == ["right: 1", "right: 1", None]
    assert second.right == [True, False, True]
    assert second.answers == ["right: 2", "wrong: 7", "right: 2"]


def test_a_metric_that_is_a_list_scores_each_response(tmp_path: Path) -> None:
    given = row(0, ["1", "3", "1"], [1.0, 0.0, 1.0])
    (found,) = read_logs(write(tmp_path / "samples_a.jsonl", [given]))
    assert found.right == [True, False, True]
    assert found.answers == ["right: 1", "wrong: 3", "right: 1"]


def test_the_choices_of_one_question_are_one_sample(tmp_path: Path) -> None:
    choices = {
        "resps": [[["-1.5", "True"]], [["-3.0", "False"]]],
        "filtered_resps": [["-1.5", "True"], ["-3.0", "False"]],
    }
    scores = {"metrics": ["acc", "acc_norm"], "acc": 1.0, "acc_norm": 0.0, "filter": "none"}
    given = row(0, "", 0.0, **choices, **scores)
    (found,) = read_logs(write(tmp_path / "samples_arc.jsonl", [given]))
    assert (found.right, found.answers) == ([True], None)
    (found,) = read_logs(tmp_path / "samples_arc.jsonl", metric="acc_norm")
    assert found.right == [False]


def test_one_filter_of_several_is_chosen(tmp_path: Path) -> None:
    rows = [row(0, "1", 1.0), row(0, "9", 0.0, filter="flexible-extract")]
    log = write(tmp_path / "log.jsonl", rows)
    with pytest.raises(InputError, match=r"filter: .*flexible-extract, strict-match"):
        read_logs(log)
    assert read_logs(log, chosen="flexible-extract")[0].right == [False]
    with pytest.raises(InputError, match="filter"):
        read_logs(log, chosen="loose")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "it has none"),
        ("[1]\n", "doc_id"),
        ("{}\n", "doc_id"),
        ('{"doc_id": \n', "JSON"),
        (json.dumps(row(0, ["1", "2"], 1.0)), "one score of 2 responses"),
        (json.dumps(row(0, "1", "yes")), "a number"),
        (json.dumps(row(0, "1", 1.0, metrics=["bleu", "rouge"], bleu=0.1, rouge=0.2)), "bleu, rouge"),
    ],
)
def test_what_is_no_such_log_is_refused_in_one_line(text: str, said: str, tmp_path: Path) -> None:
    log = tmp_path / "x.jsonl"
    log.write_text(text)
    with pytest.raises(InputError) as error:
        read_logs(log)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_a_metric_that_is_not_there_is_refused(tmp_path: Path) -> None:
    log = write(tmp_path / "log.jsonl", [row(0, "1", 1.0)])
    with pytest.raises(InputError, match=r"metric: .*exact_match"):
        read_logs(log, metric="acc")
    with pytest.raises(InputError, match="log"):
        read_logs(tmp_path / "missing.jsonl")
