"""The theory's public names, what importing them costs, and tables whose numbers are the results' and the commands'."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from sharpen import theory
from sharpen.cli.main import app
from sharpen.objective import InputError, Objective, preset
from sharpen.theory.core.problem import DEFAULT_PROBLEM

TEMPERED = Objective(alpha=2.0)


def command(*arguments: str) -> dict[str, Any]:
    done = CliRunner().invoke(app, ["theory", *arguments, "--json"])
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def column(frame: Any, name: str) -> list[Any]:
    """Return a column as JSON would have it, null for a number that is not finite."""
    values = frame[name].tolist()
    return [None if isinstance(x, float) and not math.isfinite(x) else x for x in values]


def test_importing_the_theory_imports_none_of_the_large_libraries() -> None:
    large = ("scipy", "sympy", "jax", "pandas", "torch", "matplotlib")
    check = f"import sys, sharpen.theory; print([name for name in {large} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_public_name_is_there_and_listed_once() -> None:
    names = theory.__all__
    assert len(set(names)) == len(names)
    assert set(names) <= set(dir(theory))
    for name in names:
        assert getattr(theory, name) is not None
    assert set(names).isdisjoint({"core", "optima", "instability", "estimators", "proofs"})  # rooms keep their names
    with pytest.raises(AttributeError, match="optimun"):
        _ = theory.optimun  # pyright: ignore[reportAttributeAccessIssue]


def test_the_list_for_type_checkers_is_the_one_that_is_read() -> None:
    assert set(theory.__all__) == set(theory._NAMES)


def test_a_problem_of_lists_arrays_and_text() -> None:
    text = theory.problem("0.5,0.3,0.2", "1")
    for given in (([0.5, 0.3, 0.2], [0, 1, 0]), (np.array([0.5, 0.3, 0.2]), np.array([0.0, 1.0, 0.0]))):
        found = theory.problem(*given)
        assert found.base.tolist() == text.base.tolist()
        assert found.reward.tolist() == text.reward.tolist()
    frame = text.frame()
    assert frame["base"].tolist() == text.base.tolist()
    assert frame["outcome"].tolist() == [0, 1, 2]
    with pytest.raises(InputError, match=r"^reward: got"):
        theory.problem([0.5, 0.5], "7")


def test_the_response() -> None:
    grid = np.linspace(0.0, 4.0, 9)
    found = theory.response(TEMPERED, DEFAULT_PROBLEM, "alpha", grid)
    frame, report = found.frame(), command("response")
    assert list(frame) == ["alpha", "expected_reward", "derivative"]
    assert frame["alpha"].tolist() == found.grid.tolist() == report["grid"]
    for name in ("expected_reward", "derivative"):
        assert frame[name].tolist() == getattr(found, name).tolist() == report[name]
    held = theory.response(TEMPERED, DEFAULT_PROBLEM, "beta_inv", [0.0, 1.0]).frame()
    assert next(iter(held)) == "beta_inv"
    turns = theory.turning_points(TEMPERED, theory.Problem([0.45, 0.3, 0.15, 0.1], [0, 1, 0, 0]), 0.0, 8.0)
    assert turns.frame().to_dict("records") == [
        {"alpha": each.alpha, "expected_reward": each.expected_reward, "kind": each.kind} for each in turns
    ]


def test_frontiers() -> None:
    report = command("optimum", "--kl", "0.2", "--points", "5")
    edge = theory.frontier(TEMPERED, DEFAULT_PROBLEM, 0.2, 5)
    frame = edge.frame()
    assert {name: column(frame, name) for name in frame} == report["kl_budgets"][0]["frontier"]
    assert frame["kl"].tolist() == edge.kl.tolist()
    outer = theory.hull(TEMPERED, DEFAULT_PROBLEM)
    hull = outer.frame()
    assert hull["exchange"].tolist()[:-1] == outer.exchange.tolist() == report["pareto"]["exchange"]
    assert math.isnan(hull["exchange"].iloc[-1])
    assert hull["outcomes"].tolist() == report["pareto"]["outcomes"]
    curve = theory.kl_curve(TEMPERED, DEFAULT_PROBLEM, "alpha", [1.0, 2.0])
    assert curve.frame()["log_likelihood"].tolist() == curve.log_likelihood.tolist()
    rows = theory.compare_at_equal_kl(DEFAULT_PROBLEM, 0.2)
    power = rows["power"]
    assert power is not None
    table = rows.frame().set_index("policy")
    assert table.loc["power", "parameter"] == power.parameter
    assert theory.compare_at_equal_kl(DEFAULT_PROBLEM, 50.0).frame()["policy"].tolist() == list(rows)


def test_the_optimum() -> None:
    best = theory.optimum(TEMPERED, DEFAULT_PROBLEM)
    frame = best.frame()
    assert frame["probability"].tolist() == best.probabilities.tolist()
    listed = command("optimum")["optimum"]["outcomes"]
    assert {each["outcome"]: each["log_probability"] for each in listed} == frame["log_probability"].to_dict()


@pytest.mark.parametrize("majority", [True, False])
def test_coverage(majority: bool) -> None:
    found = theory.coverage(TEMPERED, DEFAULT_PROBLEM, [1, 8, 64], best_of=3, marginal=True, majority=majority)
    flags = ["--k", "1,8,64", "--best-of", "3", "--marginal", "--majority" if majority else "--no-majority"]
    frame, report = found.frame(), command("coverage", *flags)
    assert list(frame) == ["policy", "k", "pass_at_k", *(["maj_at_k"] if majority else [])]
    for name, rows in frame.groupby("policy", sort=False):
        assert rows["k"].tolist() == report["k"]
        assert rows["pass_at_k"].tolist() == report["policies"][name]["pass_at_k"]
        if majority:
            assert rows["maj_at_k"].tolist() == report["policies"][name]["maj_at_k"]
    assert found.crossover == report["crossover"]
    one = found.policies["base"]
    assert one.frame()["pass_at_k"].tolist() == one.pass_at_k.tolist()


def test_coverage_of_a_mix_of_problems_and_prompts() -> None:
    other = theory.Problem([0.9, 0.1], [0, 1])
    found = theory.coverage(TEMPERED, [DEFAULT_PROBLEM, theory.Prompt(other, weight=3.0)], [2])
    rates = np.array([0.37, 0.1])
    assert found.policies["base"].pass_at_k == pytest.approx([0.25 * (1 - 0.63**2) + 0.75 * (1 - 0.9**2)])
    assert found.policies["base"].success == pytest.approx(rates)


def test_sensitivity() -> None:
    found = theory.sensitivity(TEMPERED, DEFAULT_PROBLEM, draws=50)
    report = command("sensitivity", "--draws", "50")["sources"]
    for row in found.frame().to_dict("records"):
        given = report[row["source"]]
        assert row["worst_total_variation"] == given["worst_total_variation"]
        assert row["bound"] == given["bound"]
        assert row["expected_reward_se"] == given["noise"]["expected_reward_se"]
        assert row["flip_radius"] == (math.inf if given["flip_radius"] is None else given["flip_radius"])


def test_fixed_points_and_families() -> None:
    found = theory.fixed_points(TEMPERED, DEFAULT_PROBLEM)
    frame, report = found.frame(), command("fixed-points")
    assert len(frame) == found.total == len(report["fixed_points"])
    for row, point, given in zip(frame.to_dict("records"), found.points, report["fixed_points"], strict=True):
        assert list(row["support"]) == given["support"]
        assert row["kind"] == given["class"] == point.kind
        assert row["value"] == given["value"]
        assert row["expected_reward"] == given["expected_reward"]
        assert row["largest_eigenvalue"] == float(given["eigenvalues"][0])
        assert row["smallest_eigenvalue"] == float(given["eigenvalues"][-1])
    families = theory.stationary_families(TEMPERED, DEFAULT_PROBLEM)
    assert families.frame()["count"].tolist() == [each["count"] for each in report["families"]]
    alone = theory.fixed_points(TEMPERED, theory.Problem([1.0], [0])).frame()
    assert math.isnan(alone["largest_eigenvalue"].iloc[0])


def test_the_phase_portrait() -> None:
    three = theory.Problem([0.5, 0.3, 0.2], [0, 1, 0])
    found = theory.portrait(preset("tempered", reference="policy"), three)
    report = command("phase", "--preset", "tempered", "--reference", "policy")
    frame = found.frame()
    assert frame["share"].tolist() == [each["share"] for each in report["basins"]]
    ends = frame[["probability_0", "probability_1", "probability_2"]]
    assert ends.to_numpy().tolist() == [each["end"] for each in report["basins"]]
    border = found.separatrices[0]
    assert border.frame().to_numpy().tolist() == border.points.tolist() == report["separatrices"][0]["points"]


def test_self_sharpening() -> None:
    frame = theory.self_sharpening(TEMPERED, DEFAULT_PROBLEM, 6).frame()
    rows = command("self-sharpening")["rounds"]
    for name in frame:
        assert column(frame, name) == [row[name] for row in rows]
    tilted = theory.self_sharpening(Objective(alpha=2.0, beta_inv=1.0), DEFAULT_PROBLEM, 2)
    assert tilted.effective_alpha is None
    assert "effective_alpha" not in tilted.frame()


def test_estimators() -> None:
    problem = theory.problem(None, None, "2,6,3,9,4")
    found = theory.estimator_report(preset("task-reward"), problem)
    frame, report = found.frame(), command("estimators")
    for name in frame:
        assert column(frame, name) == [each[name] for each in report["estimators"]]
    assert found.claims.frame()["claim"].tolist() == [each["claim"] for each in report["claims"]]
    assert found.setting.policy.tolist() == report["policy"]


def test_lengths_and_the_gap_to_temperature() -> None:
    model = theory.sequences.IidModel(DEFAULT_PROBLEM.base, 0.05)
    frame = theory.sequences.LengthCurve(model).points([0.9, 1.0, 1.5]).frame()
    report = command("length", "--alphas", "0.9,1,1.5")["curve"]
    for name in frame:
        assert column(frame, name) == [row[name] for row in report]
    gap = theory.sequences.gap(model.markov(), 2.0)
    policies = command("sequences")["policies"]
    for row in gap.frame().to_dict("records"):
        assert row["mean_length"] == policies[row["policy"]]["mean_length"]


def test_verdicts() -> None:
    (found,) = theory.derive("t2")
    assert theory.derive("T2").frame().to_dict("records") == [found.row()]
    assert found.row()["holds"]
    with pytest.raises(InputError, match=r"^seed: got -1"):
        theory.derive("T2", seed=-1)


RESULTS: dict[str, Callable[[], Any]] = {
    "response": lambda: theory.response(TEMPERED, DEFAULT_PROBLEM, "alpha", [1.0, 2.0]),
    "frontier": lambda: theory.frontier(TEMPERED, DEFAULT_PROBLEM, 0.2, 3),
    "coverage": lambda: theory.coverage(TEMPERED, DEFAULT_PROBLEM, [1]),
    "fixed points": lambda: theory.fixed_points(TEMPERED, DEFAULT_PROBLEM),
    "no turning points": lambda: theory.turning_points(TEMPERED, theory.Problem([0.5, 0.5], [0, 1]), 0.0, 2.0),
}


@pytest.mark.parametrize("name", RESULTS)
def test_a_table_is_new_every_time(name: str) -> None:
    result = RESULTS[name]()
    frame = result.frame()
    kept = frame.copy()
    frame["more"] = 0.0
    assert result.frame().equals(kept)
