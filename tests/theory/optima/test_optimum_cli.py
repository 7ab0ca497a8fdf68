"""`sharpen theory optimum` and `response`: JSON against oracles, tables, figures, errors and documentation."""

from __future__ import annotations

import itertools
import json
import math
import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.stats import entropy

from sharpen.cli.main import main
from sharpen.objective import Objective, preset
from sharpen.theory.core.problem import DEFAULT_PROBLEM, Problem
from sharpen.theory.optima.best_of_n import compare_at_equal_kl

DOCS = Path(__file__).parents[3] / "docs" / "theory-optimum.md"
P = np.array([0.40, 0.25, 0.15, 0.12, 0.08])
R = np.array([0.0, 1.0, 0.0, 1.0, 0.0])
FIELDS = {"expected_reward", "value", "entropy", "kl_to_base", "support_size", "outcomes"}


def run(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as caught:
        main(["theory", *arguments])
    out, err = capsys.readouterr()
    assert isinstance(caught.value.code, int)
    return caught.value.code, out, err


def run_json(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> dict:
    code, out, err = run([*arguments, "--json"], capsys)
    assert (code, err) == (0, "")

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    return json.loads(out, parse_constant=refuse)


def tempered(alpha: float, p: np.ndarray = P) -> np.ndarray:
    return p**alpha / (p**alpha).sum()


def policy(row: dict, n: int = 5) -> np.ndarray:
    pi = np.zeros(n)
    for each in row["outcomes"]:
        pi[each["outcome"]] = each["probability"]
    return pi


@pytest.mark.parametrize("name", ["task-reward", "sharpening", "tempered", "tilted"])
def test_json_of_every_preset(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    report = run_json(["optimum", "--preset", name], capsys)
    assert Objective(**report["objective"]) == preset(name)
    wanted = {
        "task-reward": R * P / (R @ P),
        "sharpening": np.eye(5)[0],
        "tempered": tempered(2.0),
        "tilted": P * np.exp(10 * R) / (P @ np.exp(10 * R)),
    }[name]
    for row in (report["base"], report["optimum"], report["softmax_gradient"]):
        assert set(row) >= FIELDS
        pi = policy(row)
        assert row["support_size"] == np.count_nonzero(pi)
        assert row["expected_reward"] == pytest.approx(pi @ R, abs=1e-14)
        assert row["entropy"] == pytest.approx(entropy(pi), abs=1e-12)
        assert row["kl_to_base"] == pytest.approx(entropy(pi, P), abs=1e-12)
    np.testing.assert_allclose(policy(report["optimum"]), wanted, atol=1e-14)
    softmax = {"task-reward": np.eye(5)[1]}.get(name, wanted)
    np.testing.assert_allclose(policy(report["softmax_gradient"]), softmax, atol=1e-12)
    face = {"task-reward": (2, 0.37), "sharpening": (1, 0.4)}.get(name)
    assert (report["face"] is None) == (face is None) == (report["limits"] is not None)
    if face is not None:
        assert (report["face"]["size"], report["face"]["base_mass"]) == (face[0], pytest.approx(face[1], rel=1e-14))
    assert report["optimum"]["unique"] is (name != "task-reward")


def test_limits_and_hull(capsys: pytest.CaptureFixture[str]) -> None:
    report = run_json(["optimum", "--alpha", "3"], capsys)
    kept = np.where(R > 0, P**3, 0.0)
    np.testing.assert_allclose(policy(report["limits"]["beta_inv"]), kept / kept.sum(), rtol=1e-13)
    np.testing.assert_allclose(policy(report["limits"]["alpha"]), np.eye(5)[0])
    np.testing.assert_allclose(policy(report["limits"]["base"]), P)
    assert report["pareto"]["outcomes"] == [1, 0]
    assert report["pareto"]["exchange"] == [pytest.approx(1 / math.log(0.4 / 0.25))]


def test_families_at_equal_kl_by_scipy_and_by_draws(capsys: pytest.CaptureFixture[str]) -> None:
    answers = [0, 1, 2, 1, 0]
    report = run_json(["optimum", "--alpha", "3", "--kl", "0.1,0.3", "--answers", "0,1,2,1,0"], capsys)
    mass = np.array([0.48, 0.37, 0.15])[answers]
    laws = {
        "objective": lambda x: tempered(1 + x),
        "power": lambda x: tempered(1 + x),
        "tilt": lambda x: P * np.exp(x * R) / (P @ np.exp(x * R)),
        "answer_power": lambda x: P * mass**x / (P @ mass**x),
    }
    for budget in report["kl_budgets"]:
        for name, law in laws.items():
            x = brentq(lambda x, law=law: entropy(law(x), P) - budget["kl"], 0.0, 30.0, xtol=1e-14)  # noqa: B023
            row = budget["policies"][name]
            parameter = row["beta_inv"] if name == "tilt" else row["alpha"] - 1.0
            assert parameter == pytest.approx(x, rel=1e-8)
            assert row["expected_reward"] == pytest.approx(law(x) @ R, rel=1e-8)
            assert row["entropy"] == pytest.approx(entropy(law(x)), rel=1e-8)
            assert row["log_likelihood"] == pytest.approx(law(x) @ np.log(P), rel=1e-8)
    # With whole N the law is a count over all draws: at its own KL the command finds that N again.
    pi = np.zeros(5)
    for draws in itertools.product(range(5), repeat=3):
        pi[min(draws)] += math.prod(P[list(draws)])  # outcomes are in the order of their likelihood
    kl = float(entropy(pi, P))
    row = run_json(["optimum", "--kl", repr(kl)], capsys)["kl_budgets"][0]["policies"]["best_of_n"]
    assert row["samples"] == pytest.approx(3.0, rel=1e-8)
    assert row["expected_reward"] == pytest.approx(pi @ R, rel=1e-8)


def test_the_frontier_is_not_improved_by_random_policies(capsys: pytest.CaptureFixture[str]) -> None:
    report = run_json(["optimum", "--kl", "0.2", "--points", "9"], capsys)
    edge = report["kl_budgets"][0]["frontier"]
    reward, score = np.array(edge["expected_reward"]), np.array(edge["expected_score"])
    assert reward.size == 9
    assert np.all(np.diff(reward) < 0)
    assert np.all(np.diff(score) > 0)
    rng = np.random.default_rng(0)
    pi = P * np.exp(rng.normal(scale=0.6, size=(20_000, 5)))
    pi /= pi.sum(axis=1, keepdims=True)
    within = pi[np.sum(pi * np.log(pi / P), axis=1) <= 0.2]
    assert len(within) > 1000
    for r, s in zip(within @ R, within @ np.log(P), strict=True):
        assert not np.any((r >= reward) & (s >= score) & ((r > reward + 1e-9) | (s > score + 1e-9)))


def test_sharpening_answers(capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--base", "0.4,0.3,0.3", "--reward", "1,2", "--answers", "0,1,1", "--alpha", "2"]
    report = run_json(["optimum", *flags], capsys)
    votes = Counter({0: 0.4, 1: 0.6})
    weights = np.array([0.4 * votes[0], 0.3 * votes[1], 0.3 * votes[1]])
    np.testing.assert_allclose(policy(report["answer_optimum"], 3), weights / weights.sum(), rtol=1e-13)
    assert report["optimum"]["expected_reward"] < 0.6 < report["answer_optimum"]["expected_reward"]


def test_answer_power_is_in_the_library_too() -> None:
    problem = Problem([0.4, 0.3, 0.3], [0, 1, 1])
    found = compare_at_equal_kl(problem, 0.05, [0, 1, 1])["answer-power"]
    assert found is not None
    assert found.kl == pytest.approx(0.05, rel=1e-9)
    a = found.probabilities[0]
    assert a * math.log(a / 0.4) + (1 - a) * math.log((1 - a) / 0.6) == pytest.approx(0.05, rel=1e-9)
    assert compare_at_equal_kl(problem, -math.log(0.6), [0, 1, 1])["answer-power"] is None
    assert compare_at_equal_kl(problem, 0.05, with_best_of_n=False)["best-of-n"] is None


def test_log_probabilities_and_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.save(tmp_path / "far.npy", np.array([0.0, -1e6, -np.inf]))
    flags = ["--base", f"log:{tmp_path / 'far.npy'}", "--reward", "1,2", "--alpha", "2"]
    report = run_json(["optimum", *flags], capsys)
    assert [each["log_probability"] for each in report["optimum"]["outcomes"]] == [0.0, -2e6]
    assert report["limits"]["beta_inv"]["expected_reward"] == 1.0
    assert run_json(["optimum", "--base", "log:0,-1000000", "--top", "1"], capsys)["base"]["support_size"] == 2


def test_the_response_by_finite_differences_and_a_scan(capsys: pytest.CaptureFixture[str]) -> None:
    p, r = np.array([0.45, 0.3, 0.15, 0.1]), np.array([0.0, 1, 0, 0])
    flags = ["--base", "0.45,0.3,0.15,0.1", "--reward", "0,1,0,0", "--to", "8", "--points", "17"]
    report = run_json(["response", *flags], capsys)
    grid, step = np.array(report["grid"]), 1e-5

    def reward(alpha: float) -> float:
        return float(tempered(alpha, p) @ r)

    np.testing.assert_allclose(grid, np.linspace(0, 8, 17))
    np.testing.assert_allclose(report["expected_reward"], [reward(a) for a in grid], rtol=1e-12)
    slopes = [(reward(a + step) - reward(a - step)) / (2 * step) for a in grid]
    np.testing.assert_allclose(report["derivative"], slopes, atol=1e-9)
    (point,) = report["turning_points"]
    top: Any = brentq(lambda a: tempered(a, p) @ (r * np.log(p)) - reward(a) * (tempered(a, p) @ np.log(p)), 0.5, 3.0)
    assert point == {
        "alpha": pytest.approx(top, abs=1e-9),
        "expected_reward": pytest.approx(reward(top)),
        "kind": "maximum",
    }
    assert report["stops_helping"] == point["alpha"]
    assert report["below_base"] == pytest.approx(brentq(lambda a: reward(a) - 0.3, 1.05, 8.0), abs=1e-9)


def test_the_response_to_beta_inv(capsys: pytest.CaptureFixture[str]) -> None:
    report = run_json(["response", "--over", "beta_inv", "--alpha", "1", "--to", "2", "--points", "5"], capsys)
    odds = 0.37 / 0.63 * np.exp(report["grid"])
    np.testing.assert_allclose(report["expected_reward"], odds / (1 + odds), rtol=1e-12)
    np.testing.assert_allclose(report["derivative"], odds / (1 + odds) ** 2, rtol=1e-11)
    assert (report["turning_points"], report["stops_helping"], report["below_base"]) == ([], None, None)
    assert report["base_expected_reward"] == pytest.approx(DEFAULT_PROBLEM.expected_reward(P))


@pytest.mark.parametrize(
    "arguments",
    [
        ["optimum", "--kl", "0.1,0.2,5", "--answers", "0,1,2,1,0", "--preset", "tilted"],
        ["optimum", "--kl", "0.2", "--alpha", "1"],
        ["optimum", "--base", "zipf:100000", "--reward", "indices:70000,9999", "--alpha", "0.1"],
        ["optimum", "--reference", "policy", "--alpha", "2"],
        ["optimum", "--base", "log:0,-1000000", "--reward", "1"],
        ["response", "--base", "zipf:50", "--to", "10000"],
        ["response", "--preset", "tilted", "--over", "beta_inv"],
    ],
)
def test_tables_fit_eighty_columns(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(arguments, capsys)
    assert code == 0
    assert max(len(line.rstrip()) for line in out.splitlines()) <= 80
    assert "…" not in out


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["optimum", "--kl", "0.1,0.3"], "KL at most 0.3"),
        (["optimum", "--normalization", "none", "--beta-inv", "1"], "tilted optimum"),
        (["response", "--base", "0.45,0.3,0.15,0.1", "--reward", "1"], "maximum"),
        (["response", "--over", "beta_inv"], "base"),
    ],
)
def test_figures(arguments: list[str], word: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*arguments, "--plot", str(tmp_path / "figure.svg")], capsys)[0] == 0
    assert word in (tmp_path / "figure.svg").read_text()


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["optimum", "--alpha", "nan"], "alpha"),
        (["optimum", "--kl", "nan"], "kl"),
        (["optimum", "--kl", "-0.1"], "kl"),
        (["optimum", "--kl", "a"], "kl"),
        (["optimum", "--kl", "0.1", "--points", "1", "--json"], "points"),
        (["optimum", "--kl", "0.1", "--reference", "policy"], "reference"),
        (["optimum", "--answers", "0,1"], "answers"),
        (["optimum", "--answers", "0,1,2,3,x"], "answers"),
        (["optimum", "--answers", "0,1,2,3,-2"], "answers"),
        (["optimum", "--answers", "0,1,2,3,4", "--normalization", "mean"], "normalization"),
        (["optimum", "--top", "0"], "top"),
        (["optimum", "--base", "log:0,0"], "base"),
        (["optimum", "--base", "log:nan,0"], "base"),
        (["optimum", "--base", "log:missing.npy"], "base"),
        (["optimum", "--base", "log:"], "base"),
        (["optimum", "--reward", "0,7"], "reward"),
        (["optimum", "--length", "1,1,1,1,0"], "length"),
        (["optimum", "--plot", "figure.gif"], "figure"),
        (["response", "--over", "gamma"], "over"),
        (["response", "--from", "-1"], "from"),
        (["response", "--from", "3", "--to", "2"], "from"),
        (["response", "--to", "inf"], "to"),
        (["response", "--points", "1"], "points"),
        (["response", "--preset", "sharpening"], "mode"),
        (["response", "--reference", "policy"], "reference"),
        (["response", "--base", "0.5,0.6"], "base"),
        (["response", "--plot", "/dev/null/figure.png"], "figure"),
    ],
)
def test_bad_input_is_one_line_and_status_two(
    arguments: list[str], word: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = run(arguments, capsys)
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert err.startswith("error: ")
    assert word in err


def test_the_documented_examples_are_what_the_commands_print(capsys: pytest.CaptureFixture[str]) -> None:
    blocks = re.findall(r"```console\n\$ sharpen theory (.*?)\n(.*?)```", DOCS.read_text(), re.DOTALL)
    assert [flags.split()[0] for flags, _ in blocks] == ["optimum", "optimum", "response"]
    for flags, shown in blocks:
        code, out, _ = run(flags.split(), capsys)
        assert code == 0
        assert [line.rstrip() for line in out.strip().splitlines()] == shown.strip().splitlines()
