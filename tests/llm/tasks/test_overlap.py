"""Training problems that are test problems: what counts as the same, and that training leaves it out."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sharpen.cli.main import main
from sharpen.llm.configs.train import resolve
from sharpen.llm.tasks.data import Prompt, PromptSet
from sharpen.llm.tasks.overlap import overlap, set_apart
from sharpen.llm.tasks.problem_text import normalised
from sharpen.llm.tasks.sources import load_source
from sharpen.llm.training.run import Report, train

DATA = os.environ.get("SHARPEN_DATA_DIR")


def problems(name: str, *texts: str) -> PromptSet:
    return PromptSet(name, tuple(Prompt(f"{name}{place}", text) for place, text in enumerate(texts)))


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (r"Find $\dfrac{1}{2}$.", r"find \(\frac 1 2\)", True),
        (r"$f(6)-f(2)=12$. What is $f(12)-f(2)?$", r"$f(6) - f(2) = 12.$ What is $f(12) - f(2)?$", True),
        (r"\left( x,\, y \right)", "(x, y)", True),
        ("Find x\n in \uff11\uff12", "find X in 12", True),  # full-width digits
        ("12+3=", "1+23=", False),
        ("x - 1", "x + 1", False),
        (r"\sin x", r"\cos x", False),
        ("letters of TARTAR", "letters of ELLIPSE", False),
        ("area [asy] draw((0,0)--(1,2)) [/asy]", "area [asy] draw((0,0)--(3,4)) [/asy]", False),
        (r"6 × 3", r"6 ÷ 3", False),
        (r"x \le 3", r"x \ge 3", False),
        (r"$|x-3| = 2$", "$x-3 = 2$", False),
        (r"2^{x+1}", "2^x+1", False),
        ("2(3+4)", "2*3+4", False),
        ("5!", "5", False),
        ("30% of 7", "30 of 7", False),
        ("f'(2)", "f(2)", False),
        ("3.5 + 1", "35 + 1", False),
        ("1.5", "1 5", False),
        ("5 − 3", "5 - 3", True),
        ("x ≤ ½", r"$x\leq\tfrac12$", True),
        (r"\leftarrow", r"arrow", False),  # \left is a command of its own only
    ],
)
def test_what_normalisation_undoes(one: str, other: str, same: bool) -> None:
    assert (normalised(one) == normalised(other)) == same


@given(st.text(max_size=80))
def test_normalising_twice_is_normalising_once(text: str) -> None:
    assert normalised(normalised(text)) == normalised(text)


WORDS = "one two three four five six seven eight nine ten eleven twelve"


def test_degrees_and_counts() -> None:
    train = problems("train", "What is $2+2$?", "Find x.", "find $x$", f"{WORDS} red", "alone")
    test = problems("test", "What is $2+2$?", "FIND X", f"{WORDS} blue", "something else", "one two three four")
    found = overlap(train, test)
    assert found.pairs == (
        ("train0", "test0", "identical"),
        ("train1", "test1", "same"),
        ("train3", "test2", "near"),  # 5 of its 6 runs of eight words
    )
    assert (found.identical, found.same, found.near, found.repeated, found.shared, found.removed) == (1, 2, 1, 1, 3, 3)
    assert "2 of its 5 problems are among the 5 of train, 1 more nearly" in found.line()
    left, told = set_apart(train, [test, problems("other", "ALONE")])
    assert [prompt.id for prompt in left.prompts] == ["train3"]
    assert [(one.test, one.removed) for one in told] == [("test", 3), ("other", 1)]
    assert set_apart(train, [problems("other", "nothing of it")])[0] == train
    whole, told = set_apart(train, [train])  # nothing would be left
    assert whole == train
    assert (told[0].shared, told[0].removed) == (5, 0)
    assert "5 training problems are the same as one of them, 0 of these left out" in told[0].line()


def test_training_leaves_test_problems_out_and_says_so(tmp_path: Path) -> None:
    """The two problems of the test set are in the training set too, one of them set differently."""
    rows = {"train": ["11+22+33=?", "45+16+27=?", "64+75+86=?"], "test": ["11+22+33=?", "45 + 16 + 27 = ?"]}
    rows["validation"] = ["10+20+30=?"]
    for split, texts in rows.items():
        lines = [json.dumps({"problem": text, "answer": "1"}) + "\n" for text in texts]
        (tmp_path / f"{split}.jsonl").write_text("".join(lines))
    evaluation = {"data": str(tmp_path), "problems": 1, "samples": 1}
    config = resolve({"steps": 1, "prompts_per_step": 2, "samples_per_prompt": 2, "data": str(tmp_path)})
    config = config.model_copy(update={"evaluation": config.evaluation.model_copy(update=evaluation)})
    notes: list[str] = []
    train(config.model_copy(update={"engine": "transformers"}), tmp_path / "run", report=Report(note=notes.append))
    told = json.loads((tmp_path / "run" / "overlap.json").read_text())
    assert sorted((one["same"], one["removed"]) for one in told["test_sets"]) == [(0, 0), (2, 2)]
    assert (told["problems"], told["problems_trained_on"], told["problems_removed"]) == (3, 1, 2)
    assert any("2 of its 2 problems are among the 3 of" in note for note in notes)
    samples = [json.loads(line) for line in (tmp_path / "run" / "samples.jsonl").read_text().splitlines()]
    assert samples
    assert all("64+75+86" in json.dumps(sample) for sample in samples)


def test_the_embedded_splits_share_nothing() -> None:
    train, test = (load_source("embedded", split, 2000).prompts() for split in ("train", "test"))
    found = overlap(train, test)
    assert (found.same, found.near, found.removed, found.repeated) == (0, 0, 0, 0)


def test_the_command(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    for split, text in (("train", "Find $x$ now"), ("test", "find x now")):
        (tmp_path / f"{split}.jsonl").write_text(json.dumps({"problem": text, "id": split}) + "\n")
    arguments = ["llm", "data", "--train", str(tmp_path), "--test", str(tmp_path), "--test", "embedded"]
    with pytest.raises(SystemExit) as stop:
        main([*arguments, "--json"])
    assert stop.value.code == 0
    first, second = json.loads(capsys.readouterr().out)
    assert first["pairs"] == [["train", "test", "same"]]
    assert second["pairs"] == []
    with pytest.raises(SystemExit):
        main([*arguments, "--show", "1"])
    assert "same: train and test" in capsys.readouterr().out


@pytest.mark.skipif(DATA is None, reason="SHARPEN_DATA_DIR names no folder with the real files")
def test_the_real_math_shares_five_problems() -> None:
    """Read by eye, the five are the same problem set differently; the nearer ones differ in a number or a condition."""
    assert DATA is not None
    train = load_source(f"{DATA}/math", "train").prompts()
    found = overlap(train, load_source(f"{DATA}/math/validation.jsonl", "test").prompts())
    assert (found.identical, found.same, found.removed) == (0, 5, 5)
    assert 50 < found.near < 100
    assert overlap(train, load_source(f"{DATA}/math500", "test").prompts()).same == 0
