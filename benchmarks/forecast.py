"""Does the forecast come true? What base samples forecast of every trained arm, beside what training reached.

    python benchmarks/forecast.py [--samples 64] [--results paper_repro/results/embedded ...]

For each result of ``sharpen paper run`` that is stored, the base model is asked the problems of its evaluation, with
samples that no run has seen, and the optimum of the arm's objective is forecast from them alone (:func:`foretold` gets
nothing else). Beside it: held-out accuracy after the last update, the mean over seeds. Arms trained on responses of a
fixed length are left out: their optimum is one over other outcomes than those of the evaluation.

By group: mean absolute error, slope of reached on forecast (calibration), Spearman's rank correlation, and the mean
error with its sign; intervals resample problems, the arms stay. Power sampling is a group too: its target is the same
without any training. Effective alpha is the slope of log pi on log p on the policy's samples: an arm whose effective
alpha is not its alpha has not reached its target, and the forecast at the effective alpha is given beside it. What else
the training did only an audit of its samples tells; stored results keep none.

Writes ``benchmarks/results/forecast.json``, and ``docs/images/forecast-reached.png`` and ``forecast-curves.png``; with
``--out`` the figures stand beside it. The base samples stay in ``build/forecast``.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from sharpen.objective import Objective
    from sharpen.paper_repro.analysis.arms import Arm
    from sharpen.theory.forecast.samples import Samples

ROOT = Path(__file__).resolve().parents[1]
RESULTS = Path(__file__).parent / "results"
FIGURES = ROOT / "docs" / "images"
SEED, RESAMPLES, CONFIDENCE = 2025, 2000, 0.95  # of the base samples: no run has this seed
SEARCHES = ("rate-", "lora-")
APART = 0.01  # forecasts that are closer say nothing of an order
FloatArray = NDArray[np.float64]
TRAINED = ("tempered", "tilted", "sharpening", "task-reward")  # groups in the figure's title
GROUPS = {
    "tempered": "tempered",
    "tilted": "tilted",
    "sharpening": "mode of p",
    "task-reward": "task reward",
    "normalized": "likelihood a token",
    "power": "power sampling, not trained",
    "search": "search of learning rates",  # rates that are too small are among them
}


def foretold(prompts: Sequence[Samples], objective: Objective) -> dict[str, Any]:
    """Return the forecast of each problem, and whether base samples can tell; they are all that this sees."""
    from sharpen.theory.forecast.estimate import REWARD, estimate

    found = estimate(prompts, objective)
    return {"values": found.values[REWARD], "told": found.told, "needs": found.needs, "ess": found.ess}


def base_samples(asked: Mapping[str, Any], samples: int) -> tuple[list[str], list[Samples]]:
    """Return the problems' names and samples of the base model, drawn once and kept."""
    from sharpen.cli.analysis.forecast import samples_of
    from sharpen.llm.configs.targets import complete
    from sharpen.llm.evaluation.run import EvalConfig, run_evaluation
    from sharpen.objective.settings import as_name

    config = EvalConfig.as_written(complete({**asked, "samples": samples, "seed": SEED, "engine": "transformers"}))
    name = as_name(f"{asked['model']}-{config.data}-{config.split}-{samples}-{config.dtype}")
    folder = ROOT / "build" / "forecast" / name
    _, records = run_evaluation(config, folder)
    return [record.id for record in records], samples_of(records, [])


def target(arm: Arm) -> tuple[str, Objective] | None:
    """Return an arm's group and objective; None if it has no optimum over the evaluation's outcomes."""
    from sharpen.objective import Objective

    if arm.fixed:
        return None
    if arm.kind == "train":
        objective = arm.objective
        assert objective is not None
        plain = objective.length_exponent == 0
        group = "search" if arm.experiment.startswith(SEARCHES) else objective.regime if plain else "normalized"
        return (group, objective) if objective.reference == "frozen" else None
    if arm.config.get("method") == "power":
        return "power", Objective(alpha=arm.config["alpha"])
    return None


def compared(arm: Arm, data: str, names: list[str], prompts: Sequence[Samples]) -> dict[str, Any] | None:
    """Return one arm's forecast and what it reached, by problem; None if it was asked other problems."""
    from sharpen.objective import Objective

    found = target(arm)
    tables = arm.problems(None, data)
    if found is None or any(table["ids"] != names for table in tables):
        return None
    group, objective = found
    forecast = foretold(prompts, objective)
    effective = arm.slope() if arm.kind == "train" else None
    row = {
        "arm": arm.name,
        "data": data,
        "group": group,
        "seeds": len(arm.seeds),
        "problems": len(names),
        "objective": objective.to_dict(),
        "forecast": forecast["values"],
        "told": forecast["told"],
        "ess": forecast["ess"],
        "reached": arm.scores("pass@1", None, data).mean(axis=0),
        "base": np.array([one.right.mean() for one in prompts]),
        "effective_alpha": None if effective is None or not np.isfinite(effective).all() else float(effective.mean()),
    }
    if not forecast["told"]:
        row["needs"] = forecast["needs"]
    if group == "tempered" and row["effective_alpha"] is not None and row["effective_alpha"] >= 0:
        row["at_effective_alpha"] = foretold(prompts, Objective(alpha=row["effective_alpha"]))["values"]
    return row


def draws(count: int) -> FloatArray:
    """Return weights of problems, one row a resample, the first of them equal."""
    random = np.random.default_rng(SEED).dirichlet(np.ones(count), size=RESAMPLES)
    return np.concatenate([np.full((1, count), 1.0 / count), random])


def interval(values: FloatArray) -> dict[str, float | None]:
    """Return the first value, of all problems, and the interval of the others."""
    good = values[1:][np.isfinite(values[1:])]
    if not np.isfinite(values[0]) or not good.size:
        return {"value": None, "low": None, "high": None}
    low, high = np.quantile(good, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    value = float(values[0])  # with ties that resamples do not have it may lie outside
    return {"value": value, "low": min(float(low), value), "high": max(float(high), value)}


def agreement(forecast: FloatArray, reached: FloatArray) -> dict[str, Any]:
    """Return how forecasts and what was reached agree, over arms and each resample of problems.

    Args:
        forecast: Shape [resamples + 1, arms].
        reached: The same shape.
    """
    from scipy.stats import rankdata

    def correlation(x: FloatArray, y: FloatArray) -> FloatArray:
        x, y = x - x.mean(axis=1, keepdims=True), y - y.mean(axis=1, keepdims=True)
        with np.errstate(divide="ignore", invalid="ignore"):
            return (x * y).sum(axis=1) / np.sqrt((x * x).sum(axis=1) * (y * y).sum(axis=1))

    found: dict[str, Any] = {
        "arms": forecast.shape[1],
        "mean_absolute_error": interval(np.abs(forecast - reached).mean(axis=1)),
        "reached_minus_forecast": interval((reached - forecast).mean(axis=1)),
    }
    if forecast.shape[1] >= 4 and np.ptp(forecast[0]) > 0:
        x = forecast - forecast.mean(axis=1, keepdims=True)
        with np.errstate(divide="ignore", invalid="ignore"):
            slope = (x * (reached - reached.mean(axis=1, keepdims=True))).sum(axis=1) / (x * x).sum(axis=1)
        ranks = [np.apply_along_axis(rankdata, 1, one) for one in (forecast, reached)]
        found |= {"calibration_slope": interval(slope), "rank_correlation": interval(correlation(*ranks))}
        found["pairs_in_order"] = interval(pairs_in_order(forecast, reached))
    return found


def pairs_in_order(forecast: FloatArray, reached: FloatArray) -> FloatArray:
    """Return the share of pairs of arms with other forecasts that came out in the order that was forecast."""
    first, second = np.triu_indices(forecast.shape[1], 1)
    expected, seen = forecast[:, first] - forecast[:, second], reached[:, first] - reached[:, second]
    counts = np.abs(expected) > APART
    with np.errstate(invalid="ignore"):
        return np.sum(counts & (expected * seen > 0), axis=1) / np.sum(counts, axis=1)


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the agreement of each group whose forecasts can be told, and of tempered and tilted together."""
    sets = {name: [row for row in rows if row["group"] == name] for name in GROUPS}
    trained = [row for name in TRAINED for row in sets[name]]
    sets = {"tempered and tilted": sets["tempered"] + sets["tilted"], "trained": trained, **sets}
    found = {}
    for name, members in sets.items():
        told = [row for row in members if row["told"]]
        if told:
            found[name] = _agreement_of(told, "forecast") | {"untold": len(members) - len(told)}
            if all("at_effective_alpha" in row for row in told):
                found[name]["at_effective_alpha"] = _agreement_of(told, "at_effective_alpha")
    return found


def _agreement_of(rows: list[dict[str, Any]], name: str) -> dict[str, Any]:
    weights = {data: draws(len(next(row[name] for row in rows if row["data"] == data))) for data in _data(rows)}
    # Rounded, so that equal forecasts are equal.
    columns = [[np.round(weights[row["data"]] @ row[one], 9) for row in rows] for one in (name, "reached")]
    return agreement(*(np.stack(column, axis=1) for column in columns))


def _data(rows: list[dict[str, Any]]) -> list[str]:
    return list(dict.fromkeys(row["data"] for row in rows))


def shown(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row with means and intervals instead of a value a problem."""
    weights = draws(len(row["forecast"]))
    kept = {name: value for name, value in row.items() if not isinstance(value, np.ndarray)}
    for name in ("forecast", "reached", "base", "at_effective_alpha"):
        if name in row:
            kept[name] = interval(weights @ row[name]) if row["told"] or name != "forecast" else None
    if row["told"]:
        with np.errstate(divide="ignore", invalid="ignore"):
            share = (weights @ (row["reached"] - row["base"])) / (weights @ (row["forecast"] - row["base"]))
        kept["share_of_change"] = (
            interval(share) if abs(kept["forecast"]["value"] - kept["base"]["value"]) > 0.02 else None
        )
    return kept


def plot(rows: list[dict[str, Any]], found: Mapping[str, Any], out: Path) -> None:
    """Draw reached against forecast."""
    from sharpen.figures.style import BASE_COLOR, REGIME_COLORS, drawing

    looks = {
        "tempered": (REGIME_COLORS["tempered"], "o"),
        "tilted": (REGIME_COLORS["tilted"], "s"),
        "sharpening": (REGIME_COLORS["sharpening"], "v"),
        "task-reward": (REGIME_COLORS["task-reward"], "^"),
        "power": ("#000000", "x"),
    }
    with drawing(out, None, (5.0, 4.4)) as (_, panels):
        (panel,) = panels
        panel.plot([0, 1], [0, 1], color=BASE_COLOR, lw=1, ls="--")
        for group, (color, marker) in looks.items():
            told = [row for row in rows if row["group"] == group and row["told"]]
            for place, row in enumerate(told):
                (x, left, right), (y, below, above) = (list(row[name].values()) for name in ("forecast", "reached"))
                bars: dict[str, Any] = {"xerr": [[x - left], [right - x]], "yerr": [[y - below], [above - y]]}
                style = {"fmt": marker, "ms": 5, "color": color, "elinewidth": 0.8}
                style |= {"mfc": "white"} if row["data"] == "embedded" and marker != "x" else {}
                panel.errorbar(x, y, **bars, **style, label=GROUPS[group] if place == len(told) - 1 else None)
        panel.set_title(headline(rows, found), fontsize=9.5)
        models = "\n(open: embedded model, filled: SmolLM2)" if len({row["data"] for row in rows}) > 1 else ""
        panel.text(0.02, 0.98, f"{sizes(rows, found)}{models}", transform=panel.transAxes, va="top", fontsize=8)
        panel.set_xlim(-0.03, 1.03)
        panel.set_ylim(-0.03, 1.03)
        panel.set_xlabel("accuracy forecast before training (share of samples)")
        panel.set_ylabel("held-out accuracy after it (share of samples)")
        panel.legend(loc="lower right", fontsize=8.5)


def headline(rows: Sequence[Mapping[str, Any]], found: Mapping[str, Any]) -> str:
    """Return what the figure shows of the trained arms, in two lines."""
    told = [row for row in rows if row["group"] in TRAINED and row["told"]]
    tasks = len({row["data"] for row in told})
    both = found["trained"]
    error = both["mean_absolute_error"]
    order = f", {100 * both['pairs_in_order']['value']:.0f} % of pairs in order" if "pairs_in_order" in both else ""
    return (
        "Base samples forecast the accuracy that training reaches\n"
        f"{len(told)} arms, {tasks} task{'s' if tasks > 1 else ''}: mean error {error['value']:.2f}{order}"
    )


def sizes(rows: Sequence[Mapping[str, Any]], found: Mapping[str, Any]) -> str:
    """Return how many problems and seeds are behind a point, what its bars are, and the interval of the mean error."""

    def span(name: str) -> str:
        least, most = (pick(row[name] for row in rows) for pick in (min, max))
        return f"{least}" if least == most else f"{least} to {most}"

    error = found["trained"]["mean_absolute_error"]
    return (
        f"a point: {span('problems')} problems, {span('seeds')} seeds\nbars: 95 % over problems\n"
        f"mean error, 95 %: {error['low']:.3f} to {error['high']:.3f}"
    )


def plot_curves(rows: list[dict[str, Any]], bases: Mapping[str, Sequence[Samples]], out: Path) -> None:
    """Draw each data set's forecast curve with what its tempered arms reached, at the exponents that they aimed at."""
    from sharpen.figures.llm.forecast import plot_forecast
    from sharpen.figures.style import drawing
    from sharpen.theory.forecast.report import forecast

    across = min(3, len(bases))
    down = math.ceil(len(bases) / across)
    count = across * down
    size = (4.4 * across + 0.4, 3.6 * down)
    with drawing(out, None, size, lambda fig: fig.subplots(down, across, squeeze=False), count) as (_, panels):
        for panel, (data, prompts) in zip(panels, bases.items(), strict=False):
            arms = [row for row in rows if row["data"] == data and row["group"] == "tempered"]
            reached = {
                row["objective"]["alpha"]: tuple(row["reached"].values())
                for row in arms
                if row["objective"]["alpha"] >= 1
            }
            seeds = sorted({row["seeds"] for row in arms})
            plot_forecast(forecast(prompts, [1, 1.25, 1.5, 2, 3, 4]), axes=panel, reached=reached)
            panel.set_title(
                f"{data}: {len(prompts)} problems × {prompts[0].n} base samples,\n"
                f"trained: means of {' or '.join(map(str, seeds))} seeds (95 % over problems)",
                fontsize=9,
            )
        for panel in panels[len(bases) :]:
            panel.set_axis_off()


def table(rows: list[dict[str, Any]]) -> str:
    """Return the rows as a Markdown table."""
    lines = [
        "| arm | forecast | reached | of the change | effective alpha | forecast there |",
        "| --- |" + " --- |" * 5,
    ]
    for row in rows:
        ends = [_cell(row.get(name)) for name in ("forecast", "reached", "at_effective_alpha")]
        alpha = "" if row["effective_alpha"] is None else f"{row['effective_alpha']:.2f}"
        first = ends[0] or f"cannot be told: needs about {row['needs']}"
        share = row.get("share_of_change")
        part = "" if share is None else f"{share['value']:.2f}"
        lines.append(f"| {row['arm']} | {first} | {ends[1]} | {part} | {alpha} | {ends[2]} |")
    return "\n".join(lines)


def _cell(found: Mapping[str, float] | None) -> str:
    return "" if found is None else f"{found['value']:.3f} [{found['low']:.3f}, {found['high']:.3f}]"


def arms_of(folder: Path) -> dict[str, Arm]:
    """Return the arms of a folder of stored results."""
    from sharpen.paper_repro.analysis.arms import gather

    stored = [json.loads(file.read_text(encoding="utf-8")) for file in sorted(folder.glob("*.json"))]
    return gather(one for one in stored if one.get("kind") in ("train", "sample"))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    stored = [folder for folder in sorted((ROOT / "paper_repro" / "results").iterdir()) if any(folder.glob("*.json"))]
    parser.add_argument("--results", type=Path, nargs="+", default=stored)
    parser.add_argument("--samples", type=int, default=64)
    parser.add_argument("--out", type=Path, default=RESULTS / "forecast.json")
    given = parser.parse_args()
    rows: list[dict[str, Any]] = []
    bases: dict[str, list[Samples]] = {}
    for folder in given.results:
        arms = arms_of(folder)
        for arm in arms.values():
            if target(arm) is None:
                continue
            one = arm.results[0]["settings"]["evaluate"][0]
            settings = {
                name: arm.config[name]
                for name in ("model", "template", "max_length", "dtype", "device")
                if arm.config.get(name) is not None
            }
            asked = settings | {name: one[name] for name in ("data", "split", "problems") if name in one}
            names, prompts = base_samples(asked, given.samples)
            found = compared(arm, one["data"], names, prompts)
            if found is not None:
                if found["group"] == "tempered":
                    bases[one["data"]] = prompts
                rows.append(found)
                print(f"{arm.name}: {found['forecast'].mean():.3f} {found['reached'].mean():.3f}", flush=True)
    totals, lines = summary(rows), [shown(row) for row in rows]
    report = {
        "command": f"python benchmarks/forecast.py --samples {given.samples}",
        "machine": platform.processor() or platform.machine(),
        "samples": given.samples,
        "agreement": totals,
        "arms": lines,
    }
    given.out.write_text(json.dumps(report, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    figures = FIGURES if given.out == RESULTS / "forecast.json" else given.out.parent
    plot(lines, totals, figures / "forecast-reached.png")
    plot_curves(lines, bases, figures / "forecast-curves.png")
    print(table(lines))
    print(json.dumps(totals, indent=1))


if __name__ == "__main__":
    main()
