"""Comparisons, stability and verdicts: each rule answers yes, no and not yet as its numbers say."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from sharpen.paper_repro.analysis import rules_exact, rules_llm
from sharpen.paper_repro.analysis.arms import difference, gather
from sharpen.paper_repro.analysis.contrasts import compare, stability, summary
from sharpen.paper_repro.analysis.evidence import Evidence, Part, by_model
from sharpen.paper_repro.analysis.verdict import RULES, conclude, judge
from sharpen.paper_repro.grids.grid import load_grid
from sharpen.paper_repro.intervals.stats import Interval
from sharpen.paper_repro.work.toy import MEASURES, _curves

Results = dict[str, dict[str, Any]]
SHARPENING = {"mode": "optimization", "alpha": 1.0, "beta_inv": 0.0}
TASK = {"mode": "optimization", "alpha": 0.0, "beta_inv": 1.0}


def outcomes(parts: list[Part]) -> list[str]:
    return [part.outcome for part in parts]


def without(results: Results, arm: str) -> Results:
    return {name: row for name, row in results.items() if row["arm"] != arm}


def test_differences_are_paired_by_seed_and_problem(story: Results) -> None:
    arms = gather(story.values())
    found = difference(arms["task-reward-0-1"], arms["base"], "pass@1")
    assert found is not None
    assert found.shape == (3, 24)
    task, base = (np.array(story[f"{arm}-s2"]["result"]["checkpoints"][which]["problems"]["embedded"]["correct"]) / 16
                  for arm, which in (("task-reward-0-1", "last"), ("base", "base")))  # fmt: skip
    assert found[1] == pytest.approx(task - base)


def test_other_problems_are_not_compared(story: Results) -> None:
    changed = copy.deepcopy(story)
    changed["base-s1"]["result"]["checkpoints"]["base"]["problems"]["embedded"]["ids"][0] = "another"
    arms = gather(changed.values())
    assert compare(arms["task-reward-0-1"], arms["base"]) is None


def test_no_comparison_claims_more_than_its_seeds_support(story: Results) -> None:
    family = Evidence(story).accuracy
    assert all(found.difference.p >= 0.25 for found in family.values())  # type: ignore[operator]
    assert all(-1 <= found.difference.low <= found.difference.high <= 1 for found in family.values())


def test_stability_counts_seeds_that_collapse(story: Results, made: Callable[..., dict[str, Any]]) -> None:
    rows = [made("sharpening-1-0", seed, SHARPENING, rate, best=0.5) for seed, rate in ((1, 0.05), (2, 0.45), (3, 0.1))]
    arm = gather(rows)["sharpening-1-0"]
    found = stability(arm, 0.4)
    last = arm.scores("pass@1", "last").mean(axis=1)
    best = arm.scores("pass@1", "best").mean(axis=1)
    assert found.collapsed.mean == pytest.approx(2 / 3)
    assert found.worst_drawdown == pytest.approx((best - last).max())
    assert found.fall_from_best == pytest.approx(0.45)  # held-out: from 0.5 at the best checkpoint to 0.05
    assert stability(gather(story.values())["task-reward-0-1"], 0.4).collapsed.mean == 0.0


def test_the_story_is_supported(story: Results) -> None:
    evidence = Evidence(story, "embedded")
    for rule in (
        rules_llm.task_reward_gains,
        rules_llm.sharpening_gains_less,
        rules_llm.sharpening_gains_little,
        rules_llm.sharpening_unstable,
        rules_llm.task_reward_keeps_its_gain,
        rules_llm.sharpening_shortens,
        rules_llm.fixed_length_keeps_length,
        rules_llm.effective_alpha_stays_away,
    ):
        parts = rule(evidence)
        assert outcomes(parts) == ["supported"] * len(parts), (rule.__name__, parts)
        assert all(part.runs for part in parts)


def test_the_opposite_story_is_contradicted(made: Callable[..., dict[str, Any]]) -> None:
    rows = []
    for seed in (1, 2, 3):
        rows += [
            made("base", seed, None, 0.4),
            made("task-reward-0-1", seed, TASK, 0.15, best=0.6, length=35.0),
            made("sharpening-1-0", seed, SHARPENING, 0.8, length=30.0),
            made(
                "tempered-2-0", seed, {"mode": "sampling", "alpha": 2.0, "beta_inv": 0.0}, 0.8, length=30.0, alpha=1.9
            ),
        ]
    evidence = Evidence({row["id"]: row for row in rows})
    for rule in (
        rules_llm.task_reward_gains,
        rules_llm.sharpening_gains_less,
        rules_llm.sharpening_gains_little,
        rules_llm.sharpening_unstable,
        rules_llm.task_reward_keeps_its_gain,
        rules_llm.sharpening_shortens,
        rules_llm.effective_alpha_stays_away,
    ):
        parts = rule(evidence)
        assert outcomes(parts) == ["contradicted"] * len(parts), (rule.__name__, parts)


def test_arms_that_the_paper_never_ran_decide_nothing(story: Results, made: Callable[..., dict[str, Any]]) -> None:
    rows = dict(story)
    for seed in (1, 2, 3):
        fixed = made("sharpening-1-0-fixed", seed, SHARPENING, 0.8, length=36.0, fixed=True)
        mean = made("sharpening-1-0-mean", seed, {**SHARPENING, "normalization": "mean"}, 0.8)
        null = made("tempered-1-0", seed, {"mode": "sampling", "alpha": 1.0, "beta_inv": 0.0}, 0.8)
        rows |= {row["id"]: row for row in (fixed, mean, null)}
    found = [part.test for part in rules_llm.sharpening_gains_little(Evidence(rows))]
    assert found == [f"{name} raises pass@1 by less than 0.1" for name in ("sharpening-1-0", "tempered-2-0")]
    verdict = next(v for v in judge(load_grid(), [Evidence(rows, "embedded")]) if v.claim == "limited-gains")
    assert verdict.outcome == "supported"
    assert verdict.standing.startswith("exploratory")


def test_no_difference_is_undecided(made: Callable[..., dict[str, Any]]) -> None:
    rows = [
        row
        for seed in (1, 2, 3)
        for row in (made("base", seed, None, 0.4), made("sharpening-1-0", seed, SHARPENING, 0.4))
    ]
    parts = rules_llm.sharpening_shortens(Evidence({row["id"]: row for row in rows}))
    assert parts[0].outcome == "undecided"
    assert "not computed yet" in parts[1].reason


def test_equal_arms_are_equivalent_and_distant_ones_are_not(story: Results) -> None:
    same = copy.deepcopy(story)
    for seed in (1, 2, 3):
        base = same[f"base-s{seed}"]["result"]["checkpoints"]["base"]["problems"]["embedded"]["correct"]
        same[f"tempered-1-0-s{seed}"]["result"]["checkpoints"]["last"]["problems"]["embedded"]["correct"] = base
    assert outcomes(rules_llm.null_control(Evidence(same))) == ["supported"]
    far = {
        **story,
        **{f"tempered-1-0-s{seed}": {**story[f"task-reward-0-1-s{seed}"], "arm": "tempered-1-0"} for seed in (1, 2, 3)},
    }
    assert outcomes(rules_llm.null_control(Evidence(far))) == ["contradicted"]


def answers(results: Results, arm: str, correct: list[int]) -> None:
    """Let every seed of an arm have so many right answers to each problem."""
    for row in results.values():
        if row["arm"] == arm:
            for checkpoint in row["result"]["checkpoints"].values():
                checkpoint["problems"]["embedded"]["correct"] = correct


def beside_the_base(story: Results, arm: str, correct: list[int]) -> tuple[Results, Interval]:
    """Return the story in which the base has 6 of 16 right and an arm ``correct``, and what is between the two."""
    results = copy.deepcopy(story)
    answers(results, "base", [6] * 24)
    answers(results, arm, correct)
    arms = gather(results.values())
    found = compare(arms[arm], arms["base"])
    assert found is not None
    return results, found.difference


def test_a_difference_that_may_be_small_or_large_is_not_equivalence(story: Results) -> None:
    """0.0625 in the mean, between 0.01 and 0.12: one end is within 0.05, the other is not."""
    same, gap = beside_the_base(story, "tempered-1-0", [6, 8] * 12)
    assert 0 < gap.low < 0.05 < gap.high
    assert outcomes(rules_llm.null_control(Evidence(same))) == ["undecided"]


@pytest.mark.parametrize(("right", "outcome"), [(11, "supported"), (8, "contradicted")])
def test_power_sampling_is_held_to_the_law_moved_to_the_measured_base(
    story: Results, made: Callable[..., dict[str, Any]], right: int, outcome: str
) -> None:
    """The law gains 0.3 over its own base, and 6 of 16 are measured of the base: 0.675 of 16 answers is near 11."""
    results = {**copy.deepcopy(story), **{f"power-2-s{seed}": made("power-2", seed, None, 0.5) for seed in (1, 2, 3)}}
    answers(results, "base", [6] * 24)
    answers(results, "power-2", [right] * 24)
    rows = [{"regime": "tempered", "alpha": 2, "expected_reward": 0.5}]
    law = {"rows": rows, "base": {"expected_reward": 0.2}}
    law = {"id": "theory-regimes", "kind": "theory", "arm": "theory-regimes", "settings": {}, "result": law}
    first, second = rules_llm.power_sampling_reaches_the_target(Evidence({**results, "theory-regimes": law}))
    assert (first.outcome, second.outcome) == (outcome, "undecided")  # power-4 is not computed


def test_a_summary_has_the_kl_from_the_policy_to_the_base(story: Results) -> None:
    """Made up half a nat a sequence from it, and with a slope of 1.05 on the policy's own samples."""
    found = summary(gather(story.values())["tempered-2-0"])
    assert found["kl_base"]["mean"] == pytest.approx(0.5)
    assert found["alpha_own"]["mean"] == pytest.approx(1.05, abs=0.01)


def test_a_large_gain_is_large_by_its_whole_interval(story: Results) -> None:
    """0.125 in the mean, 0.01 to 0.24 by the interval."""
    same, gap = beside_the_base(story, "task-reward-0-1", [6, 10] * 12)
    assert 0 < gap.low < 0.1 < gap.mean
    assert outcomes(rules_llm.task_reward_gains(Evidence(same))) == ["undecided"]


@pytest.mark.parametrize("how", [{"rate": 0.3, "best": 0.5}, {"rate": 0.4, "best": 0.4, "distinct": 1.1}])
def test_a_fall_alone_and_a_collapse_alone_are_unstable(
    story: Results, made: Callable[..., dict[str, Any]], how: dict[str, float]
) -> None:
    rows = [made("sharpening-1-0", seed, SHARPENING, **how) for seed in (1, 2, 3)]
    assert outcomes(rules_llm.sharpening_unstable(Evidence({**story, **{row["id"]: row for row in rows}}))) == [
        "supported"
    ]


def test_a_normalization_matters_also_where_it_shortens(story: Results, made: Callable[..., dict[str, Any]]) -> None:
    rows = [
        made("sharpening-1-0-mean", seed, {**SHARPENING, "normalization": "mean"}, 0.02, length=3.0)
        for seed in (1, 2, 3)
    ]
    parts = rules_llm.normalization_matters(Evidence({**story, **{row["id"]: row for row in rows}}))
    assert outcomes(parts) == ["supported", *["undecided"] * 3]  # the others are not computed


def test_two_seeds_are_too_few_for_a_claim_about_runs(story: Results) -> None:
    two = {name: row for name, row in story.items() if row["seed"] != 3}
    assert outcomes(rules_llm.sharpening_unstable(Evidence(two))) == ["undecided"]
    assert outcomes(rules_llm.task_reward_keeps_its_gain(Evidence(two))) == ["undecided"]


def test_every_claim_without_results_is_undecided() -> None:
    grid = load_grid()
    verdicts = judge(grid, [Evidence({})])
    assert [verdict.claim for verdict in verdicts] == list(grid.claims)
    assert {verdict.outcome for verdict in verdicts} == {"undecided"}
    assert set(grid.claims) == set(RULES)


def test_support_needs_every_part_and_one_contradiction_decides() -> None:
    part = {name: Part("t", name, "", []) for name in ("supported", "contradicted", "undecided")}  # type: ignore[arg-type]
    assert conclude([part["supported"], part["undecided"]]) == "undecided"
    assert conclude([part["supported"], part["contradicted"]]) == "contradicted"
    assert conclude([part["supported"]] * 2) == "supported"


def test_several_models_are_judged_apart(story: Results, made: Callable[..., dict[str, Any]]) -> None:
    other = {
        name: {**row, "arm": f"big_{row['arm']}", "id": f"big_{name}"}
        for name, row in story.items()
    }  # fmt: skip
    for row in other.values():
        row["settings"] = {**row["settings"], "config": {**row["settings"]["config"], "model": "big"}}
    evidences = by_model({**story, **{row["id"]: row for row in other.values()}})
    assert [evidence.model for evidence in evidences] == ["embedded", "big"]
    assert set(evidences[0].arms) == set(evidences[1].arms)
    verdict = next(v for v in judge(load_grid(), evidences) if v.claim == "limited-gains")
    assert any(part.test.startswith("big: ") for part in verdict.parts)
    assert verdict.outcome == "supported"


def test_curves_over_seeds_have_their_middle_95_percent() -> None:
    """Seeds 0 to 40 in a mixed order: 2.5 % of the way is 1, 97.5 % is 39; a measure that is nowhere has no spread."""
    seeds = np.random.default_rng(0).permutation(41)
    table: dict[str, Any] = {name: np.concatenate([seeds, 10.0 + seeds]) for name in MEASURES}
    table |= {"step": np.repeat([0, 5], 41), "kl_optimum": np.full(82, np.nan)}
    table["top1"] = np.concatenate([np.zeros(41), np.where(seeds < 10, 1.0, 0.5)])
    found = _curves(table)
    assert found["step"] == [0, 5]
    assert found["entropy"] == {"mean": [20.0, 30.0], "low": [1.0, 11.0], "high": [39.0, 49.0]}
    assert (found["kl_optimum"]["low"], found["kl_optimum"]["high"]) == (None, None)
    assert found["end"]["length"] == (10.0 + seeds).tolist()
    assert found["collapsed"] == pytest.approx(10 / 41)


def exact(run: str, result: dict[str, Any]) -> Evidence:
    return Evidence({run: {"id": run, "kind": "theory", "arm": run, "settings": {}, "result": result}})


def test_exact_rules_can_say_no() -> None:
    case = {"source": "s", "what": "w", "ours": [1.0], "published": [2.0], "agrees": False}
    assert outcomes(rules_exact.published_values(exact("theory-published", {"rows": [case]}))) == ["contradicted"]
    row = {"name": "tilted", "end": {"expected_reward": [0.2, 0.3]}, "theory": {"expected_reward": 0.9}}
    assert outcomes(rules_exact.toy_ends_at_the_optimum(exact("toy-regimes", {"rows": [row]}))) == ["contradicted"]
    task = {"name": "task-reward", "end": {"expected_reward": [0.99, 0.2]}}
    assert outcomes(rules_exact.task_reward_needs_no_likelihood(exact("toy-regimes", {"rows": [task]}))) == [
        "contradicted"
    ]


@pytest.mark.parametrize(
    ("flip", "loss", "outcome"),
    [(0.2, 0.0, "supported"), (2.0, 0.0, "contradicted"), (0.2, 0.3, "contradicted"), (2.0, 0.3, "contradicted")],
)
def test_errors_of_log_p_and_of_r_are_judged_both(flip: float, loss: float, outcome: str) -> None:
    found = {"flip_radius": flip, "epsilon": [0.1, 1.0], "task_loss": [loss, 1.0]}
    assert outcomes(rules_exact.errors_flip_the_mode(exact("theory-sensitivity", found))) == [outcome]


@pytest.mark.parametrize(
    ("sharp", "task", "outcome"), [(0.3, 0.9, "supported"), (0.5, 0.9, "contradicted"), (0.3, 0.35, "contradicted")]
)
def test_a_wrong_mode_is_below_the_base(sharp: float, task: float, outcome: str) -> None:
    rewards = {"sharpening": sharp, "task-reward": task}
    rows = [{"regime": name, "expected_reward": reward, "length": 5.0} for name, reward in rewards.items()]
    found = {"rows": rows, "base": {"expected_reward": 0.4, "length": 9.0}}
    assert outcomes(rules_exact.wrong_mode(exact("theory-regimes", found))) == [outcome]
