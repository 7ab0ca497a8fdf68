"""Findings: the command on real runs, rules that say no where the numbers do, and the committed full run."""

from __future__ import annotations

import json
import re
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from scipy.stats import binomtest

from sharpen.cli.main import main
from sharpen.cli.schemas.commands import schema_of
from sharpen.cli.schemas.toy import Findings, Learners, Target
from sharpen.objective import Objective
from sharpen.theory.optima.optimum import optimum
from sharpen.toy.problems.automata import sequences
from sharpen.toy.studies.findings import FINDINGS
from sharpen.toy.studies.findings_core import Runs, at_end, fixed_share
from sharpen.toy.studies.findings_rates import (
    CUTS,
    ELSEWHERE,
    HAZARD,
    LENGTH_ALPHAS,
    ROUND,
    TO_GIBBS,
    TOKENS,
    force_at_gibbs,
    predicted_length,
)

ROOT = Path(__file__).parents[3]


def ends(measures: dict[str, list[float]], **axes: list) -> Runs:
    """Return a table of runs at their last step only."""
    size = len(next(iter(measures.values())))
    columns = {name: np.array(values) for name, values in (measures | axes).items()}
    return {"step": np.full(size, 10), "seed": np.arange(size), **columns}


@pytest.mark.parametrize(("name", "number"), [("face", "KL within the face, rloo"), ("mode", "E[r], correct mode")])
def test_the_command_decides_from_runs(
    name: str, number: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A few seeds: enough for the means, too few for the Wilson intervals of ``mode``, whose rule then says no."""
    with pytest.raises(SystemExit) as exited:
        main(["toy", "findings", name, "--seeds", "3", "--out", str(tmp_path), "--json"])
    assert exited.value.code == 0
    report = json.loads(capsys.readouterr().out)
    jsonschema.validate(report, schema_of("toy findings"))
    (row,) = report["findings"]
    assert (row["id"], row["holds"]) == (name, name == "face")
    mean, low, high = row["numbers"][number]
    assert 0.01 < low <= mean <= high
    assert len(list(tmp_path.glob(f"{name}/*/sweep.parquet"))) == 2


@pytest.mark.parametrize(
    ("arguments", "message"), [(["luck"], "finding: got 'luck'"), (["face", "--seeds", "1"], "seeds")]
)
def test_bad_input(arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exited:
        main(["toy", "findings", *arguments, "--out", str(tmp_path)])
    assert exited.value.code == 2
    assert message in capsys.readouterr().err


def test_intervals_are_over_the_seeds_of_one_setting() -> None:
    runs = ends({"top1": [1.0, 3.0, 100.0]}, learner=["a", "a", "b"])
    found = at_end(runs, "top1", learner="a")
    assert found.mean == 2.0
    assert found.high == pytest.approx(2.0 + 12.706204736)  # t(0.975, 1) times a standard error of 1


def test_shares_have_wilson_intervals() -> None:
    runs = ends({"top1": [0.999, 0.995, 0.5, 1.0], "top_outcome": [0.0, 1.0, 0.0, 0.0]})
    interval = binomtest(2, 4).proportion_ci(0.95, method="wilson")
    assert fixed_share(runs, 0) == (0.5, pytest.approx(interval.low), pytest.approx(interval.high))
    assert fixed_share(runs).mean == 0.75


@pytest.mark.parametrize(
    ("wrong", "correct", "top", "holds"),
    [
        (0.0, 1.0, 0.999, True),
        (0.3, 1.0, 0.999, False),
        (0.0, 0.5, 0.999, False),
        (0.0, 1.0, 0.9, False),
        ([0.0, 0.018], 1.0, 0.999, False),  # below 0.01 in the mean, not by the interval's upper end
    ],
)
def test_the_mode_rule(wrong: float | list[float], correct: float, top: float, holds: bool) -> None:
    tables = {
        name: ends({"expected_reward": [*np.resize(value, 64)], "top1": [top] * 64, "top_outcome": [0.0] * 64})
        for name, value in (("wrong mode", wrong), ("correct mode", correct))
    }
    assert bool(FINDINGS["mode"].decide(tables).holds) is holds


@pytest.mark.parametrize(("moved", "holds"), [(None, True), ("k1-reward", False), ("k3-loss", False)])
def test_the_placements_rule(moved: str | None, holds: bool) -> None:
    far = {kl: (kl in ELSEWHERE) != (kl == moved) for kl in TO_GIBBS + ELSEWHERE}
    names = [kl for kl in far for _ in range(2)]
    tables = {"tilted": ends({"kl_optimum": [0.5 * far[kl] for kl in names]}, kl=names)}
    assert bool(FINDINGS["placements"].decide(tables).holds) is holds


@pytest.mark.parametrize(
    ("large", "small", "holds"),
    [
        (1.0, 3.0, True),
        (3.0, 3.0, False),
        (1.0, 1.0, False),
        (1.0, [2.49, 2.89], False),  # the interval holds 0.9 of the flow's 3
    ],
)
def test_the_support_rule(large: float, small: float | list[float], holds: bool) -> None:
    sizes = [step for step in (0.1, 1.0, 3.0) for _ in range(64)]
    support = [*np.resize(small, 128), *[large] * 64]
    top = [0.6 if kept > 2 else 1.0 for kept in support]
    sampled = ends({"effective_support": support, "top1": top}, step_size=sizes)
    tables = {"flow": ends({"effective_support": [3.0], "top1": [0.6]}), "2 samples": sampled}
    assert bool(FINDINGS["support"].decide(tables).holds) is holds


@pytest.mark.parametrize(
    ("small", "large", "plain", "holds"),
    [(1e-5, 1e-16, 1e-16, True), (1e-16, 1e-16, 1e-16, False), (1e-5, 1e-9, 1e-16, False), (1e-5, 1e-16, 1e-5, False)],
)
def test_the_null_rule(small: float, large: float, plain: float, holds: bool) -> None:
    epsilons, optimizers = [1e-8] * 64 + [1e-2] * 64, ["sgd"] * 64 + ["momentum"] * 64
    adam = ends({"kl_base": [small if epsilon < 1e-5 else large for epsilon in epsilons]}, epsilon=epsilons)
    without = ends({"kl_base": [1e-16] * 64 + [plain] * 64}, optimizer=optimizers)
    assert bool(FINDINGS["null"].decide({"adam": adam, "without": without}).holds) is holds


@pytest.mark.parametrize(("grpo", "unlikely", "holds"), [(0.3, 0.05, True), (0.05, 0.3, False), (0.0, 0.0, False)])
def test_the_rank_rule(grpo: float, unlikely: float, holds: bool) -> None:
    learners = [name for name in ("grpo", "unlikeliness", "rloo") for _ in range(64)]
    kl = [{"grpo": grpo, "unlikeliness": unlikely, "rloo": 0.3}[name] for name in learners]
    sampled = ends({"kl_correct": kl, "top_outcome": [1.0] * len(kl)}, learner=learners)
    exact = ends({"kl_correct": [0.3, 0.0]}, learner=["softmax", "natural"])
    assert bool(FINDINGS["rank"].decide({"sampled": sampled, "exact": exact}).holds) is holds


@pytest.mark.parametrize(
    ("natural", "sampled", "mass", "holds"),
    [
        (0.0, 0.3, 1.0, True),
        (1e-6, 0.3, 1.0, False),
        (0.0, 0.0, 1.0, False),
        (0.0, 0.3, 0.9, False),
        (0.0, [0.0, 0.022], 1.0, False),  # the interval holds 0.01
    ],
)
def test_the_face_rule(natural: float, sampled: float | list[float], mass: float, holds: bool) -> None:
    tables = {
        "natural": ends({"kl_correct": [natural], "face_mass": [1.0]}),
        "rloo": ends({"kl_correct": [*np.resize(sampled, 64)], "face_mass": [mass] * 64}),
    }
    assert bool(FINDINGS["face"].decide(tables).holds) is holds


@pytest.mark.parametrize(("off", "holds"), [(0.0, True), (0.015, True), (0.03, False), (-0.03, False)])
def test_the_length_rule(off: float, holds: bool) -> None:
    """Lengths as foretold, but for one cut at one alpha."""
    alphas = [alpha for alpha in LENGTH_ALPHAS for _ in range(2)]
    tables = {}
    for cut in CUTS:
        share = [1.0 + off * (cut == CUTS[0] and alpha == LENGTH_ALPHAS[1]) for alpha in alphas]
        length = [predicted_length(alpha, cut) * one for alpha, one in zip(alphas, share, strict=True)]
        tables[f"cut {cut}"] = ends({"length": length}, alpha=alphas)
    assert bool(FINDINGS["length"].decide(tables).holds) is holds


@pytest.mark.parametrize(("rate", "second", "holds"), [(0.5, 2.25, True), (0.6, 2.25, False), (0.5, 2.5, False)])
def test_the_self_sharpening_rule(rate: float, second: float, holds: bool) -> None:
    steps = np.arange(31)
    flow = {"step": steps, "effective_alpha": np.exp(rate * 0.1 * steps)}
    sampled = ends({"top1": [1.0] * 64, "top_outcome": [0.0] * 64})
    rounds = {"step": ROUND * np.array([0, 1, 2, 3] * 2), "effective_alpha": np.array([1, 1.5, second, 3.375] * 2)}
    tables = {"flow": flow, "sampled": sampled, "rounds": rounds}
    assert bool(FINDINGS["self-sharpening"].decide(tables).holds) is holds


@pytest.mark.parametrize("alpha", LENGTH_ALPHAS)
@pytest.mark.parametrize("cut", [2, 4, 6])
def test_predicted_lengths_are_those_of_all_sequences(alpha: float, cut: int) -> None:
    """Against p^alpha on every sequence, enumerated."""
    problem, _ = sequences(np.array(TOKENS), HAZARD, cut, by_position=True)
    expected = float(optimum(Objective(alpha=alpha), problem).probabilities @ problem.length)
    assert predicted_length(alpha, cut) == pytest.approx(expected, rel=1e-10)


def test_the_force_at_the_optimum_is_the_gradient_of_the_objective_for_k1_in_the_reward() -> None:
    assert force_at_gibbs("k1-reward") < 1e-12
    assert force_at_gibbs("k2-loss") < 1e-12
    assert min(map(force_at_gibbs, ELSEWHERE)) > 0.01


# The committed run of all findings, and its page.


@pytest.mark.parametrize(("name", "schema"), [("findings", Findings), ("target", Target), ("toy-learners", Learners)])
def test_committed_runs_are_what_the_commands_print(name: str, schema: type[Findings | Target | Learners]) -> None:
    schema.model_validate_json((ROOT / f"benchmarks/results/{name}.json").read_text())


def test_the_committed_run_holds_with_64_seeds() -> None:
    report = json.loads((ROOT / "benchmarks/results/findings.json").read_text())
    assert re.fullmatch(r"[0-9a-f]{40}\+?", report["commit"])
    assert report["seeds"] >= 64
    rows = {row["id"]: row for row in report["findings"]}
    assert list(rows) == list(FINDINGS)
    for name, row in rows.items():
        assert row["statement"] == FINDINGS[name].statement
        assert row["holds"] is True
        assert all(low <= mean <= high for mean, low, high in row["numbers"].values())
    numbers = rows["length"]["numbers"]
    assert numbers["predicted at alpha 1.5, cut at 6"][0] == pytest.approx(predicted_length(1.5, 6))


def test_the_page_shows_the_committed_run() -> None:
    report = json.loads((ROOT / "benchmarks/results/findings.json").read_text())
    expected = set()
    for row in report["findings"]:
        for title, (mean, low, high) in row["numbers"].items():
            interval = f" [{low:.4g}, {high:.4g}]" if low < high else ""
            expected.add(f"| `{row['id']}` | {title} | {mean:.4g}{interval} |")
    page = (ROOT / "docs/toy-findings.md").read_text().splitlines()
    assert {line for line in page if re.match(r"\| `[a-z-]+` \| .* \| -?[0-9]", line)} == expected
    for row in report["findings"]:
        assert any(row["statement"] in line for line in page)
