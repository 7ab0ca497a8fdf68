"""reasoning-gym behind the door of tasks: ``gym:NAME`` and ``gym:category/NAME``."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Mapping, Sequence
from functools import lru_cache

from sharpen.llm.tasks.answers.form import AnswerForm
from sharpen.llm.tasks.data import AnswerKey, PromptSet, numbered
from sharpen.llm.tasks.gym.judge import JUDGE, packed
from sharpen.llm.tasks.gym.names import PREFIX, Chosen, chosen
from sharpen.llm.tasks.gym.problems import Item, examples, items, questions
from sharpen.llm.tasks.seal import refuse_if_sealed
from sharpen.llm.tasks.templates import Template
from sharpen.llm.tasks.verification.pool import VerifyPool
from sharpen.llm.tasks.verification.verify import MEMORY_LIMIT, MOST_WORKERS
from sharpen.llm.tasks.verification.worker import CRASH, TIMEOUT

TIME_LIMIT = 10.0  # seconds per answer; making its data set takes up to three of them, once per worker
FIND, COMPARE = "tag", "exact"
_WORTHLESS = {"error", TIMEOUT, CRASH}
answer_tags = Template(
    "{problem}",
    system=(
        "Solve the problem. Think step by step, and then give the final answer, and nothing else, between <answer> and "
        "</answer>. Where the problem shows the form of an answer, keep to it."
    ),
)


class Marker:
    """The scores of responses by their generators' own scorers.

    Args:
        items: The problem of each prompt id.
    """

    def __init__(self, items: Mapping[str, Item]) -> None:
        self._asked = {
            name: (item.generator, json.dumps(item.settings), packed(item.entry)) for name, item in items.items()
        }

    def __call__(
        self, prompt_ids: Sequence[str], responses: Sequence[str], finished: Sequence[bool] | None
    ) -> list[float]:
        """Return each response's score in [0, 1]; 0 where its scorer failed, took too long or too much memory.

        A response without tags has no answer; some scorers give that a hundredth.
        """
        answers = AnswerForm(FIND, COMPARE).found(responses, finished)
        tasks = [(*self._asked[name], json.dumps(one)) for name, one in zip(prompt_ids, answers, strict=True)]
        different = list(dict.fromkeys(tasks))
        with _turn:
            verdicts = dict(zip(different, _pool().run(different), strict=True))
        return [0.0 if verdicts[task] in _WORTHLESS else float(verdicts[task]) for task in tasks]


class GymSource:
    """A part of a task of reasoning-gym.

    Args:
        chosen: Its generators.
        split: ``train``, ``validation`` or ``test``.
        limit: How many problems; None for the part's default.
    """

    def __init__(self, chosen: Chosen, split: str, limit: int | None) -> None:
        self._chosen, self._split, self._limit = chosen, split, limit
        self._name = f"{PREFIX}{chosen.name}/{split}"

    def prompts(self) -> PromptSet:
        """Return the questions; the answers that were made with them have stayed in another process."""
        return numbered(self._name, questions(self._chosen.name, self._split, self._limit))

    def answers(self) -> AnswerKey:
        """Return the generators' own answers ("" where any that solves the problem is right) and their scorers."""
        refuse_if_sealed(self._name)
        made = self._numbered()
        texts = {name: str(item.entry["answer"] or "") for name, item in made.items()}
        return AnswerKey(texts, mark=Marker(made))

    def categories(self) -> dict[str, dict[str, str]]:
        """Return the generator of each problem as its subject."""
        return {name: {"subject": item.generator} for name, item in self._numbered().items()}

    def _numbered(self) -> dict[str, Item]:
        made = items(self._chosen.name, self._split, self._limit)
        prompts = numbered(self._name, [item.entry["question"] for item in made]).prompts
        return {prompt.id: item for prompt, item in zip(prompts, made, strict=True)}


class GymTask:
    """A task of reasoning-gym; see :class:`sharpen.llm.tasks.registry.Task`.

    Args:
        chosen: Its generators.
    """

    find, compare, template = FIND, COMPARE, "answer-tags"

    def __init__(self, chosen: Chosen) -> None:
        self._chosen = chosen
        self.about = f"reasoning-gym: {', '.join(chosen.generators[:3])}{', …' if len(chosen.generators) > 3 else ''}"

    def __call__(self, split: str, limit: int | None = None) -> GymSource:
        """Return a part of the task."""
        return GymSource(self._chosen, split, limit)


def task(name: str) -> GymTask:
    """Return the task that a name without its prefix stands for.

    Raises:
        InputError: it stands for none.
        MissingError: reasoning-gym is not installed.
    """
    return GymTask(chosen(name))


def template(name: str) -> Template:
    """Return a raw completion that shows how a generator's problems are answered: for models that need to see it.

    Args:
        name: Of a task of one generator, without the prefix.

    Raises:
        InputError: there is no such task, or it has no examples.
    """
    worked = tuple((question, f"<answer>{answer}</answer>") for question, answer in examples(name))
    return Template("\nQuestion: {problem}\nAnswer:", examples=worked, chat=False, stop=("</answer>",))


_turn = threading.Lock()


@lru_cache(maxsize=1)
def _pool() -> VerifyPool:
    return VerifyPool(min(MOST_WORKERS, os.cpu_count() or 1), TIME_LIMIT, MEMORY_LIMIT, JUDGE)
