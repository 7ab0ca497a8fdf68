"""The declared sets of experiments, validated: ``grid.yaml`` and the grids of :data:`OWN_GRIDS`."""

from __future__ import annotations

import fnmatch
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationError, model_validator

from sharpen.objective import InputError, Objective
from sharpen.objective.errors import shorten
from sharpen.objective.settings import Name, Seed, Settings, Text
from sharpen.objective.storage.reading import read_yaml
from sharpen.paper_repro.grids.registration import RegisteredTask, Registration
from sharpen.paper_repro.grids.rules import Rules, rules_hash

SCALES = ("embedded", "dial", "delta", "real", "paper")
Scale = Literal["embedded", "dial", "delta", "real", "paper"]
OWN_GRIDS = {"dial": "dial.yaml", "delta": "delta.yaml", "real": "real.yaml"}  # the other scales share grid.yaml
Kind = Literal["train", "sample", "theory", "toy"]


KEPT = ("calibrate", "greedy", "keep", "cross")  # measures that a result has where it is asked for them


class Asked(Settings):
    """One set of problems on which a policy is measured after training.

    Args:
        data: Data spec, as ``sharpen llm eval --data``.
        split: Its part.
        problems: The first so many; None for all.
        samples: Responses a problem.
        calibrate: Keep also how likelihood and score go together, and what p^alpha is forecast to reach.
        greedy: Ask each problem once more without sampling.
        keep: Of so many samples of each problem keep the numbers one by one.
        cross: ``train``: so many samples of the base model on each problem are scored by the policy too.
    """

    data: Text
    split: Name = "test"
    problems: int | None = Field(default=None, ge=1)
    samples: int = Field(default=16, ge=2)
    calibrate: bool = False
    greedy: bool = False
    keep: int = Field(default=0, ge=0)
    cross: int = Field(default=0, ge=0)

    def plain(self) -> dict[str, Any]:
        """Return the fields in JSON types; what is kept besides only where it is set: older runs keep their name."""
        return self.model_dump(mode="json", exclude={name for name in KEPT if not getattr(self, name)})


class Experiment(Settings):
    """Runs that differ in objective (or method) and seed only, and what they are for.

    Args:
        id: Unique.
        prefix: Before the names of its arms, where another experiment has the same objectives.
        tasks: Names of registered tasks: the experiment is done on each, whose data and template take the place of its
            own.
        kind: ``train`` a language model, ``sample`` one without training, or compute in ``theory`` or ``toy``.
        scales: Where it belongs.
        claims: Ids of the claims that it tests, from the grid's own list.
        title: What is done, in one line.
        settings: ``train``: changes to the model's settings; ``sample``: likewise; ``theory`` and ``toy``: arguments.
        objectives: ``train``: the objectives, each with every seed.
        methods: ``sample``: the methods by name, with their settings.
        recipes: ``train``: patterns over the names of ``sharpen llm recipes``, instead of objectives.
        compute: ``theory`` and ``toy``: which computation.
        evaluate: ``train`` and ``sample``: what the policies are asked.
        seeds: Each arm is run once with each.
        processes: ``train``: GPUs of one run.
        seconds: ``theory`` and ``toy``: what a run took where the grid was written, until a result says better.
    """

    id: Annotated[Name, Field(pattern=r"^[a-z0-9][a-z0-9.-]*$")]
    kind: Kind
    prefix: Annotated[str, Field(pattern=r"^([a-z0-9][a-z0-9.-]*-)?$")] = ""
    tasks: tuple[Name, ...] = ()
    scales: tuple[Scale, ...] = ("embedded",)
    claims: tuple[str, ...] = Field(min_length=1)
    title: str
    settings: dict[str, Any] = Field(default_factory=dict)
    objectives: tuple[Objective, ...] = ()
    methods: dict[Name, dict[str, Any]] = Field(default_factory=dict)
    recipes: tuple[str, ...] = ()
    compute: str | None = None
    evaluate: tuple[Asked, ...] = ()
    seeds: tuple[Seed, ...] = Field(default=(0,), min_length=1)
    processes: int = Field(default=1, ge=1)
    seconds: float = Field(default=10.0, gt=0)

    @model_validator(mode="after")
    def _says_what_to_run(self) -> Self:
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"{self.id}: seeds: got {self.seeds}, allowed: each once")
        needed = {
            "train": bool(self.objectives) != bool(self.recipes),
            "sample": bool(self.methods),
            "theory": self.compute is not None,
            "toy": self.compute is not None,
        }
        if not needed[self.kind]:
            raise ValueError(
                f"{self.id}: got kind {self.kind}, allowed: with objectives or recipes (train), methods (sample), "
                "compute (theory, toy)"
            )
        if bool(self.evaluate) != (self.kind in ("train", "sample")):
            raise ValueError(f"{self.id}: evaluate: got {len(self.evaluate)} sets, allowed: some exactly for models")
        return self

    def on(self, task: RegisteredTask) -> Experiment:
        """Return the experiment on one task: ``id`` and ``prefix`` say which, data and template are the task's."""
        settings = {**self.settings, "template": task.template or task.data}
        if self.kind == "train":
            own = {**self.settings.get("evaluation", {}), "data": task.data}
            settings |= {"data": task.data, "evaluation": own}
        return self.model_copy(
            update={
                "id": f"{self.id}-{task.prefix.removesuffix('-')}",
                "prefix": self.prefix + task.prefix,
                "tasks": (),
                "title": f"{self.title}: {task.data}",
                "settings": settings,
                "evaluate": tuple(one.model_copy(update={"data": task.data}) for one in self.evaluate),
            }
        )

    def recipe_names(self) -> list[str]:
        """Return the recipes that the patterns name, each once, in the order of ``sharpen llm recipes``."""
        from sharpen.llm.configs.recipes import names

        known = names()
        wanted = [pattern for pattern in self.recipes if not pattern.startswith("!")]
        unwanted = [pattern[1:] for pattern in self.recipes if pattern.startswith("!")]
        return [
            name
            for name in known
            if any(fnmatch.fnmatchcase(name, pattern) for pattern in wanted)
            and not any(fnmatch.fnmatchcase(name, pattern) for pattern in unwanted)
        ]


class Rates(Settings):
    """Cost model until results say better: seconds a token on one core, and seconds to start.

    Args:
        train: Seconds a trained token.
        sample: Seconds a generated token.
        start: Seconds before the first token.
    """

    train: float = Field(gt=0)
    sample: float = Field(gt=0)
    start: float = Field(ge=0)


class Grid(Settings):
    """Everything in the file.

    Args:
        claims: The statements that are tested, by id.
        rates: The cost model's start.
        experiments: In the order in which a budget is spent.
        registration: What claims about tasks are decided by, where the grid is a study of several tasks.
        rules: What claims are decided by, where it is a study of several base models.
        rules_hash: Of the file, where it has rules or a registration; :func:`load_grid` sets it.
    """

    claims: dict[str, str]
    rates: Rates
    experiments: tuple[Experiment, ...] = Field(min_length=1)
    registration: Registration | None = None
    rules: Rules | None = None
    rules_hash: str | None = None

    @model_validator(mode="after")
    def _names_fit_together(self) -> Self:
        ids = [experiment.id for experiment in self.experiments]
        if len(set(ids)) < len(ids):
            raise ValueError("experiments: got an id twice, allowed: each once")
        for experiment in self.experiments:
            registered = self.registration.tasks if self.registration is not None else {}
            if unknown := set(experiment.tasks) - set(registered):
                raise ValueError(f"{experiment.id}: tasks: got {', '.join(unknown)}, allowed: registered ones")
            if unknown := set(experiment.claims) - set(self.claims):
                raise ValueError(
                    f"{experiment.id}: claims: got {', '.join(unknown)}, allowed: {', '.join(self.claims)}"
                )
        return self

    def of_scale(self, scale: str) -> list[Experiment]:
        """Return the experiments of a scale, one that is done on several tasks once for each.

        Raises:
            InputError: there is no such scale.
        """
        if scale not in SCALES:
            raise InputError("scale", scale, ", ".join(SCALES))
        registered = self.registration.tasks if self.registration is not None else {}
        return [
            one
            for experiment in self.experiments
            if scale in experiment.scales
            for one in [experiment.on(registered[name]) for name in experiment.tasks] or [experiment]
        ]


def load_grid(path: Path | None = None, scale: str = "embedded") -> Grid:
    """Return the declared grid of a scale, or the one in ``path``.

    Raises:
        InputError: the file cannot be read or is no grid.
    """
    own = OWN_GRIDS.get(scale, "grid.yaml")
    source = Path(str(files("sharpen.paper_repro"))) / own if path is None else path
    declared = read_yaml(source, "grid")
    try:
        grid = Grid.model_validate(declared)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(shorten(part, 60).strip("'") for part in first["loc"])
        wrong = f"{where}: {first['msg']}, got {shorten(first['input'])}"
        raise InputError("grid", str(path or own), f"a grid of experiments ({wrong})") from error
    registered = grid.rules is not None or grid.registration is not None
    return grid.model_copy(
        update={"rules_hash": rules_hash(source.read_text(encoding="utf-8")) if registered else None}
    )
