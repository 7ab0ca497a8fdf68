"""The family of learners side by side: its rule on made-up runs, a small run, and the committed run with its page."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from matplotlib.image import imread

from sharpen.cli.main import main
from sharpen.cli.schemas.commands import schema_of
from sharpen.cli.toy.learners import HEADINGS, cells
from sharpen.figures.toy.learners import plot_learners
from sharpen.objective import InputError
from sharpen.toy.learners.registry import LEARNERS
from sharpen.toy.studies.family import GROUP, MEMBERS, Member, at_the_base, configs, family, judge

ROOT = Path(__file__).parents[3]
RESULT, PAGE = ROOT / "benchmarks/results/toy-learners.json", ROOT / "docs/toy-learners.md"
SOME = Member("some", "rloo", "identity", "rloo")


def made_up(success: list[list[float]], entropy: list[list[float]]) -> dict[str, np.ndarray]:
    """Return a sweep's table of two seeds with records every 5 updates."""
    records = len(success[0])
    return {
        "step": np.tile(5 * np.arange(records), 2),
        "expected_reward": np.ravel(success),
        "entropy": np.ravel(entropy),
        "kl_correct": np.ravel(entropy) / 10,
        "kl_optimum": np.tile(np.linspace(2.0, 0.5, records), 2),
    }


def test_the_rule_reads_what_happened_first() -> None:
    table = made_up([[0.4, 0.91, 0.99], [0.4, 0.8, 0.95]], [[2.0, 1.0, 0.15], [2.0, 1.8, 0.6]])
    found = judge(SOME, {"kl": table, "alone": table}, at_the_base()["rloo"])
    assert found.missing.mean == pytest.approx(0.25)
    assert found.passed is not None
    assert found.passed.mean == 7.5  # at 5 and at 10
    assert found.entropy is not None
    assert found.entropy.mean == pytest.approx((0.5 + 0.3) / 2)  # of the base's 2 nats
    assert found.within is not None
    assert found.within.mean == pytest.approx(0.08)
    assert found.collapsed is not None
    assert found.collapsed.low == 10.0  # one of two runs, below a tenth of the base's
    assert math.isinf(found.collapsed.mean)
    assert found.path[0] == pytest.approx([0.4, 2.0])
    assert (found.ascends, found.slope) == ("identity", pytest.approx(1.0))
    never = made_up([[0.4, 0.5, 0.6]] * 2, [[1.0, 0.9, 0.8]] * 2)
    found = judge(SOME, {"kl": table, "alone": never}, None)
    assert found.entropy is None
    assert found.passed is not None
    assert math.isinf(found.passed.mean)


def test_every_row_is_a_learner_that_its_sweeps_can_run() -> None:
    for member in MEMBERS:
        assert member.learner in LEARNERS
        assert set(configs(member, 2)) == ({"kl", "alone"} if member.alone else {"kl"})
    assert len({member.name for member in MEMBERS}) == len(MEMBERS)


def test_the_command_runs_a_learner_and_draws_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                                 capsys: pytest.CaptureFixture[str]) -> None:  # fmt: skip
    monkeypatch.setattr("sharpen.toy.studies.family.STEPS", 60)
    with pytest.raises(SystemExit) as left:
        main(["toy", "learners", "rloo", "--seeds", "2", "--out", str(tmp_path), "--json"])
    assert left.value.code == 0
    told = json.loads(capsys.readouterr().out)
    jsonschema.validate(told, schema_of("toy learners"))
    (row,) = told["learners"]
    assert row["missing"][0] < 0.5  # a run with a KL of weight 2 is soon there
    assert (tmp_path / "learners.png").is_file()
    with pytest.raises(InputError, match="learner: got 'rlo'"):
        family(["rlo"], tmp_path)


def test_the_figure_has_a_line_for_each_learner(tmp_path: Path) -> None:
    rows = [row for row in json.loads(RESULT.read_text())["learners"] if row["path"]]
    plot_learners(rows[:2], tmp_path / "two.png")
    plot_learners(rows, tmp_path / "all.png")
    two, every = (imread(tmp_path / name)[..., :3] for name in ("two.png", "all.png"))
    assert two.shape == every.shape
    assert np.any(two != every)


# The committed run, and its page.


def test_the_committed_run_is_of_every_learner() -> None:
    report = json.loads(RESULT.read_text())
    assert re.fullmatch(r"[0-9a-f]{40}\+?", report["commit"])
    assert [row["name"] for row in report["learners"]] == [member.name for member in MEMBERS]
    exact = at_the_base()
    for row, member in zip(report["learners"], MEMBERS, strict=True):
        assert (row["utility"], row["kl"], row["step_size"]) == (member.utility, member.kl, member.step_size)
        if member.ascends in exact:
            assert row["variance"] == pytest.approx(exact[member.ascends].estimate.variance, rel=1e-9)
        if row["passed"] is not None and row["passed"][0] is not None:
            assert row["entropy"][1] <= row["entropy"][0] <= row["entropy"][2]
    assert GROUP == 16


def test_the_page_shows_the_committed_run() -> None:
    report = json.loads(RESULT.read_text())
    page = PAGE.read_text()
    table = re.search(r"<!-- table: toy learners -->\n(.*?)\n<!-- end -->", page, re.DOTALL)
    assert table is not None
    lines = [f"| {' | '.join(HEADINGS)} |", f"|{' --- |' * len(HEADINGS)}"]
    lines += [f"| {' | '.join(cells(row))} |" for row in report["learners"]]
    assert table.group(1).splitlines() == lines
    assert f"{report['seeds']} seeds" in page
