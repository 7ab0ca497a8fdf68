"""Training from Python."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from sharpen.llm.api.given import Problems, data_of, folder_of, objective_fields, with_names
from sharpen.llm.api.runs import Run, load_run
from sharpen.llm.common.report import Report
from sharpen.llm.configs.idle import TRAIN, named, refuse_idle
from sharpen.llm.configs.train import TrainConfig, merge, whole_task
from sharpen.llm.learners.parts.registry import LEARNERS
from sharpen.llm.rewards.registry import REWARDS
from sharpen.objective import InputError, Objective
from sharpen.objective.checked import checked
from sharpen.objective.registry import Registry


def train(
    model: str = "embedded",
    objective: str | Objective | Mapping[str, Any] = "task-reward",
    *,
    reward: str | Callable[..., Any] | Mapping[str, Any] | None = None,
    task: Problems | None = None,
    problems: Problems | int | None = None,
    test: Problems | None = None,
    learner: str | type | Mapping[str, Any] | None = None,
    steps: int | None = None,
    out: str | Path | None = None,
    force: bool = False,
    report: Report | None = None,
    **settings: Any,
) -> Run:
    """Train on the objective, evaluate base, last and best checkpoint, and return the run.

    What is not given is what ``sharpen llm train`` takes for the model. Ctrl-C saves; the same call goes on.

    Args:
        model: ``embedded``, a registered name (:func:`sharpen.llm.list_models`), a hub id or a folder.
        objective: An objective, a preset's name, or fields.
        reward: r: a name, a function or class as docs/rewards.md describes, or fields of ``RewardConfig``; None is the
            task reward. A function that stands in no module that can be imported, as a notebook's, is recorded as
            ``module:name``; another process that goes on with the run has to give it again.
        task: What is trained and measured on, each on its own part: a task's name (``sharpen.llm.list_data_sets``), or
            what :func:`sharpen.llm.problems` returned.
        problems: What is trained on: a data set's name or file, pairs (problem, answer), or texts alone, which do for
            an objective or a reward that needs no answers; or a number, the first so many of the model's own. If the
            objective has no reward term, or its reward needs none, answers are not opened before the last update.
        test: What base, last and best are measured on, with answers; None: the model's own test problems.
        learner: A name, a class, or fields of ``LearnerSettings``.
        steps: Updates.
        out: Run folder; None makes a new temporary one, which stays: ``run.folder``.
        force: Delete an earlier run in ``out`` first.
        report: Told about progress.
        settings: Other fields of :class:`sharpen.llm.TrainConfig`, groups as mappings:
            ``optimizer={"learning_rate": 1e-4}``.

    Raises:
        InputError: an argument cannot be used or would have no effect; or a model, data or the folder.
        KeyboardInterrupt: Ctrl-C.
    """
    changes: dict[str, Any] = {**with_names(settings), "model": model}
    parts = {"reward": _part(REWARDS, reward), "learner": _part(LEARNERS, learner)}
    for name, fields in parts.items():
        changes |= {name: fields} if fields is not None else {}
    if steps is not None:
        changes["steps"] = steps
    if task is not None:
        for name, other in {"problems": problems, "test": test}.items():
            if other is not None and not isinstance(other, int):
                raise InputError(name, other, "none with task, where it would have no effect")
        changes = merge(whole_task(data_of(task, "task")), changes)
    if isinstance(problems, int):
        changes["problems"] = problems
    elif problems is not None:
        changes["data"] = data_of(problems, "problems")
    if test is not None:
        own = changes.get("evaluation", {})
        if not isinstance(own, dict):
            raise InputError("evaluation", own, "a mapping of settings beside test")
        changes = merge(changes, {"evaluation": {"data": data_of(test, "test")}})
    given = named(changes)
    config = checked(TrainConfig, {**changes, "objective": objective_fields(objective)})
    refuse_idle(config, given, TRAIN)
    folder = folder_of(out)
    from sharpen.llm.training.run import train as run_training  # imports torch

    run_training(config, folder, force=force, report=report)
    return load_run(folder)


def _part(registry: Registry[Any], given: Any) -> dict[str, Any] | None:
    """Return the settings that name a part: its fields as they are, or its kind."""
    if given is None:
        return None
    if isinstance(given, Mapping):
        fields = dict(given)
        return fields | ({"kind": registry.name_of(fields["kind"], registry.kind)} if "kind" in fields else {})
    return {"kind": registry.name_of(given, registry.kind)}
