"""Families of stationary points against the full list, and `sharpen theory self-sharpening`."""

from __future__ import annotations

import json
import math
import re
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sharpen.cli.main import main
from sharpen.objective import Objective, preset
from sharpen.theory.core.problem import Problem, parse_problem
from sharpen.theory.instability.families import stationary_families
from sharpen.theory.instability.stationary import fixed_points

DOCS = Path(__file__).parents[3] / "docs" / "theory-phase.md"


def run(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as caught:
        main(["theory", "self-sharpening", *arguments])
    out, err = capsys.readouterr()
    assert isinstance(caught.value.code, int)
    return caught.value.code, out, err


@settings(max_examples=60)
@given(data=st.data(), reference=st.sampled_from(["frozen", "policy"]), tied=st.booleans())
def test_families_are_what_the_list_holds(
    data: st.DataObject, reference: str, tied: bool, kit: SimpleNamespace
) -> None:
    problem = data.draw(kit.problems())
    if tied:  # groups of equal potential for objectives without likelihood
        problem = Problem(problem.base, np.round(problem.reward), problem.length)
    objective = data.draw(kit.objectives(reference=reference))
    listed = fixed_points(objective, problem)
    assert listed.complete
    found = stationary_families(objective, problem)
    kinds = [family.kind for family in found]
    assert len(set(kinds)) == len(kinds) <= 3
    assert {kind: sum(point.kind == kind for point in listed.points) for kind in kinds} == {
        family.kind: family.count for family in found
    }
    assert sum(family.count for family in found) == listed.total
    for family in found:
        members = [point for point in listed.points if point.kind == family.kind]
        sizes = [len(point.support) for point in members]
        assert (min(sizes), max(sizes)) == (family.smallest, family.largest)
        assert any(point.continuum for point in members) == family.continuum
        eigenvalues = np.concatenate([point.eigenvalues for point in members])
        ends = [x for pair in (family.inside, family.across) if pair is not None for x in pair]
        assert (family.inside is not None) == any(size > 1 for size in sizes)
        assert (family.across is not None) == any(size < problem.n for size in sizes)
        if eigenvalues.size:
            assert min(ends) - 1e-9 <= eigenvalues.min()
            assert eigenvalues.max() <= max(ends) + 1e-9


def test_ends_without_entropy_are_the_extreme_eigenvalues(default_problem: Problem) -> None:
    found = {family.kind: family for family in stationary_families(preset("sharpening"), default_problem)}
    gap = np.log(default_problem.base)[:, None] - np.log(default_problem.base)[None, :]
    assert found["stable"].across == pytest.approx((gap[4, 0], gap[1, 0]))
    assert found["unstable"].across == pytest.approx((gap[3, 4], gap[0, 4]))
    assert found["saddle"].across == pytest.approx((gap[4, 1], gap[0, 3]))
    face = {family.kind: family for family in stationary_families(preset("task-reward"), default_problem)}
    assert (face["neutral"].smallest, face["neutral"].inside, face["neutral"].across) == (2, (0.0, 0.0), (-1.0, -1.0))


def test_families_of_a_million_outcomes_need_no_list() -> None:
    problem = parse_problem("zipf:1000000")
    found = {family.kind: family.count for family in stationary_families(preset("tempered"), problem)}
    assert found == {"stable": 1, "saddle": 2**1000000 - 1000002, "unstable": 1000000}


def test_json_of_the_rounds_by_rationals(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(["--alpha", "3", "--rounds", "3", "--base", "0.5,0.25,0.25", "--reward", "1", "--json"], capsys)
    report = json.loads(out)
    assert code == 0
    base = [Fraction(1, 2), Fraction(1, 4), Fraction(1, 4)]
    for k, row in enumerate(report["rounds"]):
        weights = [p ** (3**k) for p in base]
        exact = [float(w / sum(weights)) for w in weights]
        assert row["effective_alpha"] == 3**k
        assert row["probabilities"] == pytest.approx(exact, rel=1e-12, abs=0)
        assert row["expected_reward"] == pytest.approx(exact[1], rel=1e-12)
        assert row["log_lost"] == pytest.approx(math.log(exact[1] + exact[2]), rel=1e-12)
        assert row["entropy"] == pytest.approx(-sum(p * math.log(p) for p in exact), rel=1e-9, abs=0)
        assert row["kl_to_base"] == pytest.approx(
            sum(p * math.log(p / float(q)) for p, q in zip(exact, base, strict=True)), rel=1e-9, abs=1e-15
        )
    assert [each["count"] for each in report["fixed_points"]] == [3, 3, 1]
    # 2 (1/2)^a = eps / (1 - eps) at a = 1 - log2(eps / (1 - eps))
    assert report["collapse"]["effective_alpha"] == pytest.approx(1 - math.log2(1e-6 / (1 - 1e-6)), rel=1e-12)
    assert report["collapse"]["rounds"] == 3


def test_rounds_with_a_reward_have_no_effective_alpha(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(["--preset", "tilted", "--alpha", "2", "--rounds", "2", "--json"], capsys)
    report = json.loads(out)
    assert code == 0
    assert (report["collapse"], report["fixed_points"]) == (None, None)
    p, r = np.array([0.40, 0.25, 0.15, 0.12, 0.08]), np.array([0.0, 1, 0, 1, 0])
    law = p**4 * np.exp(10 * 3 * r)  # alpha^2, and beta_inv (alpha^2 - 1)/(alpha - 1)
    assert report["rounds"][2]["probabilities"] == pytest.approx((law / law.sum()).tolist(), rel=1e-9, abs=0)


@pytest.mark.parametrize(
    "arguments", [[], ["--rounds", "40"], ["--preset", "tilted"], ["--base", "zipf:3000", "--alpha", "0.5"]]
)
def test_the_table_fits_eighty_columns(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(arguments, capsys)
    assert code == 0
    assert max(len(line.rstrip()) for line in out.splitlines()) <= 80
    assert "…" not in out


def test_the_figure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("rounds.svg", "again.svg"):
        assert run(["--base", "0.6,0.4", "--reward", "1", "--plot", str(tmp_path / name)], capsys)[0] == 0
    drawn = (tmp_path / "rounds.svg").read_text()
    assert drawn == (tmp_path / "again.svg").read_text()
    assert "outcome 1" in drawn


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["--rounds", "0"], "rounds"),
        (["--rounds", "1001"], "rounds"),
        (["--rounds", "1.5"], "rounds"),
        (["--epsilon", "nan"], "epsilon"),
        (["--epsilon", "1"], "epsilon"),
        (["--preset", "sharpening"], "mode"),
        (["--base", "0.5,nan"], "base"),
        (["--plot", "figure.gif"], "figure"),
        (["--preset", "tilted", "--alpha", "9", "--rounds", "900"], "rounds"),
    ],
)
def test_bad_input_is_one_line_and_status_two(
    arguments: list[str], word: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = run(arguments, capsys)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert word in err


def test_the_documented_example_is_what_the_command_prints(capsys: pytest.CaptureFixture[str]) -> None:
    ((flags, shown),) = re.findall(
        r"```console\n\$ sharpen theory self-sharpening(.*?)\n(.*?)```", DOCS.read_text(), re.DOTALL
    )
    code, out, _ = run(flags.split(), capsys)
    assert code == 0
    assert [line.rstrip() for line in out.strip().splitlines()] == shown.strip().splitlines()


def test_the_reference_in_the_spec_changes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Rounds replace it: said as a flag it is refused, in an objective that other commands read too it may stand."""
    (tmp_path / "moving.yaml").write_text("{alpha: 2, reference: policy}")
    plain, moving = (
        json.loads(run([*flags, "--json"], capsys)[1]) for flags in ([], ["--objective", str(tmp_path / "moving.yaml")])
    )
    assert Objective(**moving["objective"]).reference == "policy"
    assert plain["rounds"] == moving["rounds"]
