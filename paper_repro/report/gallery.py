"""Every figure of the paper that the results allow."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from sharpen.figures.paper import exact as paper_exact
from sharpen.figures.paper import front as paper_front
from sharpen.figures.paper import llm as paper_llm
from sharpen.figures.paper import members as paper_members
from sharpen.figures.paper.style import MissingDataError, PaperFigure
from sharpen.objective.settings import as_name
from sharpen.paper_repro.analysis.arms import Arm, FloatArray
from sharpen.paper_repro.analysis.evidence import Evidence, runs_of
from sharpen.paper_repro.analysis.members import Members, alignment, contrast, path
from sharpen.paper_repro.analysis.rules_llm import NULL, SHARPENING, TASK, TEMPERED
from sharpen.paper_repro.intervals.bounded import bounded_interval, bounds_of

TILTED = "tilted-2-100"


def interval(scores_SP: FloatArray, measure: str) -> tuple[float, float, float]:
    """Return mean, low and high over seeds and problems, within what the measure can be."""
    found = bounded_interval(scores_SP, bounds_of(measure))
    return found.mean, found.low, found.high


def draw_all(evidences: Sequence[Evidence]) -> tuple[list[PaperFigure], dict[str, str]]:
    """Return the figures of each model, its name in theirs where there are several models, and what is missing."""
    drawn: dict[str, PaperFigure] = {}
    missing: dict[str, str] = {}
    for evidence in evidences:
        own, lacking = draw(evidence)
        for figure in own:
            shared = len(evidences) == 1 or all(run.startswith(("theory-", "toy-")) for run in figure.runs)
            name = figure.name if shared else f"{figure.name}-{as_name(str(evidence.model))}"
            drawn.setdefault(name, replace(figure, name=name))
        missing |= {
            name if len(evidences) == 1 else f"{name}, {evidence.model}": what for name, what in lacking.items()
        }
    return list(drawn.values()), missing


def draw_members(study: Members) -> tuple[list[PaperFigure], dict[str, str]]:
    """Return the figures of a study of several base models, and for each that cannot be drawn what is missing."""
    drawn, missing = [], {}
    makers: dict[str, Callable[[Members], PaperFigure]] = {
        "gain-against-alignment": _gain_against_alignment,
        "accuracy-against-kl": _accuracy_against_kl,
    }
    for name, make in makers.items():
        try:
            drawn.append(make(study))
        except MissingDataError as error:
            missing[name] = str(error)
    return drawn, missing


def _of_members(study: Members) -> tuple[dict[str, str], str, list[str]]:
    """Return the regimes of the arms that are not the control, the note on sizes, and the runs."""
    names = study.rules.arms
    arms = [arm for one in study.evidence.values() for arm in one.arms.values() if arm.objective is not None]
    regimes = {
        name: arm.regime
        for name in (names.sharpening, names.tempered, names.task_reward)
        for arm in arms
        if arm.name == name
    }
    table = arms[0].problems()[0] if arms else {"ids": (), "samples": 0}
    seeds = max((len(arm.seeds) for arm in arms), default=0)
    note = f"{len(table['ids'])} problems with {table['samples']} samples, {seeds} seeds"
    return regimes, note, runs_of(*arms)


def _gain_against_alignment(study: Members) -> PaperFigure:
    regimes, note, runs = _of_members(study)
    known = {name: alignment(one.base) for name, one in study.evidence.items() if one.base is not None}
    points = {name: (found.mean, found.low, found.high) for name, found in known.items() if found is not None}
    told = {name: (found.mean, found.low, found.high) for name, found in study.forecasts.items()}
    gains: dict[str, dict[str, tuple[float, float, float]]] = {}
    for arm in regimes:
        for name in points:
            left = study.difference(name, arm, study.rules.arms.control)
            if left is not None:
                found = contrast(left)
                gains.setdefault(arm, {})[name] = (found.mean, found.low, found.high)
    exponent = study.rules.arms.tempered_alpha
    return paper_members.gain_against_alignment(points, told, gains, regimes, exponent, note, runs)


def _accuracy_against_kl(study: Members) -> PaperFigure:
    regimes, _, runs = _of_members(study)
    panels = {
        name: {arm: path(one.arms[arm])[1:] for arm in regimes if arm in one.arms}
        for name, one in study.evidence.items()
    }
    some = [one.arms[arm] for one in study.evidence.values() for arm in regimes if arm in one.arms]
    asked = some[0].config["evaluation"] if some else {"problems": 0, "samples": 0}
    note = f"{asked['problems']} problems with {asked['samples']} samples, {len(some[0].seeds) if some else 0} seeds"
    return paper_members.accuracy_against_kl(panels, regimes, note, runs)


def draw(evidence: Evidence) -> tuple[list[PaperFigure], dict[str, str]]:
    """Return the figures, and for each that cannot be drawn what is missing.

    Args:
        evidence: The results.
    """
    makers: dict[str, Callable[[Evidence], PaperFigure]] = {
        "training-curves": _training_curves,
        "pass-at-k": _coverage,
        "fixed-length": _fixed_length,
        "normalization": _normalization,
        "sampling": _sampling,
        "effective-alpha": _effective_alpha,
    }
    exact: dict[str, Callable[[Evidence], PaperFigure]] = {
        "page-one": _page_one,
        "knife-edge": lambda e: paper_exact.knife_edge(e.exact("theory-length")),
        "basins": lambda e: paper_exact.basins(e.exact("theory-basins")),
        "sensitivity": lambda e: paper_exact.sensitivity(e.exact("theory-sensitivity")),
        "estimators": lambda e: paper_exact.estimators(e.exact("theory-estimators")),
        "toy-regimes": lambda e: paper_exact.toy_regimes(e.exact("toy-regimes")),
    }
    drawn, missing = [], {}
    for name, make in (makers if evidence.prefix is not None else {**exact, **makers}).items():
        try:
            drawn.append(make(evidence))
        except MissingDataError as error:
            missing[name] = str(error)
    return drawn, missing


def _some(evidence: Evidence, *names: str) -> list[Arm]:
    return [evidence.arms[name] for name in names if name in evidence.arms]


def _page_one(evidence: Evidence) -> PaperFigure:
    arms = _some(evidence, TASK, TILTED, TEMPERED, SHARPENING)
    runs = ["theory-regimes", "toy-regimes", *runs_of(evidence.base, *arms)]
    exact, toy = evidence.exact("theory-regimes"), evidence.exact("toy-regimes")
    return paper_front.page_one(exact, toy, arms, evidence.base, interval, runs)


def _training_curves(evidence: Evidence) -> PaperFigure:
    arms = _some(evidence, TASK, SHARPENING, TEMPERED, "tempered-4-0", NULL, TILTED)
    return paper_llm.training_curves(arms, runs_of(*arms))


def _coverage(evidence: Evidence) -> PaperFigure:
    arms = _some(evidence, TASK, TILTED, TEMPERED, SHARPENING)
    if evidence.base is None:
        raise MissingDataError("the base model")
    return paper_llm.coverage_curves(arms, evidence.base, interval, runs_of(evidence.base, *arms))


def _fixed_length(evidence: Evidence) -> PaperFigure:
    names = [name for name in (TASK, SHARPENING, TEMPERED, "tilted-1-100") if f"{name}-fixed" in evidence.arms]
    groups = [(name, _some(evidence, name, f"{name}-fixed")) for name in names]
    arms = [arm for _, members in groups for arm in members]
    text = "Trained with free length and with end-of-sequence ignored, evaluated with free length."
    return paper_llm.bars("fixed-length", groups, evidence.base, interval, runs_of(evidence.base, *arms), text)


def _normalization(evidence: Evidence) -> PaperFigure:
    groups = []
    for name in (SHARPENING, TEMPERED):
        members = _some(evidence, f"{name}-mean", f"{name}-weighted_mean")
        if members:
            groups.append((name, [*_some(evidence, name), *members]))
    arms = [arm for _, members in groups for arm in members]
    text = (
        "Likelihood as a sum, as a mean a token, and divided by the square root of the length (weighted mean, w = 0.5)."
    )
    return paper_llm.bars("normalization", groups, evidence.base, interval, runs_of(evidence.base, *arms), text)


def _sampling(evidence: Evidence) -> PaperFigure:
    sampled = [arm for name, arm in evidence.arms.items() if arm.kind == "sample" and name != evidence.base_arm]
    if not sampled:
        raise MissingDataError("methods that sample without training")
    trained = _some(evidence, TEMPERED, "tempered-4-0", SHARPENING, TASK)
    groups = [("without training", sampled), ("trained", trained)]
    text = "Sharpening without training beside training."
    return paper_llm.bars("sampling", groups, evidence.base, interval, runs_of(evidence.base, *sampled, *trained), text)


def _effective_alpha(evidence: Evidence) -> PaperFigure:
    tempered = [
        *evidence.trained(regime="tempered").values(),
        *evidence.trained(regime="tempered", fixed=True).values(),
    ]
    arms = [(arm.objective.alpha, arm) for arm in tempered if arm.objective is not None]
    return paper_llm.effective_alpha(arms, runs_of(*(arm for _, arm in arms)))
