"""What ``--help`` says: paragraphs that the terminal wraps, whole summaries, and the defaults that runs have."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest

from sharpen.cli.main import tree
from sharpen.llm.configs.train import resolve

COMMAND: Any = tree()
MODELS = ("embedded", "smollm2", "qwen3-4b", "qwen2.5-3b")


def every(command: Any, name: str = "sharpen") -> Iterator[tuple[str, Any]]:
    """Yield a command and all below it, with their names."""
    yield name, command
    for word, below in getattr(command, "commands", {}).items():
        yield from every(below, f"{name} {word}")


def flag(name: str) -> str:
    """Return the help of an option of ``sharpen llm train``."""
    train = COMMAND.commands["llm"].commands["train"]
    (found,) = [param.help for param in train.params if name in param.opts]
    return found


@pytest.mark.parametrize(("name", "command"), [pytest.param(*one, id=one[0]) for one in every(COMMAND)])
def test_the_terminal_wraps_and_nothing_is_cut(name: str, command: Any) -> None:
    assert command.help
    assert all("\n" not in paragraph for paragraph in command.help.split("\n\n")), name
    assert name == "sharpen" or not command.get_short_help_str().endswith("...")


@pytest.mark.parametrize("model", MODELS)
def test_the_defaults_that_depend_on_the_model_are_those_of_its_runs(model: str) -> None:
    config = resolve({"model": model})
    told = {
        "--steps": config.steps,
        "--learning-rate": config.optimizer.learning_rate,
        "--prompts-per-step": config.prompts_per_step,
    }
    for option, value in told.items():
        text = flag(option)
        named = dict(re.findall(r"([a-z][\w.-]*) (\d[\d.e-]*)", text))
        rest = re.search(r"(?:else |\()(\d[\d.e-]*)", text)
        assert rest is not None
        assert float(named.get(model, rest[1])) == value, (option, model)


def test_the_defaults_that_all_models_share_are_the_paper_s() -> None:
    config = resolve({"model": "qwen2.5-3b"})
    told = {
        "--samples-per-prompt": config.samples_per_prompt,
        "--weight-decay": config.optimizer.weight_decay,
        "--importance-cap": config.importance_cap,
    }
    assert {option: float(re.findall(r"\(([\d.]+)\)", flag(option))[0]) for option in told} == told
