"""``sharpen llm new-task``: a task of one's own, its test and a configuration, which run as they are."""

from __future__ import annotations

import keyword
import sys
from pathlib import Path
from typing import Annotated

import typer

from sharpen.cli.shared.terminal import say

TASK = '''"""The task NAME: sums of three numbers. Write your own problems in their place.

sharpen llm train --config NAME.yaml
sharpen llm eval --task NAME:task
"""

import random

from sharpen.llm import Template

SIZES = {"train": 400, "validation": 50, "test": 50}


def task(split, limit=None):
    """Return pairs of problem and answer, the same at each call, and no problem in two splits."""
    if split not in SIZES:
        raise ValueError(f"split: got {split!r}, allowed: {', '.join(SIZES)}")
    every = random.Random(0).sample(range(30**3), sum(SIZES.values()))
    names = list(SIZES)
    start = sum(SIZES[name] for name in names[: names.index(split)])
    pairs = []
    for number in every[start : start + SIZES[split]][:limit]:
        a, b, c = 10 + number // 900, 10 + number // 30 % 30, 10 + number % 30
        pairs.append((f"{a}+{b}+{c}=?", str(a + b + c)))
    return pairs


# How the model is asked. For worked examples, a system text, or a raw completion that ends with its line:
#
# asking = Template("{problem}", system="Answer with a number.", examples=(("1+2+3=?", "6"),))
# asking = Template("{problem} =", examples=(("1+2+3", "6"),), chat=False, stop=("\\n",))
asking = Template("{problem}\\n")
task.template = "NAME:asking"

# Where the answer stands in a response (boxed, last-number, tag, first-line, whole), and when it is right (math, words,
# number, exact); a function of your own does as well. Or score the whole response:
#
# def score(response, answer):
#     return float(answer in response)  # in [0, 1]
#
# task.score = score
task.find = "boxed"
task.compare = "number"
task.about = "Sums of three numbers below 40."
'''
TEST = '''"""The task NAME: disjoint parts, the same at each call, asked as meant, and right answers score 1."""

from NAME import SIZES, asking, task
from sharpen import PRESETS
from sharpen.llm.rewards import reward_for
from sharpen.llm.tasks import load_source


def test_the_parts_are_disjoint_and_the_same_at_each_call():
    parts = {split: {problem for problem, _ in task(split)} for split in SIZES}
    assert [len(part) for part in parts.values()] == list(SIZES.values())
    assert len(set.union(*parts.values())) == sum(SIZES.values())
    assert task("train") == task("train")
    assert task("train", 3) == task("train")[:3]


def test_what_the_model_is_shown():
    assert asking.turns("1+2+3=?") == [("user", "1+2+3=?\\n")]


def test_a_right_answer_scores_1_and_a_wrong_one_0():
    source = load_source("NAME:task", "train", 2)
    answers = source.answers()
    reward = reward_for(PRESETS["task-reward"], source)
    for name, answer in answers.items():
        assert reward([name] * 2, [rf"\\\\boxed{{{answer}}}", r"\\\\boxed{-1}"]) == [1.0, 0.0]
'''
CONFIG = """# sharpen llm train --config NAME.yaml
model: embedded
data: NAME:task
steps: 100
evaluation:
  data: NAME:task
  problems: 50
"""


def register(app: typer.Typer) -> None:
    """Add the command to the llm group."""
    app.command("new-task")(new_task)


def new_task(
    name: Annotated[str, typer.Argument(help="A name that Python can import: small letters, digits, _.")],
) -> None:
    """Write NAME.py (a task), test_NAME.py and NAME.yaml here, which run as they are.

    Then: pytest test_NAME.py; sharpen llm train --config NAME.yaml.
    """
    check(name)
    contents = {f"{name}.py": TASK, f"test_{name}.py": TEST, f"{name}.yaml": CONFIG}
    from sharpen.objective import InputError

    there = [file for file in contents if Path(file).exists()]
    if there:
        raise InputError("name", name, f"a name whose files do not exist ({', '.join(there)})")
    for file, text in contents.items():
        Path(file).write_text(text.replace("NAME", name).replace("\\\\", "\\"), encoding="utf-8")
        say(f"wrote {file}")
    say(f"pytest test_{name}.py\nsharpen llm train --config {name}.yaml")


def check(name: str) -> None:
    """Refuse what is no name of a module, and names of modules that are there.

    Raises:
        InputError: it is one of them.
    """
    from importlib.util import find_spec

    from sharpen.objective import InputError

    right = name.isidentifier() and name.isascii() and name == name.lower() and len(name) <= 60
    if not right or keyword.iskeyword(name):
        raise InputError("name", name, "small letters, digits and _, not a digit first and no word of Python")
    here = Path(f"{name}.py").exists()
    if not here and (name in sys.builtin_module_names or name == "sharpen" or find_spec(name) is not None):
        raise InputError("name", name, "a name that no installed module has")
