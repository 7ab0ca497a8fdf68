"""Answers of files: lists of right ones, numbers, and what is no answer."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sharpen.llm.tasks.answer_check import Asked, unanswered
from sharpen.llm.tasks.sources import load_source
from sharpen.objective import InputError


def written(folder: Path, answers: list[object]) -> str:
    """Return a file of problems with these answers."""
    file = folder / "data.jsonl"
    rows = [{"id": str(number), "problem": f"problem {number}", "answer": one} for number, one in enumerate(answers)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(file)


def test_lists_hold_right_answers_and_numbers_are_texts(tmp_path: Path) -> None:
    spec = written(tmp_path, [["7"], ["1/2", "0.5"], 7, 2.5, r"so \boxed{3}", [r"\boxed{4}", 5], [], None, True])
    assert list(load_source(spec, "train").answers().values()) == [
        *("7", ("1/2", "0.5"), "7", "2.5", "3", ("4", "5"), "", "", "True")
    ]


def test_one_answer_in_a_parquet_list_is_that_answer(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    file = tmp_path / "data.parquet"
    pq.write_table(pa.table({"problem": ["a", "b"], "answer": [["7"], ["8", "9"]]}), file)
    assert list(load_source(str(file), "train").answers().values()) == ["7", ("8", "9")]


@pytest.mark.parametrize("wrong", [{"value": 7}, [["7"], {"a": 1}], [None]])
def test_what_is_no_answer_is_named_with_its_problem(tmp_path: Path, wrong: object) -> None:
    spec = written(tmp_path, ["1", wrong])
    with pytest.raises(InputError, match="column answer of problem 1"):
        load_source(spec, "train").answers()


def test_problems_without_an_answer_are_found_for_every_kind_of_answer(tmp_path: Path) -> None:
    spec = written(tmp_path, [["", "7"], [], "", "8", [" "]])
    assert unanswered([Asked(spec, "train"), Asked("antonyms", "validation", 3)]) == [["1", "2", "4"], []]
