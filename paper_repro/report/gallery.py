"""Every figure of the paper that the results allow."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from sharpen.figures.paper import exact as paper_exact
from sharpen.figures.paper import front as paper_front
from sharpen.figures.paper import llm as paper_llm
from sharpen.figures.paper.style import MissingDataError, PaperFigure
from sharpen.objective.settings import as_name
from sharpen.paper_repro.analysis.arms import Arm, FloatArray
from sharpen.paper_repro.analysis.evidence import Evidence, runs_of
from sharpen.paper_repro.analysis.rules_llm import NULL, SHARPENING, TASK, TEMPERED
from sharpen.paper_repro.analysis.stats import hierarchical_interval

TILTED = "tilted-2-100"


def interval(scores_SP: FloatArray) -> tuple[float, float, float]:
    """Return mean, low and high over seeds and problems."""
    found = hierarchical_interval(scores_SP)
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
