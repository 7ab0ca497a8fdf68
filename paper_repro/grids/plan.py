"""From experiments to runs: what each computes, what identifies it, what it costs."""

from __future__ import annotations

import hashlib
import json
import statistics
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, ValidationError

from sharpen.objective import InputError, Objective
from sharpen.paper_repro.grids.codeversion import code_version
from sharpen.paper_repro.grids.grid import Experiment, Grid, Rates

if TYPE_CHECKING:
    from sharpen.llm.configs.sampling import SampleConfig
    from sharpen.llm.configs.train import TrainConfig

Config = TypeVar("Config", bound=BaseModel)
# Mean responses over the regimes, and the answers of short tasks; fixed-length responses fill max_length.
FREE_TOKENS = {"embedded": 24, "dial": 16, "smollm2": 8}
PAPER_TOKENS = 600  # likewise of the paper's models; the dry run gives the upper bound max_length
PROBLEMS = {"math": 5000, "math500": 500, "minerva": 272, "aime24": 30}  # of the parts that are asked
UNKNOWN = 500  # for data whose size is not known before it is read
EVALUATION_SHARE = 0.35  # cost of a sampled and scored token against a trained one


@dataclass(frozen=True)
class Run:
    """One unit of work and of results.

    Args:
        id: Unique within a scale; the name of its result.
        arm: What its seeds share: the id without the seed.
        experiment: What it belongs to.
        seed: Of all its random numbers.
        settings: Everything that decides its numbers, in JSON types.
        identity: The same without fields that have their default, so that a new setting leaves old results valid; a
            changed default is a change of code.
        scale: Where it was asked for.
        rules: Hash of the rules that its claims are decided by; None where none were fixed beforehand.
    """

    id: str
    arm: str
    experiment: Experiment
    seed: int
    settings: dict[str, Any]
    identity: dict[str, Any]
    scale: str = "embedded"
    rules: str | None = None

    @cached_property
    def settings_hash(self) -> str:
        """16 hexadecimal digits of what is asked for."""
        canonical = json.dumps([self.experiment.kind, self.identity], sort_keys=True)
        return hashlib.sha256(canonical.encode()).hexdigest()[:16]

    @property
    def code_hash(self) -> str:
        """16 hexadecimal digits of the code that a run of this kind uses; see ``codeversion.py``."""
        return code_version(self.experiment.kind)

    @property
    def command(self) -> str:
        """The command that computes this run alone."""
        return f"sharpen paper run --scale {self.scale} --run {self.id}"

    @property
    def tokens(self) -> dict[str, int]:
        """Expected tokens: ``trained`` and ``evaluated``; none of either in theory and toy."""
        kind, settings = self.experiment.kind, self.settings
        if kind in ("theory", "toy"):
            return {"trained": 0, "evaluated": 0}
        model = settings["config"]
        free = next((tokens for name, tokens in FREE_TOKENS.items() if model["model"].startswith(name)), PAPER_TOKENS)
        asked = answers(settings["evaluate"])
        if kind == "sample":
            return {"trained": 0, "evaluated": asked * free * _draws(model)}
        length = model["max_length"] if model["ignore_eos"] else free
        trained = model["steps"] * model["prompts_per_step"] * model["samples_per_prompt"] * length
        return {"trained": trained, "evaluated": 2 * asked * free}


def answers(evaluate: Iterable[Mapping[str, Any]]) -> int:
    """Return how many responses an evaluation asks for.

    Example:
        >>> answers([{"data": "aime24", "problems": None, "samples": 16}])
        480
    """
    return sum((one["problems"] or PROBLEMS.get(one["data"], UNKNOWN)) * one["samples"] for one in evaluate)


def _draws(config: Mapping[str, Any]) -> int:
    """Return about how many responses are drawn for one that is returned."""
    if config["method"] == "power":
        return 1 + config["steps"] // 2  # a proposal keeps half of the response on average
    return config["n"] if config["method"] == "best-of-n" else 1


def expand(grid: Grid, scale: str) -> list[Run]:
    """Return the runs of a scale in the order in which a budget is spent.

    Raises:
        InputError: there is no such scale, or settings that no run can have.
    """
    runs = [
        replace(run, scale=scale, rules=grid.rules_hash)
        for experiment in grid.of_scale(scale)
        for run in _runs(experiment)
    ]
    seen: dict[str, Run] = {}
    for run in runs:
        if run.id in seen:
            raise InputError("grid", run.id, "runs with different names: two experiments declare this one")
        seen[run.id] = run
    return runs


def choose(runs: Iterable[Run], ids: Iterable[str], experiments: Iterable[str]) -> list[Run]:
    """Return the runs with these ids or of these experiments; all of them if neither is named.

    Raises:
        InputError: a name names nothing.
    """
    runs, ids, experiments = list(runs), list(ids), list(experiments)
    if not ids and not experiments:
        return runs
    for name, given, known in (
        ("run", ids, {run.id for run in runs} | {run.arm for run in runs}),
        ("experiment", experiments, {run.experiment.id for run in runs}),
    ):
        for one in given:
            if one not in known:
                raise InputError(name, one, "one that `sharpen paper list` (with --runs for runs) names")
    return [run for run in runs if run.id in ids or run.arm in ids or run.experiment.id in experiments]


def _runs(experiment: Experiment) -> list[Run]:
    if experiment.kind == "train":
        return _training_runs(experiment)
    if experiment.kind == "sample":
        return _sampling_runs(experiment)
    runs = []
    for seed in experiment.seeds:
        settings = {"compute": experiment.compute, "arguments": experiment.settings, "seed": seed}
        name = f"{experiment.id}-s{seed}" if len(experiment.seeds) > 1 else experiment.id
        runs.append(Run(name, experiment.id, experiment, seed, settings, settings))
    return runs


def _sampling_runs(experiment: Experiment) -> list[Run]:
    from sharpen.llm.configs.sampling import SampleConfig

    return [
        _model_run(experiment, arm, _validated(experiment, arm, SampleConfig.as_written, {**fields, "seed": seed}))
        for arm, method in experiment.methods.items()
        for fields in ({**experiment.settings, **method},)
        for seed in experiment.seeds
    ]


def _training_runs(experiment: Experiment) -> list[Run]:
    from sharpen.llm.configs.recipes import load
    from sharpen.llm.configs.train import merge, resolve

    arms: dict[str, TrainConfig] = {}
    for objective in experiment.objectives:
        changes = merge(experiment.settings, {"objective": objective.to_dict()})
        config = _validated(experiment, objective.regime, resolve, {**changes, "seed": experiment.seeds[0]})
        arms[arm_name(objective, config.ignore_eos, config.learner.kind)] = config
    for name in experiment.recipe_names() if experiment.recipes else ():
        changes = merge(load(name), experiment.settings)
        arms[name.replace("/", "_")] = _validated(experiment, name, resolve, {**changes, "seed": experiment.seeds[0]})
    return [
        _model_run(experiment, arm, config.model_copy(update={"seed": seed}))
        for arm, config in arms.items()
        for seed in experiment.seeds
    ]


def _validated(
    experiment: Experiment, arm: str, make: Callable[[dict[str, Any]], Config], fields: dict[str, Any]
) -> Config:
    """Return the configuration of an arm; the message of a wrong one says which experiment declares it."""
    try:
        return make(fields)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        wrong = f"{where}: {first['msg']}" if where else str(first["msg"])
        raise InputError("grid", f"{experiment.id}, {arm}", f"settings that a run can have ({wrong})") from error


def arm_name(objective: Objective, fixed: bool, learner: str) -> str:
    """Return ``<regime>-<alpha>-<beta_inv>[-fixed][-<normalization>][-<reference>][-right-<alpha_right>][-<utility>]``.

    As recipes are named.
    """
    from sharpen.llm.configs.recipes import family_parts

    parts = [objective.regime.replace("+", "-"), f"{objective.alpha:g}", f"{objective.beta_inv:g}"]
    parts += ["fixed"] if fixed else []
    parts += [objective.normalization] if objective.normalization != "sum" else []
    parts += [objective.reference.replace(":", "")] if objective.reference != "frozen" else []
    return "-".join(parts + family_parts(objective) + ([learner] if learner != "rloo" else []))


def _model_run(experiment: Experiment, arm: str, config: TrainConfig | SampleConfig) -> Run:
    arm = experiment.prefix + arm
    asked = [one.plain() for one in experiment.evaluate]
    whole = {"config": config.model_dump(mode="json"), "evaluate": asked}
    changed = {"config": config.model_dump(mode="json", exclude_defaults=True), "evaluate": asked}
    return Run(f"{arm}-s{config.seed}", arm, experiment, config.seed, whole, changed)


class CostModel:
    """Seconds that a run takes on one core, from what earlier results took.

    seconds = start + rate x (trained tokens + 0.35 x evaluated tokens), the rate of a kind being the median over its
    results; for theory and toy the duration of the last result of the same run, or the declared one.

    Args:
        rates: Used where there is no result.
        results: Earlier results of any age, as they are stored.
    """

    def __init__(self, rates: Rates, results: Iterable[Mapping[str, Any]] = ()) -> None:
        self._start = rates.start
        self._rates = {"train": rates.train, "sample": rates.sample}
        self._known: dict[str, float] = {}
        found: dict[str, list[float]] = {}
        for result in results:
            seconds = result["provenance"]["cpu_seconds"]
            self._known[result["id"]] = seconds
            units = _units(result["expected_tokens"])
            if units:
                found.setdefault(result["kind"], []).append(max(0.0, seconds - self._start) / units)
        self._rates |= {kind: statistics.median(rates) for kind, rates in found.items()}

    def seconds(self, run: Run) -> float:
        """Return the expected seconds of a run."""
        if run.experiment.kind in ("theory", "toy"):
            return self._known.get(run.id, run.experiment.seconds)
        return self._start + self._rates[run.experiment.kind] * _units(run.tokens)


def _units(tokens: Mapping[str, int]) -> float:
    return tokens["trained"] + EVALUATION_SHARE * tokens["evaluated"]


def within_budget(runs: Iterable[Run], cost: CostModel, seconds: float | None, jobs: int) -> list[Run]:
    """Return the runs, in order, that fit into ``seconds`` with ``jobs`` at a time; one that does not is left out."""
    if seconds is None:
        return list(runs)
    left, chosen = seconds * jobs, []
    for run in runs:
        if cost.seconds(run) <= left:
            chosen.append(run)
            left -= cost.seconds(run)
    return chosen
