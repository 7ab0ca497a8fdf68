"""Simulating from Python: objectives, numbers and learners as they are at hand, and no folder unless one is named."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from numpy.typing import ArrayLike

from sharpen.objective import PRESETS, InputError, Objective, preset
from sharpen.objective.checked import checked
from sharpen.theory.core.problem import Problem
from sharpen.toy.learners.own import name_of
from sharpen.toy.learners.parts.learner import Learner
from sharpen.toy.problems.numbers import as_text, problem_texts
from sharpen.toy.problems.prompts import parse_task
from sharpen.toy.simulation import simulate as folder_of
from sharpen.toy.simulation.config import SimulateConfig
from sharpen.toy.simulation.result import Simulation, load

Objectives = str | Objective | Mapping[str, str | Objective] | Iterable[str | Objective]


def simulate(
    objective: Objectives | None = None,
    base: str | ArrayLike | Problem | None = None,
    reward: str | ArrayLike | None = None,
    length: str | ArrayLike | None = None,
    learners: str | Learner | Iterable[str | Learner] | None = None,
    steps: int | None = None,
    step_size: float | Mapping[str, float] | None = None,
    out: str | Path | None = None,
    *,
    force: bool = False,
    progress: Callable[[str, int, int], None] = lambda key, done, steps: None,
    **settings: Any,
) -> Simulation:
    """Run learners on one problem; what is left out is what ``sharpen toy simulate`` takes.

    Args:
        objective: One, several or a mapping of names to them; a preset's name stands for it.
        base: Base probabilities, shape [n], or a text in the forms of ``sharpen theory``; or a whole problem.
        reward: Task rewards, shape [n], or a text.
        length: Lengths in tokens, shape [n], or a text.
        learners: Names, or learners themselves (`sharpen.toy.SampledLearner`, `sharpen.toy.ExactLearner`).
        steps: Updates.
        step_size: eta, of every learner or by learner.
        out: Run folder, made or continued; None keeps everything in memory.
        force: Delete an earlier run in ``out`` first.
        progress: Called with a track's key, the updates done and the updates in all.
        settings: Other fields of :class:`sharpen.toy.simulation.config.SimulateConfig`: ``seeds``, ``group_size``, ...

    Raises:
        InputError: a setting or the folder cannot be used, or a run diverged.

    Example:
        >>> run = simulate("tempered", base=[0.5, 0.3, 0.2], reward=[0, 1, 0], learners="natural", steps=200)
        >>> run.policy["tempered/natural"][-1, 0].round(3)  # p^2 / Z
        array([0.658, 0.237, 0.105])
    """
    fields: dict[str, Any] = {**settings, **_problem_fields(base, reward, length)}
    if objective is not None:
        fields["objectives"] = _named(objective)
    if learners is not None:
        given = [learners] if isinstance(learners, str | Learner) else list(learners)
        fields["learners"] = [name_of(each, stored=out is not None) for each in given]
    if steps is not None:
        fields["steps"] = steps
    if isinstance(step_size, Mapping):
        fields["step_size"] = dict(step_size)
    elif step_size is not None:
        fields["step_size"] = dict.fromkeys(fields.get("learners", SimulateConfig().learners), step_size)
    config = checked(SimulateConfig, fields)
    if out is None:
        return Simulation(config, *folder_of.compute(config, None, progress))
    folder_of.simulate(config, Path(out), force=force, progress=progress)
    return load(out)


def problem(
    base: str | ArrayLike | None = None, reward: str | ArrayLike | None = None, length: str | ArrayLike | None = None
) -> Problem:
    """Return the problem of these numbers or texts; without them the default one, whose likeliest outcome is wrong.

    Raises:
        InputError: something cannot be used.

    Example:
        >>> problem("zipf:4", [0, 0, 1, 1]).base.round(2)
        array([0.48, 0.24, 0.16, 0.12])
    """
    fields = _problem_fields(base, reward, length)
    return parse_task(*(fields.get(name) for name in ("base", "reward", "length")))


def _problem_fields(base: Any, reward: Any, length: Any) -> dict[str, Any]:
    if isinstance(base, Problem):
        for name, given in (("reward", reward), ("length", length)):
            if given is not None:
                raise InputError(name, given, "none beside a problem, which has its own")
        return dict(problem_texts(base))
    given = {"base": base, "reward": reward, "length": length}
    return {name: as_text(each, name) for name, each in given.items() if each is not None}


def _named(objective: Objectives) -> dict[str, Objective]:
    """Return objectives by name: a preset's, or the regime's."""
    if isinstance(objective, Mapping):
        return {str(name): _objective(each) for name, each in objective.items()}
    found: dict[str, Objective] = {}
    several = isinstance(objective, Iterable) and not isinstance(objective, str | Objective)
    for each in objective if several else [objective]:
        one = _objective(each)
        names = [each] if isinstance(each, str) else [name for name, known in PRESETS.items() if known == one]
        name = names[0] if names else one.regime
        if name in found:
            raise InputError("objective", name, "a mapping of names to objectives, where two have the same")
        found[name] = one
    return found


def _objective(given: object) -> Objective:
    if isinstance(given, Objective):
        return given
    if isinstance(given, str):
        return preset(given)
    raise InputError("objective", given, f"an Objective, or the name of a preset: {', '.join(PRESETS)}")
