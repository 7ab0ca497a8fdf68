"""The study of several tasks: its grid as declared, and its rules, which must be able to say yes, no and not yet."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.stats
import yaml

from sharpen.objective import InputError
from sharpen.paper_repro.analysis import rules_tasks, tasks
from sharpen.paper_repro.analysis.arms import gather
from sharpen.paper_repro.analysis.evidence import Part
from sharpen.paper_repro.analysis.rules_tasks import RULES
from sharpen.paper_repro.analysis.tasks import Study, study
from sharpen.paper_repro.analysis.verdict import conclude, judge
from sharpen.paper_repro.grids.grid import Grid, load_grid
from sharpen.paper_repro.grids.plan import CostModel, expand, within_budget
from sharpen.paper_repro.grids.registration import Registration
from sharpen.paper_repro.grids.store import Store
from sharpen.paper_repro.report.build import write_report
from sharpen.paper_repro.report.tables import gain_rows
from sharpen.paper_repro.work.pool import run_local

Results = dict[str, dict[str, Any]]
Made = Callable[..., dict[str, Any]]
OBJECTIVES: dict[str, dict[str, Any]] = {
    "task-reward-0-1": {"mode": "optimization", "alpha": 0.0, "beta_inv": 1.0},
    "sharpening-1-0": {"mode": "optimization", "alpha": 1.0, "beta_inv": 0.0},
    "tempered-1-0": {"mode": "sampling", "alpha": 1.0, "beta_inv": 0.0},
    "tempered-2-0": {"mode": "sampling", "alpha": 2.0, "beta_inv": 0.0},
    "tempered-4-0": {"mode": "sampling", "alpha": 4.0, "beta_inv": 0.0},
}
# What the paper's author would hope for and its critic would: pass@1 of each arm on either kind of task.
BASE = 0.4
HOPED = {"task-reward-0-1": 0.9, "sharpening-1-0": 0.85, "tempered-4-0": 0.8, "tempered-2-0": 0.7, "tempered-1-0": 0.4}
NOT_HOPED = {**HOPED, "sharpening-1-0": 0.38, "tempered-4-0": 0.42, "tempered-2-0": 0.42}


@pytest.fixture(scope="module")
def grid() -> Grid:
    return load_grid(scale="real")


@pytest.fixture(scope="module")
def registration(grid: Grid) -> Registration:
    assert grid.registration is not None
    return grid.registration


def on_task(made: Made, prefix: str, rates: dict[str, float], area: float, forecast: float = 0.75) -> Results:
    """Return results of one task: three seeds of the base and of each arm."""
    rows: Results = {}
    for seed in (1, 2, 3):
        for name, rate in {"base": BASE, **rates}.items():
            row = copy.deepcopy(made(f"{prefix}{name}", seed, OBJECTIVES.get(name), rate, model="smollm2"))
            row["settings"]["config"]["optimizer"] = {"learning_rate": 1e-5}
            if name == "base":
                (table,) = row["result"]["checkpoints"]["base"]["problems"].values()
                rng, size = np.random.default_rng(seed), len(table["ids"])
                noisy = np.clip(area + rng.normal(0, 0.02, size), 0, 1).tolist()
                table |= {"auc": noisy, "corr_xx": [1.0] * size, "corr_rr": [1.0] * size, "corr_xr": [0.4] * size}
                table |= {f"forecast@{alpha}": [forecast] * size for alpha in (2, 4)}
            rows[row["id"]] = row
    return rows


def whole(made: Made, registration: Registration, aligned: dict[str, float], other: dict[str, float]) -> Results:
    rows: Results = {}
    for task in registration.tasks.values():
        right = task.expected == "aligned"
        rows |= on_task(made, task.prefix, aligned if right else other, 0.9 if right else 0.6)
    return rows


def outcome(claim: str, found: Study) -> str:
    return conclude(RULES[claim](found))


# --- the declared study --------------------------------------------------------------------------------------------


def test_every_arm_that_is_registered_is_declared_with_three_seeds(grid: Grid, registration: Registration) -> None:
    runs = expand(grid, "real")
    arms: dict[str, set[int]] = {}
    for run in runs:
        arms.setdefault(run.arm, set()).add(run.seed)
    deciding = (registration.task_reward, *registration.without_reward, registration.control, *registration.forecast)
    for task in registration.tasks.values():
        for name in {"base", *deciding}:
            assert len(arms[f"{task.prefix}{name}"]) >= 3
    assert set(registration.forecast) | {registration.control} <= OBJECTIVES.keys()
    kinds = [task.expected for task in registration.tasks.values()]
    assert min(kinds.count("aligned"), kinds.count("not-aligned")) >= 2
    assert any(task.data.startswith("gym:") for task in registration.tasks.values())
    assert set(grid.claims) == set(RULES)


def test_arms_differ_in_objective_and_seed_only(grid: Grid) -> None:
    runs = [run for run in expand(grid, "real") if run.experiment.kind == "train" and run.seed in (1, 2, 3)]
    rest: dict[str, set[str]] = {}
    for run in runs:
        config = {key: value for key, value in run.settings["config"].items() if key not in ("objective", "seed")}
        rest.setdefault(run.settings["config"]["data"], set()).add(yaml.safe_dump([config, run.settings["evaluate"]]))
    assert {len(kinds) for kinds in rest.values()} == {1}


def test_the_search_uses_other_problems_and_another_seed(grid: Grid, registration: Registration) -> None:
    assert registration.search is not None
    prefixes = (registration.search.full, str(registration.search.lora))
    for run in expand(grid, "real"):
        if run.experiment.kind == "train":
            searching = run.arm.startswith(prefixes)
            assert (run.seed == 0) == searching
            assert {one["split"] for one in run.settings["evaluate"]} == {"validation" if searching else "test"}


def test_a_task_that_is_not_registered_and_prefixes_that_begin_others_are_refused(tmp_path: Path) -> None:
    source = yaml.safe_load((Path(__file__).parents[2] / "paper_repro" / "real.yaml").read_text(encoding="utf-8"))
    for change, message in (
        (lambda one: one["experiments"][0].update(tasks=["chess"]), "chess"),
        (lambda one: one["registration"]["tasks"]["antonyms"].update(prefix="first-letter-x-"), "begins another"),
    ):
        wrong = copy.deepcopy(source)
        change(wrong)
        file = tmp_path / "grid.yaml"
        file.write_text(yaml.safe_dump(wrong))
        with pytest.raises(InputError, match=message):
            load_grid(file)


def test_gains_are_those_over_the_null_control_beside_the_forecast(made: Made, registration: Registration) -> None:
    rates = {"task-reward-0-1": 0.9, "tempered-2-0": 0.7, "tempered-1-0": 0.5}
    found = study(on_task(made, "first-letter-", rates, 0.9, forecast=0.65), registration)
    rows = {row["arm"]: row for row in gain_rows(found, "first-letter")}
    assert set(rows) == {"forecast@2", "task-reward-0-1", "tempered-2-0"}  # neither the control nor the base
    evidence = found.tasks["first-letter"]
    own, control = (
        np.mean([np.divide(t["correct"], t["samples"]) for t in evidence.arms[name].problems()])
        for name in ("tempered-2-0", "tempered-1-0")
    )
    assert rows["tempered-2-0"]["mean"] == pytest.approx(own - control)
    assert rows["forecast@2"]["mean"] == pytest.approx(0.65 - evidence.arms["base"].scores("pass@1").mean())
    assert all(-1 <= row["low"] <= row["mean"] <= row["high"] <= 1 for row in rows.values())


# --- the rules -----------------------------------------------------------------------------------------------------


def test_the_base_model_decides_on_the_kind(made: Made, registration: Registration) -> None:
    rows = on_task(made, "first-letter-", HOPED, 0.6) | on_task(made, "parity-", HOPED, 0.9)
    found = study(rows, registration)
    assert (found.of_kind(True), found.of_kind(False)) == (["parity"], ["first-letter"])


def test_correlation_and_area_by_hand(made: Made, registration: Registration) -> None:
    rows = on_task(made, "parity-", {}, 0.5)
    for row, areas in zip(rows.values(), ([0.5, None, 1.0], [0.7, None, None], [None, None, 0.8]), strict=True):
        (table,) = row["result"]["checkpoints"]["base"]["problems"].values()
        table |= {"auc": areas, "corr_xx": [4.0, 1.0, 0.0], "corr_rr": [1.0, 1.0, 1.0], "corr_xr": [1.0, -0.2, 0.0]}
    base = study(rows, registration).tasks["parity"].base
    assert base is not None
    area, correlation = tasks.auc(base), tasks.correlation(base)
    assert area is not None
    assert correlation is not None
    assert area.mean == pytest.approx((0.6 + 0.9) / 2)
    assert correlation.mean == pytest.approx((0.5 - 0.2) / 2)


@pytest.mark.parametrize(
    ("aligned", "other", "expected"),
    [
        (HOPED, NOT_HOPED, {"aligned": "supported", "not-aligned": "supported"}),
        (NOT_HOPED, HOPED, {"aligned": "contradicted", "not-aligned": "contradicted"}),
        ({**HOPED, "task-reward-0-1": 0.45}, NOT_HOPED, {"aligned": "undecided", "not-aligned": "supported"}),
        ({**HOPED, "sharpening-1-0": 0.65}, NOT_HOPED, {"aligned": "undecided", "not-aligned": "supported"}),
    ],
)
def test_shares_of_the_gain(
    made: Made, registration: Registration, aligned: dict[str, float], other: dict[str, float], expected: dict[str, str]
) -> None:
    found = study(whole(made, registration, aligned, other), registration)
    assert {claim: outcome(claim, found) for claim in expected} == expected


def test_a_share_is_tested_by_the_paired_contrast_corrected_over_all_tests(
    made: Made, registration: Registration
) -> None:
    found = study(whole(made, registration, HOPED, NOT_HOPED), registration)
    parts = rules_tasks.aligned(found)
    assert len(parts) == len(registration.without_reward) * len(found.of_kind(True))
    raw = []
    for part in parts:
        task, arm = part.test.split(": ")[0], part.test.split(": ")[1].split()[0]
        arms = found.tasks[task].arms
        own, base, reward = (
            np.array([np.array(table["correct"]) / 16 for table in arms[name].problems()])
            for name in (arm, "base", registration.task_reward)
        )
        contrast = (own - base) - 0.5 * (reward - base)
        assert f"share taken {contrast.mean():.3f} [" in part.reason
        raw.append(tasks_p(contrast))
    smallest = min(raw) * len(raw)
    assert any(f"Holm p = {smallest:.2g}" in part.reason for part in parts)


def tasks_p(contrast: np.ndarray) -> float:
    """Return the p-value of the mean of a two-way table with crossed seeds and problems, from the mean squares."""
    S, P = contrast.shape
    seeds, problems, grand = contrast.mean(1), contrast.mean(0), contrast.mean()
    squares = [P * ((seeds - grand) ** 2).sum() / (S - 1), S * ((problems - grand) ** 2).sum() / (P - 1)]
    rest = ((contrast - seeds[:, None] - problems + grand) ** 2).sum() / ((S - 1) * (P - 1))
    degrees = [S - 1, P - 1, (S - 1) * (P - 1)]
    total = squares[0] + squares[1] - rest
    if total >= max(squares):
        freedom = total**2 / sum(m * m / f for m, f in zip([*squares, rest], degrees, strict=True))
    else:
        total, freedom = max(squares), degrees[int(np.argmax(squares))]
    return float(2 * scipy.stats.t.sf(abs(grand) / np.sqrt(total / (S * P)), freedom))


def test_thresholds_come_from_the_registration(made: Made, registration: Registration) -> None:
    rows = whole(made, registration, HOPED, NOT_HOPED)
    assert outcome("aligned", study(rows, registration)) == "supported"
    strict = registration.model_copy(update={"share": 0.99})
    assert outcome("aligned", study(rows, strict)) == "contradicted"
    assert outcome("null-stays", study(rows, registration.model_copy(update={"null_margin": 0.3}))) == "supported"
    every = registration.model_copy(update={"aligned_from": 0.5})
    assert study(rows, every).of_kind(False) == []
    assert outcome("coverage", study(rows, every)) == "undecided"


def columns(rows: Results, arm: str, name: str, value: Any) -> None:
    for row in rows.values():
        if row["arm"].endswith(arm):
            for checkpoint in row["result"]["checkpoints"].values():
                for table in checkpoint["problems"].values():
                    table[name] = [value] * len(table["ids"])


def test_coverage_is_lost_kept_or_not_known(made: Made, registration: Registration) -> None:
    rows = whole(made, registration, HOPED, NOT_HOPED)
    columns(rows, "-base", "correct", 8)
    for arm in ("-tempered-4-0", "-sharpening-1-0"):
        columns(rows, arm, "correct", 8)
    assert outcome("coverage", study(rows, registration)) == "contradicted"  # nothing is lost
    for row in rows.values():  # on half of the problems no sample is right any more
        if row["arm"].endswith(("-tempered-4-0", "-sharpening-1-0")):
            for table in row["result"]["checkpoints"]["last"]["problems"].values():
                table["correct"] = [16 * (i % 2) for i in range(len(table["ids"]))]
    assert outcome("coverage", study(rows, registration)) == "supported"
    for row in rows.values():  # on one problem: -1/24, and nothing to -1/8 by the interval
        if row["arm"].endswith(("-tempered-4-0", "-sharpening-1-0")):
            for table in row["result"]["checkpoints"]["last"]["problems"].values():
                table["correct"] = [8 * (i > 0) for i in range(len(table["ids"]))]
    assert outcome("coverage", study(rows, registration)) == "undecided"
    few = {run: row for run, row in rows.items() if row["arm"] != "parity-tempered-4-0"}
    assert outcome("coverage", study(few, registration)) == "undecided"


@pytest.mark.parametrize(("correct", "expected"), [(8, "supported"), (14, "contradicted")])
def test_the_null_control_stays_or_leaves(made: Made, registration: Registration, correct: int, expected: str) -> None:
    rows = whole(made, registration, HOPED, NOT_HOPED)
    columns(rows, "-base", "correct", 8)
    columns(rows, "-tempered-1-0", "correct", correct)
    assert outcome("null-stays", study(rows, registration)) == expected


@pytest.mark.parametrize(("reached", "expected"), [(12, "supported"), (16, "contradicted")])
def test_the_forecast_comes_true_or_not(made: Made, registration: Registration, reached: int, expected: str) -> None:
    rows = whole(made, registration, HOPED, NOT_HOPED)
    for arm in registration.forecast:
        columns(rows, f"-{arm}", "correct", reached)
    assert outcome("forecast", study(rows, registration)) == expected  # .75 is forecast


def searched(made: Made, prefix: str, task: str, by_rate: dict[float, tuple[float, float]]) -> Results:
    """Return the search: for each rate pass@1 of the task reward and -log pi of tempered, whose log p is fixed."""
    rows: Results = {}
    for rate, (accuracy, entropy) in by_rate.items():
        for arm in ("task-reward-0-1", "tempered-4-0"):
            row = copy.deepcopy(made(f"{prefix}{rate:g}-{task}-{arm}", 0, OBJECTIVES[arm], accuracy, model="smollm2"))
            row["settings"]["config"]["optimizer"] = {"learning_rate": rate}
            for checkpoint in row["result"]["checkpoints"].values():
                table = checkpoint["problems"].pop("embedded")
                table |= {
                    "correct": [round(16 * accuracy)] * 24,
                    "base_logprob": [-1.0] * 24,
                    "logprob": [-entropy] * 24,
                }
                checkpoint["problems"][task] = table
            rows[row["id"]] = row
    return rows


def test_the_rate_is_picked_by_mean_rank_of_each_arm_s_own_objective(made: Made, registration: Registration) -> None:
    rows = searched(made, "rate-", "first-letter", {5e-6: (0.5, 1.0), 1e-5: (0.75, 2.0), 2e-5: (0.875, 0.5)})
    rows |= searched(made, "rate-", "parity", {5e-6: (0.5, 0.1), 1e-5: (0.75, 0.3), 2e-5: (0.625, 0.2)})
    found = study(rows, registration)
    # 5e-6: 3, 2, 3, 3; 1e-5: 2, 1, 1, 1; 2e-5: 1, 3, 2, 2
    assert rules_tasks.mean_ranks(found, "rate-") == pytest.approx({5e-6: 2.75, 1e-5: 1.25, 2e-5: 2.0})
    assert outcome("rate", found) == "undecided"  # nothing is trained with it
    trained = on_task(made, "parity-", HOPED, 0.6)
    assert outcome("rate", study({**rows, **trained}, registration)) == "supported"
    for row in trained.values():
        row["settings"]["config"]["optimizer"]["learning_rate"] = 2e-5
    assert outcome("rate", study({**rows, **trained}, registration)) == "contradicted"
    del rows["rate-2e-05-parity-tempered-4-0-s0"]
    assert rules_tasks.mean_ranks(study(rows, registration), "rate-") == {}


@pytest.mark.parametrize(("best", "expected"), [(1e-4, "supported"), (2e-5, "contradicted")])
def test_adapters_rate(made: Made, registration: Registration, best: float, expected: str) -> None:
    rows = searched(made, "rate-", "first-letter", {5e-6: (0.5, 1.0), 1e-5: (0.75, 2.0)})
    rows |= searched(made, "rate-", "parity", {5e-6: (0.9, 3.0), 1e-5: (0.75, 2.0)})  # adapters are not searched there
    lora = {rate: (0.8 if rate == best else 0.5, 2.0 if rate == best else 1.0) for rate in (2e-5, 1e-4)}
    rows |= searched(made, "lora-", "first-letter", lora)
    assert outcome("lora-rate", study(rows, registration)) == expected


def test_an_objective_s_own_value(made: Made) -> None:
    arms = gather(searched(made, "rate-", "parity", {1e-5: (0.5, 2.0)}).values())
    values = {arm.objective.alpha: rules_tasks.own_objective(arm) for arm in arms.values() if arm.objective is not None}
    assert values == pytest.approx({0.0: 0.5, 4.0: 4 * -1.0 + 2.0})


def test_nothing_is_decided_without_results(grid: Grid, registration: Registration) -> None:
    parts: list[Part] = [part for rule in RULES.values() for part in rule(study({}, registration))]
    assert {part.outcome for part in parts} == {"undecided"}
    assert [verdict.outcome for verdict in judge(grid, [], study({}, registration))] == ["undecided"] * len(grid.claims)


# --- the study, small ----------------------------------------------------------------------------------------------


def small(tmp_path: Path) -> Path:
    """Return a little of the declared study, the embedded model and its own task in the place of the others."""
    whole = yaml.safe_load((Path(__file__).parents[2] / "paper_repro" / "real.yaml").read_text(encoding="utf-8"))
    kept = {name: whole["registration"]["tasks"][name] for name in ("first-letter", "parity")}
    whole["registration"]["tasks"] = {
        name: {**task, "data": "embedded", "template": "plain"} for name, task in kept.items()
    }
    chosen = []
    for one in whole["experiments"]:
        if one["id"] not in ("base", "rate-5e-6", "regimes"):
            continue
        little = {"model": "embedded", "dtype": "float32", "max_length": 40, "engine": "transformers"}
        if one["kind"] == "train":
            little |= {"steps": 2, "prompts_per_step": 2, "samples_per_prompt": 2, "checkpoint_every": 2}
            little["evaluation"] = {**one["settings"]["evaluation"], "problems": 2}
        settings = {**one["settings"], **little}
        evaluate = [{**asked, "problems": 4} for asked in one["evaluate"]]
        tasks = [name for name in one["tasks"] if name in kept]
        chosen.append({**one, "settings": settings, "evaluate": evaluate, "tasks": tasks, "seeds": one["seeds"][:2]})
    whole["experiments"] = chosen
    file = tmp_path / "study.yaml"
    file.write_text(yaml.safe_dump(whole))
    return file


def test_the_study_runs_and_is_reported_at_any_time(tmp_path: Path) -> None:
    grid = load_grid(small(tmp_path))
    runs = expand(grid, "real")
    wanted = {"parity-base-s1", "parity-base-s2", "parity-tempered-4-0-s1", "rate-5e-6-parity-task-reward-0-1-s0"}
    chosen = [run for run in runs if run.id in wanted]
    assert len(chosen) == len(wanted)
    store = Store(tmp_path / "results", tmp_path / "work")
    assert run_local(chosen, store, jobs=2, cost=CostModel(grid.rates)) == []
    assert store.current(runs).keys() == wanted
    (table,) = store.current(runs)["parity-tempered-4-0-s1"]["result"]["checkpoints"]["last"]["problems"].values()
    assert len(table["greedy"]) == 4
    assert set(table["greedy"]) <= {0, 1}
    written = write_report(grid, runs, store, page=tmp_path / "page.html")
    assert {verdict.outcome for verdict in written.verdicts} == {"undecided"}
    for name in ("tasks", "measures", "arms"):
        assert (written.folder / f"{name}.csv").read_text(encoding="utf-8").count("\n") > 1
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert 'id="run-rate-5e-6-parity-task-reward-0-1-s0"' in page
    assert "<td>parity" in page.partition('id="tasks-table"')[2].partition("</table>")[0]


def test_a_budget_is_spent_in_the_declared_order(grid: Grid) -> None:
    runs = expand(grid, "real")
    cost = CostModel(grid.rates)
    half = within_budget(runs, cost, sum(map(cost.seconds, runs)) / 4, 2)
    assert {run.experiment.id.split("-")[0] for run in half} >= {"base", "rate", "regimes"}
    assert not any(run.arm.startswith("lora-") for run in half)
