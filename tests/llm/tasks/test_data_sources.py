"""Problems and answers from generated, local and real files."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Collection
from pathlib import Path

import pytest

from sharpen.llm.models import hub
from sharpen.llm.tasks import sources
from sharpen.llm.tasks.data import Prompt, PromptSet
from sharpen.llm.tasks.readers import Row
from sharpen.llm.tasks.sources import load_source
from sharpen.llm.tasks.verification.verify import verify
from sharpen.objective import InputError

ROWS = [{"question": "1+1?", "answer": "She adds them.\n#### 2", "id": 7}, {"question": "2+2?", "answer": "4"}]


def test_file_formats_agree(tmp_path: Path) -> None:
    import pandas

    (tmp_path / "a.jsonl").write_text("\n".join(json.dumps(row) for row in ROWS) + "\n")
    (tmp_path / "b.json").write_text(json.dumps(ROWS))
    table = pandas.DataFrame(ROWS).astype({"id": "Int64"})
    table.to_csv(tmp_path / "c.csv", index=False)
    table.to_parquet(tmp_path / "d.parquet")
    for name in ("a.jsonl", "b.json", "c.csv", "d.parquet"):
        source = load_source(str(tmp_path / name), "train")
        prompts, answers = source.prompts(), source.answers()
        assert [prompt.text for prompt in prompts.prompts] == ["1+1?", "2+2?"]
        assert [answers[prompt.id] for prompt in prompts.prompts] == ["2", "4"]
        assert len(answers) == 2
    assert load_source(str(tmp_path / "a.jsonl"), "train", 1).prompts().prompts == (Prompt("7", "1+1?"),)


def test_a_solution_column_gives_its_boxed_answer_and_repeated_rows_stay_apart(tmp_path: Path) -> None:
    row = {"problem": "Half?", "solution": r"It is \boxed{\frac{1}{2}}, as said."}
    (tmp_path / "x.jsonl").write_text((json.dumps(row) + "\n") * 3)
    source = load_source(str(tmp_path / "x.jsonl"), "train")
    assert len({prompt.id for prompt in source.prompts().prompts}) == 3
    assert set(source.answers().values()) == {r"\frac{1}{2}"}


def test_line_separators_inside_strings_are_no_line_ends(tmp_path: Path) -> None:
    text = "one\u2028two"
    (tmp_path / "x.jsonl").write_text(json.dumps({"problem": text, "answer": "1"}, ensure_ascii=False) + "\n")
    assert load_source(str(tmp_path / "x.jsonl"), "train").prompts().prompts[0].text == text


def test_a_folder_has_a_file_for_each_split(tmp_path: Path) -> None:
    for split in ("train", "test"):
        (tmp_path / f"{split}.jsonl").write_text(json.dumps({"problem": split, "answer": "1"}))
    (tmp_path / "notes.txt").write_text("no data")
    for split, expected in (("train", "train"), ("test", "test"), ("validation", "test")):
        assert load_source(str(tmp_path), split).prompts().prompts[0].text == expected
    with pytest.raises(InputError, match=r"found: test\.jsonl, train\.jsonl"):
        load_source(str(tmp_path), "extra")


def test_a_lone_file_serves_every_split_unless_it_is_named_as_another(tmp_path: Path) -> None:
    file = tmp_path / "MATH500.json"
    file.write_text(json.dumps(ROWS))
    for split in ("train", "test"):
        assert len(load_source(str(tmp_path), split).prompts().prompts) == 2
    file.rename(tmp_path / "train.json")
    with pytest.raises(InputError, match="a file for the split 'test'"):  # else training problems would be the test
        load_source(str(tmp_path), "test")


def test_tables_keep_answers_as_they_are_written(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text('problem,answer,level\n"a, b",007,1\nc,NA,2\n')
    assert list(load_source(str(tmp_path / "x.csv"), "train").answers().values()) == ["007", "NA"]


def test_ids_that_look_like_renamed_ones_stay_apart(tmp_path: Path) -> None:
    names = ["a#2", "a", "a", "a#3", "a"]
    (tmp_path / "x.json").write_text(json.dumps([{"id": name, "problem": "p", "answer": "1"} for name in names]))
    source = load_source(str(tmp_path / "x.json"), "train")
    assert len({prompt.id for prompt in source.prompts().prompts}) == len(source.answers()) == 5


@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".csv", ".parquet"])
def test_reading_prompts_keeps_no_answer(tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import pandas

    file = tmp_path / f"x{suffix}"
    rows = [{"problem": "p", "answer": "SECRET", "solution": "SECRET", "level": "1"}]
    table = pandas.DataFrame(rows)
    if suffix == ".csv":
        table.to_csv(file, index=False)
    elif suffix == ".parquet":
        table.to_parquet(file)
    else:
        file.write_text(json.dumps(rows if suffix == ".json" else rows[0]))
    kept: list[Row] = []
    real = sources.read_file

    def watched(path: Path, columns: Collection[str]) -> list[Row]:
        rows = real(path, columns)
        kept.extend(rows)
        return rows

    monkeypatch.setattr(sources, "read_file", watched)
    source = load_source(str(file), "train")
    source.prompts()
    assert kept == [{"problem": "p"}]
    assert list(source.answers().values()) == ["SECRET"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.jsonl", '{"problem": "a"}\n{"problem": \n', r"x\.jsonl:2"),
        ("x.jsonl", "[1, 2]\n", r"x\.jsonl:1.*one JSON object"),
        ("x.jsonl", '{"title": "a"}\n', "a text column .* in row 1"),
        ("x.jsonl", "", "at least one problem"),
        ("x.json", '{"problem": "a"}', "a JSON list"),
        ("x.json", "{", r"x\.json.*JSON \("),
        ("x.json", '[{"problem": "a"},\n{"problem": ]', r"x\.json:2.*JSON \("),
        ("x.jsonl", '{"problem": ["a"]}', "a text column"),
        ("x.csv", "", "at least one problem"),
        ("x.csv", 'problem\n"open', "readable .csv"),
        ("x.csv", "title\na", "a text column .* in row 1"),
        ("x.parquet", "nonsense", "readable .parquet"),
        ("x.txt", "a", "a file ending in"),
    ],
)
def test_unusable_files_are_named(tmp_path: Path, name: str, content: str, message: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(InputError, match=message):
        load_source(str(tmp_path / name), "train").prompts()


def test_missing_answers_matter_only_when_they_are_asked_for(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_text('{"problem": "a"}\n')
    source = load_source(str(tmp_path / "x.jsonl"), "train")
    assert len(source.prompts().prompts) == 1
    with pytest.raises(InputError, match="a data set with answers"):
        source.answers()


@pytest.mark.parametrize("spec", ["maths", "/nowhere/file.jsonl", "a/b/c", ""])
def test_unknown_specs(spec: str) -> None:
    with pytest.raises(InputError, match=r"^data: got"):
        load_source(spec, "train")


@pytest.mark.parametrize("limit", [0, -1, 20_001])
def test_limits_out_of_range(limit: int) -> None:
    with pytest.raises(InputError, match=r"^problems: got"):
        load_source("embedded", "test", limit)


@pytest.mark.parametrize(
    ("spec", "split", "allowed"),
    [
        ("embedded", "dev", "train, validation, test"),
        ("minerva", "train", "validation, test"),
        ("aime25", "train", "validation, test"),
        ("deepscaler", "test", "train"),
        ("math", "extra", "train, validation, test"),
    ],
)
def test_unknown_splits(spec: str, split: str, allowed: str) -> None:
    with pytest.raises(InputError, match=f"^split: got '{split}', allowed: {allowed}"):
        load_source(spec, split)


def test_the_hub_out_of_reach_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    def refuse(*arguments: object) -> None:
        raise ConnectionError("no route\nand much more")

    monkeypatch.setattr(hub, "answers", lambda address: True)
    monkeypatch.setattr(datasets, "load_dataset", refuse)
    for spec in ("math", "someone/something"):
        with pytest.raises(InputError, match=r"\(no route\); without network pass a local file or folder"):
            load_source(spec, "train").prompts()


def test_a_hub_set_gives_the_split_that_stands_for_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    rows = [{"problem": "p", "solution": r"So \boxed{3}.", "year": 2024}]
    made = datasets.DatasetDict({"train": datasets.Dataset.from_list(rows)})
    monkeypatch.setattr(hub, "answers", lambda address: True)
    monkeypatch.setattr(datasets, "load_dataset", lambda *arguments: made)
    source = load_source("aime24", "validation")
    assert [prompt.text for prompt in source.prompts().prompts] == ["p"]
    assert list(source.answers().values()) == ["3"]
    with pytest.raises(InputError, match=r"^split: got 'test', allowed: train, the splits of someone/something"):
        load_source("someone/something", "test").prompts()


def test_without_network_the_hubs_libraries_are_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    asked: list[str] = []
    monkeypatch.setattr(hub, "answers", lambda address: bool(asked.append(address)))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    hub.prefer_cache.cache_clear()
    try:
        assert hub.prefer_cache()
        assert hub.prefer_cache()
        assert constants.HF_HUB_OFFLINE
        assert asked == [constants.ENDPOINT]
    finally:
        hub.prefer_cache.cache_clear()


def test_a_closed_port_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    assert not hub.answers(f"http://127.0.0.1:{port}")


def test_an_empty_set_is_refused() -> None:
    with pytest.raises(InputError, match="at least one problem"):
        PromptSet("nothing", ())


def real_folder() -> Path:
    folder = os.environ.get("SHARPEN_DATA_DIR")
    if not folder:
        pytest.skip("SHARPEN_DATA_DIR is not set: no folder with MATH, GSM8K and the other real files")
    return Path(folder)


REAL = [
    ("math", "train", 7500),
    ("math", "validation", 5000),
    ("math500", "test", 500),
    ("gsm8k", "test", 1319),
    ("minerva_math", "test", 272),
    ("aime24", "test", 30),
]


@pytest.mark.parametrize(("folder", "split", "rows"), REAL)
def test_real_files(folder: str, split: str, rows: int) -> None:
    source = load_source(str(real_folder() / folder), split)
    prompts, answers = source.prompts().prompts, source.answers()
    assert len(prompts) == len(answers) == rows
    assert all(prompt.text.strip() for prompt in prompts)
    assert sum(not answers[prompt.id] for prompt in prompts) <= 2  # MATH's training part has two empty answers


@pytest.mark.slow
@pytest.mark.parametrize(("folder", "split"), [("math500", "test"), ("gsm8k", "test"), ("aime24", "test")])
def test_real_gold_answers_verify_against_themselves(folder: str, split: str) -> None:
    answers = load_source(str(real_folder() / folder), split, 200).answers()
    golds = [gold for name in answers for gold in answers.every(name)]
    agreed = [verify(f"So the answer is \\boxed{{{gold}}}.", gold) for gold in golds]
    assert sum(agreed) >= 0.99 * len(agreed)
