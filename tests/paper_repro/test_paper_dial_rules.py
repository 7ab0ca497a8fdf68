"""The rules of the dial's study on made-up results: each claim can come out either way, and may stay undecided."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy.stats import ttest_1samp

from sharpen.llm.tasks.dial.law import MEMBERS
from sharpen.paper_repro.analysis.endings import collapsed, falls_back
from sharpen.paper_repro.analysis.members import Members, alignment, at_kl, by_member, path
from sharpen.paper_repro.analysis.rules_dial import RULES, picked, primary
from sharpen.paper_repro.analysis.verdict import conclude, judge
from sharpen.paper_repro.grids.grid import load_grid
from sharpen.paper_repro.grids.order import Order
from sharpen.paper_repro.grids.rules import Optimiser, Rules
from sharpen.paper_repro.report.gallery import draw_members
from sharpen.paper_repro.report.members import _crossover, split_of, tables

Results = dict[str, dict[str, Any]]
Changes = Mapping[str, Mapping[str, Any]]
SAMPLES, NEVER, ORDINARY, UPDATES = 64, 8, 24, 60
STEPS = (0, 15, 30, 45, 60)
GAP = math.log(3.0)  # nats by which right answers of the made-up base are likelier
OBJECTIVES = {
    "control": {"mode": "sampling", "alpha": 1.0, "beta_inv": 0.0},
    "sharpening": {"mode": "optimization", "alpha": 1.0, "beta_inv": 0.0},
    "tempered": {"mode": "sampling", "alpha": 2.0, "beta_inv": 0.0},
    "task_reward": {"mode": "optimization", "alpha": 0.0, "beta_inv": 1.0},
}
# Of 24 ordinary problems: the share of right answers, how seeds differ, how many problems are never solved any more;
# of the 8 that the base never solves: how many are solved; checkpoints and KL; different answers to a problem.
QUIET: dict[str, Any] = {"rate": 0.4, "sd": 0.01, "dead": 0, "new": 0, "fall": 0.0, "kl": 0.4, "distinct": 20.0}


@pytest.fixture(scope="module")
def rules() -> Rules:
    found = load_grid(None, "dial").rules
    assert found is not None
    return found


@pytest.fixture(scope="module")
def delta_rules() -> Rules:
    found = load_grid(None, "delta").rules
    assert found is not None
    return found


def search_of(rules: Rules) -> Optimiser:
    assert rules.search is not None
    return rules.search


def table(rules: Rules, rng: np.random.Generator, one: Mapping[str, Any]) -> dict[str, Any]:
    """Return the table of one evaluation; all seeds are asked the same problems."""
    rates = one["rate"] + one["sd"] * rng.standard_normal() + 0.02 * rng.standard_normal(ORDINARY)
    correct = np.round(SAMPLES * np.clip(rates, 0.02, 1.0)).astype(int)
    correct[: one["dead"]] = 0
    solved = (np.arange(NEVER) < one["new"]).astype(int)
    problems = NEVER + ORDINARY
    return {
        "samples": SAMPLES,
        "ids": [f"problem {at}" for at in range(problems)],
        "level": [*(rules.never[at % len(rules.never)] for at in range(NEVER)), *(["another"] * ORDINARY)],
        "correct": [*solved.tolist(), *correct.tolist()],
        "distinct": [one["distinct"]] * problems,
        "logprob": [-2.0 + one["kl"]] * problems,
        "base_logprob": [-2.0] * problems,
    }


def kept(right: int, count: int, policy: float) -> dict[str, list[Any]]:
    """Return single samples of a problem, of the policy's: its log pi is ``policy`` above log p."""
    log_p = [-1.0] * right + [-1.0 - GAP] * (count - right)
    return {
        "right": [1] * right + [0] * (count - right),
        "tokens": [5 + at % 3 for at in range(count)],
        "base_logprob": log_p,
        "logprob": [value + policy for value in log_p],
    }


def columns(rows: list[dict[str, list[Any]]]) -> dict[str, list[list[Any]]]:
    return {name: [row[name] for row in rows] for name in rows[0]}


def row(rules: Rules, prefix: str, role: str, seed: int, one: Mapping[str, Any]) -> dict[str, Any]:
    """Return one stored result."""
    arm = prefix + ("base" if role == "base" else getattr(rules.arms, role))
    rng = np.random.default_rng([seed, len(role), int(one.get("shift", 0))])
    own = table(rules, rng, one)
    problems = len(own["ids"])
    if role == "base":
        own["kept"] = columns([kept(0, 32, 0.0)] * NEVER + [kept(13, 32, 0.0)] * ORDINARY)
        result: dict[str, Any] = {"checkpoints": {"base": {"step": 0, "problems": {"dial": own}}}, "cost": {}}
        config: dict[str, Any] = {"model": prefix, "method": "plain"}
    else:
        own["kept"] = columns([kept(8, 16, 0.1)] * problems)
        drawn = columns([kept(7, 16, 0.1)] * problems)  # of the base: its own score is called logprob there
        own["cross"] = {**drawn, "logprob": drawn["base_logprob"], "base_logprob": drawn["logprob"]}
        last = {"step": UPDATES, "problems": {"dial": own}}
        wiggle = 0.002 * rng.standard_normal(len(STEPS))
        line = np.interp(STEPS, (0, 45), (0.4, one["rate"])) + wiggle
        line[-1] -= one["fall"] + one.get("fall_sd", 0.0) * rng.standard_normal()
        result = {
            "checkpoints": {"last": last, "best": last},
            "selection": [{"step": at, "pass@1": float(x)} for at, x in zip(STEPS, line, strict=True)],
            "training": {
                "kl_ref": np.interp(np.arange(UPDATES), (0, 45), (0.0, one["kl"])).tolist(),
                **{name: [1.0] * UPDATES for name in ("reward", "response_length", "entropy")},
            },
        }
        config = {"model": prefix, "objective": OBJECTIVES[role], "optimizer": dict(one["optimizer"])}
        config["evaluation"] = {"problems": 128, "samples": 4}
    kind = "sample" if role == "base" else "train"
    found = {"id": f"{arm}-s{seed}", "arm": arm, "experiment": "made", "kind": kind, "seed": seed}
    return {**found, "settings": {"config": config}, "result": result}


def made_study(rules: Rules, changes: Changes | None = None, *, likeliest: str = "", optimizer: str = "") -> Results:
    """Return the results of all members, quiet but for what ``changes`` says of arms, where ``likeliest`` is so."""
    candidates = {"": {}} if rules.search is None else rules.search.candidates
    chosen = candidates[optimizer or next(iter(candidates))]
    rows: Results = {}
    for member in rules.members.values():
        there = changes if changes and likeliest in ("", member.likeliest) else {}
        for role in ("base", *OBJECTIVES):
            one = {**QUIET, "optimizer": chosen, **there.get(role, {})}
            for seed in range(1, rules.seeds + 1):
                made = row(rules, member.prefix, role, seed, one)
                rows[made["id"]] = made
    return rows


def outcome(claim: str, study: Members) -> str:
    return conclude(RULES[claim](study))


def search_rows(rules: Rules, own: Mapping[str, tuple[float, float, float]]) -> Results:
    """Return a search: KL of the null, change of its accuracy, -log pi of tempered (log p fixed), by candidate."""
    rows: Results = {}
    for candidate, (kl, moved, entropy) in own.items():
        for member in list(rules.members.values())[1:3]:
            prefix = f"{search_of(rules).prefix}{candidate}-{member.prefix}"
            settings = {**QUIET, "optimizer": search_of(rules).candidates[candidate]}
            null = row(rules, prefix, "control", 0, {**settings, "kl": kl})
            null["result"]["selection"][-1]["pass@1"] = null["result"]["selection"][0]["pass@1"] + moved
            tempered = row(rules, prefix, "tempered", 0, {**settings, "kl": 2.0 - entropy})
            rows |= {one["id"]: one for one in (null, tempered)}
    return rows


# --- every claim, three ways -----------------------------------------------------------------------------------------

FAR = {"sd": 0.25}  # seeds so different that nothing is decided
GOOD_TASK = {"task_reward": {"rate": 0.9}}
FORECAST = 13 / 32 / (13 / 32 + 19 / 32 / 3) - 13 / 32  # p^2 by hand: a right answer weighs three times a wrong one
CASES: list[tuple[str, str, Changes, str]] = [
    ("helps-where-right", "right", {"sharpening": {"rate": 0.6}}, "supported"),
    ("helps-where-right", "right", {"sharpening": {"rate": 0.25}}, "contradicted"),
    ("helps-where-right", "right", {}, "contradicted"),  # no effect, and none that matters is possible
    ("helps-where-right", "right", {"sharpening": {"rate": 0.5, **FAR}}, "undecided"),
    ("helps-where-right", "wrong", {"sharpening": {"rate": 0.25}}, "contradicted"),  # the others without an effect
    ("harms-where-wrong", "wrong", {"sharpening": {"rate": 0.25}}, "supported"),
    ("harms-where-wrong", "wrong", {"sharpening": {"rate": 0.6}}, "contradicted"),
    ("harms-where-wrong", "wrong", {}, "contradicted"),
    ("harms-where-wrong", "wrong", {"sharpening": {"rate": 0.35, **FAR}}, "undecided"),
    ("null-stays", "", {}, "supported"),
    ("null-stays", "", {"control": {"rate": 0.5}}, "contradicted"),
    ("null-stays", "", {"control": FAR}, "undecided"),
    ("forecast", "", {"tempered": {"rate": 0.4 + FORECAST}}, "supported"),
    ("forecast", "", {"tempered": {"rate": 0.4}}, "contradicted"),
    ("forecast", "", {"tempered": {"rate": 0.4 + FORECAST, **FAR}}, "undecided"),
    ("coverage", "", {"sharpening": {"dead": 18}}, "supported"),
    ("coverage", "", {}, "contradicted"),
    ("coverage", "", {"sharpening": {"dead": 2}}, "undecided"),
    ("task-reward-stable", "", GOOD_TASK, "supported"),
    ("task-reward-stable", "", {"task_reward": {"rate": 0.2}}, "contradicted"),
    ("task-reward-stable", "", {"task_reward": {"rate": 0.9, "fall": 0.2}}, "contradicted"),
    ("task-reward-stable", "", {"task_reward": {"rate": 0.9, "distinct": 1.2}}, "contradicted"),
    ("task-reward-stable", "", {"task_reward": {"rate": 0.9, "fall": 0.05, "fall_sd": 0.05}}, "undecided"),
    ("task-reward-stable", "", {"task_reward": {"rate": 0.45, **FAR}}, "undecided"),
    ("sharpening-collapses", "", {"sharpening": {"distinct": 1.2}}, "supported"),
    ("sharpening-collapses", "", {"sharpening": {"rate": 0.15}}, "supported"),
    ("sharpening-collapses", "", {"sharpening": {"rate": 0.6, "fall": 0.2}}, "supported"),
    ("sharpening-collapses", "", {"sharpening": {"rate": 0.6}}, "contradicted"),
    ("sharpening-collapses", "", {"sharpening": {"rate": 0.6, "fall": 0.05, "fall_sd": 0.05}}, "undecided"),
    ("new-skill", "", {"task_reward": {"new": 6}}, "supported"),
    ("new-skill", "", {"task_reward": {"new": 0}}, "contradicted"),
    ("new-skill", "", {"task_reward": {"new": 2}}, "undecided"),
    ("new-skill", "", {"task_reward": {"new": 6}, "control": {"new": 6}}, "contradicted"),  # by chance, not by reward
    ("equal-kl", "", {"task_reward": {"rate": 0.9}, "sharpening": {"rate": 0.45}}, "supported"),
    ("equal-kl", "", {"task_reward": {"rate": 0.45}, "sharpening": {"rate": 0.9}}, "contradicted"),
    ("equal-kl", "", {"task_reward": {"rate": 0.9}, "sharpening": {"rate": 0.45, "kl": 0.12}}, "undecided"),
    # Both reach the same end, task reward with twice the KL: at equal KL it is behind.
    ("equal-kl", "", {"task_reward": {"rate": 0.8, "kl": 0.8}, "sharpening": {"rate": 0.8}}, "contradicted"),
    # What the null control does too is no effect, however far both are from the base.
    ("forecast", "", {"tempered": {"rate": 0.5 + FORECAST}, "control": {"rate": 0.5}}, "supported"),
    ("coverage", "", {"sharpening": {"dead": 18}, "control": {"dead": 18}}, "contradicted"),
    ("task-reward-stable", "", {"task_reward": {"rate": 0.8}, "control": {"rate": 0.9}}, "contradicted"),
]


@pytest.mark.parametrize(("claim", "likeliest", "changes", "expected"), CASES)
def test_a_claim_comes_out_as_its_made_up_results_say(
    rules: Rules, claim: str, likeliest: str, changes: Changes, expected: str
) -> None:
    study = by_member(made_study(rules, changes, likeliest=likeliest), rules)
    assert outcome(claim, study) == expected, RULES[claim](study)


SLOPES: list[tuple[dict[str, float], dict[str, float], str]] = [
    ({"rate": 0.6}, {"rate": 0.2}, "supported"),
    ({"rate": 0.2}, {"rate": 0.6}, "contradicted"),
    ({}, {}, "contradicted"),  # less than what matters
    ({"rate": 0.45, **FAR, "shift": 1}, {"rate": 0.4, **FAR}, "undecided"),  # other seeds there
]


@pytest.mark.parametrize(("right", "wrong", "expected"), SLOPES)
def test_the_slope_along_the_dial(
    delta_rules: Rules, right: dict[str, float], wrong: dict[str, float], expected: str
) -> None:
    rows = made_study(delta_rules, {"sharpening": right}, likeliest="right")
    other = made_study(delta_rules, {"sharpening": wrong}, likeliest="wrong")
    low = tuple(member.prefix for member in delta_rules.members.values() if member.likeliest == "wrong")
    study = by_member(rows | {run: one for run, one in other.items() if run.startswith(low)}, delta_rules)
    parts = RULES["follows-the-dial"](study)
    assert [part.outcome for part in parts] == [expected], parts
    gains = [
        study.difference(name, delta_rules.arms.sharpening, delta_rules.arms.control) for name in delta_rules.members
    ]
    deltas = [member.delta for member in delta_rules.members.values()]
    fitted = np.polyfit(np.array(deltas, dtype=float), [one.mean() for one in gains if one is not None], 1)[0]
    assert float(parts[0].reason.split()[0].replace("−", "-")) == pytest.approx(fitted, abs=0.006)


def test_every_claim_comes_out_in_three_ways() -> None:
    ways = {claim: {expected for name, _, _, expected in CASES if name == claim} for claim in RULES}
    ways["follows-the-dial"] = {expected for *_, expected in SLOPES}
    del ways["optimiser"]  # below
    assert all(len(found) == 3 for found in ways.values())


def test_what_is_missing_decides_nothing(rules: Rules) -> None:
    assert {outcome(claim, by_member({}, rules)) for claim in RULES} == {"undecided"}
    whole = made_study(rules, {"sharpening": {"rate": 0.6}})
    gone = {run: one for run, one in whole.items() if not run.endswith("-s1")}  # one seed too few
    assert {outcome(claim, by_member(gone, rules)) for claim in RULES} == {"undecided"}
    name = f"{next(iter(rules.members.values())).prefix}{rules.arms.sharpening}-s1"
    without = by_member({run: one for run, one in whole.items() if run != name}, rules)
    assert primary(without) == {}  # Holm is over all members or not at all
    assert outcome("harms-where-wrong", without) == "undecided"


def test_other_problems_are_no_comparison(rules: Rules) -> None:
    whole = made_study(rules)
    changed = copy.deepcopy(whole[f"{next(iter(rules.members.values())).prefix}base-s1"])
    changed["result"]["checkpoints"]["base"]["problems"]["dial"]["ids"][0] = "another"
    assert outcome("null-stays", by_member({**whole, changed["id"]: changed}, rules)) == "undecided"


def test_the_primary_contrast_is_paired_by_seed_and_problem_and_corrected(rules: Rules) -> None:
    rows = made_study(rules, {"sharpening": {"rate": 0.6}})
    found = primary(by_member(rows, rules))
    floor = 2 / 2**rules.seeds
    for name, (interval, p) in found.items():
        prefix = rules.members[name].prefix
        gaps = []
        for seed in range(1, rules.seeds + 1):
            own, control = (
                np.array(rows[f"{prefix}{arm}-s{seed}"]["result"]["checkpoints"]["last"]["problems"]["dial"]["correct"])
                for arm in (rules.arms.sharpening, rules.arms.control)
            )
            gaps.append((own - control) / SAMPLES)
        assert interval.mean == pytest.approx(np.mean(gaps))
        assert p == pytest.approx(len(found) * floor)  # all are as small as their seeds support


def test_no_forecast_is_said_to_be_none(rules: Rules) -> None:
    rows = made_study(rules)
    for one in rows.values():
        if one["kind"] == "sample":
            del one["result"]["checkpoints"]["base"]["problems"]["dial"]["kept"]
    parts = RULES["forecast"](by_member(rows, rules))
    assert {part.outcome for part in parts} == {"undecided"}
    assert all("no forecast" in part.reason for part in parts)


def test_a_problem_that_the_base_solves_once_is_no_new_skill(rules: Rules) -> None:
    rows = made_study(rules, {"task_reward": {"new": 6}})
    for member in rules.members.values():  # all but one in some sample of one seed
        table = rows[f"{member.prefix}base-s{rules.seeds}"]["result"]["checkpoints"]["base"]["problems"]["dial"]
        table["correct"][1:NEVER] = [1] * (NEVER - 1)
    parts = RULES["new-skill"](by_member(rows, rules))
    assert {part.outcome for part in parts} == {"undecided"}


def test_an_arm_collapses_if_more_than_half_of_its_seeds_do(rules: Rules) -> None:
    """pass@1 of 0.2 is below half of the base's 0.5; so few different answers are a collapse at any pass@1."""
    last, distinct = np.full(8, 0.4), np.full(8, 20.0)
    last[:4] = 0.2
    assert collapsed(last, distinct, 0.5, rules)[0] is False
    distinct[7] = rules.collapse_distinct
    gone, share = collapsed(last, distinct, 0.5, rules)
    assert (gone, share.mean) == (True, 5 / 8)


def test_alignment_is_the_correlation_within_problems(rules: Rules) -> None:
    """24 problems whose right answers are the likelier ones, one by hand, seven without a wrong or a right answer."""
    rows = made_study(rules)
    prefix = next(iter(rules.members.values())).prefix
    for seed in range(1, rules.seeds + 1):
        kept = rows[f"{prefix}base-s{seed}"]["result"]["checkpoints"]["base"]["problems"]["dial"]["kept"]
        kept["right"][0], kept["base_logprob"][0], kept["tokens"][0] = [1, 0, 0, 1], [-1.0, -1.0, -2.0, -3.0], [5] * 4
    base = next(iter(by_member(rows, rules).evidence.values())).base
    assert base is not None
    found = alignment(base)
    assert found is not None
    assert found.mean == pytest.approx((24 - 0.5 / math.sqrt(2.75)) / 25)


def test_slopes_on_the_samples_of_the_base_are_those_of_log_pi_on_log_p(rules: Rules) -> None:
    """In ``cross`` the base samples, so that its own score is called logprob; the policy is p^2 there."""
    rows = made_study(rules)
    arm = next(iter(by_member(rows, rules).evidence.values())).arms[rules.arms.tempered]
    for table in arm.problems():
        cross = table["cross"]
        cross["base_logprob"] = [[2.0 * value - at for value in row] for at, row in enumerate(cross["logprob"])]
    assert arm.slope(own=False) == pytest.approx(np.full(rules.seeds, 2.0))


# --- equal KL --------------------------------------------------------------------------------------------------------


def test_accuracy_at_a_kl_is_read_off_the_line_between_checkpoints(rules: Rules) -> None:
    rows = made_study(rules, {"task_reward": {"rate": 0.7}})
    arm = next(iter(by_member(rows, rules).evidence.values())).arms[rules.arms.task_reward]
    for one in arm.results:
        one["result"]["training"]["kl_ref"] = [0.0] * 10 + [0.2] * 5 + [0.2] * 15 + [0.4] * 30
        accuracies = (0.4, 0.6, 0.5, 0.5, 0.7)
        one["result"]["selection"] = [{"step": s, "pass@1": a} for s, a in zip(STEPS, accuracies, strict=True)]
    steps, kl_SC, _ = path(arm)
    assert steps == list(STEPS)
    assert kl_SC[0].tolist() == pytest.approx([0.0, 0.2, 0.2, 0.4, 0.4])
    assert at_kl(arm, 0.1)[0] == pytest.approx(0.5, abs=0.01)  # half of the way to the first checkpoint
    assert at_kl(arm, 0.2)[0] == pytest.approx(0.6, abs=0.01)  # where it is first reached
    assert np.isnan(at_kl(arm, 0.5)).all()


def test_the_fall_is_tested_against_the_registered_size(rules: Rules) -> None:
    """SciPy's one-sided t-test of the seeds' falls is the oracle."""
    rng = np.random.default_rng(4)
    for fall in (0.02, 0.06, 0.09, 0.2):
        arm, control = 0.5 + 0.03 * rng.standard_normal((2, rules.seeds, 5))
        arm[:, -1] -= fall
        excess = (arm.max(1) - arm[:, -1]) - (control.max(1) - control[:, -1])
        found = ttest_1samp(excess, rules.falls_back, alternative="greater")
        assert falls_back(arm, control, rules)[0] == bool(np.asarray(found)[1] < 0.05)


# --- the order of rules and runs -------------------------------------------------------------------------------------


def test_results_that_do_not_follow_the_rules_decide_nothing(rules: Rules) -> None:
    """Whatever they say; a claim without results has nothing to refuse."""
    grid = load_grid(None, "dial").model_copy(update={"claims": {"null-stays": "it stays"}})
    study = by_member(made_study(rules), rules)
    fixed = Order("0" * 16, since="a" * 40)
    for order, expected, standing in (
        (fixed, "supported", "registered"),
        (replace(fixed, younger={"a-s1": "it is older"}), "refused", "refused"),
        (replace(fixed, since=None), "refused", "refused"),
        (Order(None), "supported", "exploratory"),
        (None, "supported", "exploratory"),
    ):
        (verdict,) = judge(grid, [], members=study, order=order)
        assert (verdict.outcome, verdict.standing.partition(":")[0]) == (expected, standing)
        (verdict,) = judge(grid, [], members=by_member({}, rules), order=order)
        assert verdict.outcome == "undecided"


# --- the optimiser ---------------------------------------------------------------------------------------------------


def test_the_search_picks_the_best_of_those_that_stay(rules: Rules) -> None:
    names = list(search_of(rules).candidates)
    quiet, away = (0.01, 0.01), (2 * search_of(rules).stays_kl, 0.01)
    moved = (0.01, -2 * search_of(rules).stays_accuracy)
    assert len(names) >= 3

    def choose(*own: tuple[float, float, float]) -> str | None:
        rest = [(*away, 9.0)] * (len(names) - len(own))
        found = picked(
            by_member(search_rows(rules, dict(zip(names, [*own, *rest], strict=True))), rules), search_of(rules)
        )
        assert found is not None
        return found[0]

    assert choose((*quiet, 1.0), (*quiet, 2.0), (*away, 3.0)) == names[1]
    assert choose((*quiet, 1.0), (*away, 2.0), (*moved, 3.0)) == names[0]
    assert choose((*quiet, 1.5), (*quiet, 1.5), (*quiet, 1.0)) == names[0]  # equals: the first
    assert choose((*away, 1.0), (*moved, 2.0)) is None
    assert choose((float("nan"), 0.0, 3.0), (*quiet, 1.0)) == names[1]
    assert choose((*quiet, float("nan")), (*quiet, 1.0)) == names[1]


def test_a_null_that_leaves_in_one_member_only_does_not_stay(rules: Rules) -> None:
    names = list(search_of(rules).candidates)
    for far in (2 * search_of(rules).stays_kl, float("nan")):
        for at in (0, 1):
            rows = search_rows(rules, dict.fromkeys(names, (0.0, 0.0, 1.0)))
            ids = [run for run in rows if f"{search_of(rules).prefix}{names[0]}-" in run and rules.arms.control in run]
            table = rows[ids[at]]["result"]["checkpoints"]["last"]["problems"]["dial"]
            table["logprob"] = [value + far for value in table["logprob"]]
            found = picked(by_member(rows, rules), search_of(rules))
            assert found is not None
            assert found[0] == names[1]


def test_all_arms_have_the_picked_optimiser_or_not(rules: Rules) -> None:
    names = list(search_of(rules).candidates)
    search = search_rows(rules, {name: (0.01, 0.0, 2.0 if name == names[1] else 1.0) for name in names})
    assert outcome("optimiser", by_member(search, rules)) == "undecided"  # nothing is trained
    right = made_study(rules, optimizer=names[1])
    assert outcome("optimiser", by_member({**search, **right}, rules)) == "supported"
    assert outcome("optimiser", by_member({**search, **made_study(rules)}, rules)) == "contradicted"
    other = copy.deepcopy(right)
    last = next(run for run in other if run.endswith(f"{rules.arms.tempered}-s{rules.seeds}"))
    other[last]["settings"]["config"]["optimizer"]["epsilon"] = 0.5  # one seed of one arm
    assert outcome("optimiser", by_member({**search, **other}, rules)) == "contradicted"
    nowhere = search_rows(rules, dict.fromkeys(names, (9.0, 0.0, 1.0)))
    assert outcome("optimiser", by_member({**nowhere, **right}, rules)) == "contradicted"
    assert outcome("optimiser", by_member(nowhere, rules)) == "undecided"
    del search[next(iter(search))]
    assert picked(by_member(search, rules), search_of(rules)) is None


# --- the report ------------------------------------------------------------------------------------------------------


def test_a_seed_without_a_crossover_is_later_than_all() -> None:
    """So that of five seeds, two of which cross, the median is none; of three it is the later of the two."""
    few = {"crossover k": None, "seeds with one": 2, "least k": 2, "largest k": None}
    assert _crossover([8, None, None, 2, None]) == few
    assert _crossover([8, None, 2]) == {**few, "crossover k": 8}
    assert _crossover([8, 4, 2]) == {"crossover k": 4, "seeds with one": 3, "least k": 2, "largest k": 8}
    assert _crossover([None]) == {"crossover k": None, "seeds with one": 0, "least k": None, "largest k": None}


def test_the_split_of_samples_in_their_exact_shares_is_that_of_the_laws() -> None:
    """p = (3/4, 1/4), pi = (1/2, 1/2): of two outcomes an exponent of p explains all; in ``cross`` the base samples."""
    log_p, log_pi = np.log([0.75, 0.25]), np.log([0.5, 0.5])

    def told(outcomes: list[int], sampler: np.ndarray, other: np.ndarray) -> dict[str, list[list[float]]]:
        columns = {"logprob": sampler, "base_logprob": other, "right": np.array([1, 0]), "tokens": np.array([4, 4])}
        return {name: [column[outcomes].tolist()] * 3 for name, column in columns.items()}

    of_base, of_policy = told([0, 0, 0, 1] * 32, log_p, log_pi), told([0, 0, 1, 1] * 32, log_pi, log_p)
    found = split_of({"ids": ["a", "b", "c"], "cross": of_base, "kept": of_policy})
    assert found is not None
    kl = 0.5 * math.log(0.5 / 0.75) + 0.5 * math.log(0.5 / 0.25)
    assert found["kl"]["value"] == pytest.approx(kl, rel=1e-6)
    assert found["explained"]["sharpening"]["value"] == pytest.approx(kl, rel=0.02)


def test_tables_and_figures_of_a_whole_study(rules: Rules) -> None:
    """The null control's sampled KL is below 0 there, as chance may have it."""
    members = dict(list(rules.members.items())[1:3])
    rules = rules.model_copy(update={"seeds": 2, "members": members})
    rows = made_study(rules, {"control": {"kl": -0.01}, "sharpening": {"dead": 6}, **GOOD_TASK})
    study = by_member(rows, rules)
    found = tables(study)
    members, arms = set(rules.members), {getattr(rules.arms, role) for role in OBJECTIVES}
    for name in ("contrasts", "splits", "counts", "endings"):
        assert {(one["member"], one["arm"]) for one in found[name]} == {(m, a) for m in members for a in arms}
    assert {one["member"] for one in found["forecasts"]} == members
    for one in found["forecasts"]:  # of the model as it was made, near the law that it was made after
        law = MEMBERS[one["member"]]
        assert one["exact law"] == pytest.approx(law.expected_reward(2.0) - law.expected_reward(1.0), abs=0.02)
    for one in found["counts"]:
        lost = 6 / (NEVER + ORDINARY) if one["arm"] == rules.arms.sharpening else 0.0
        assert (one["lost"], one["gained"]) == (lost, 0.0)
    accuracy = {(one["member"], one["arm"]): one for one in found["contrasts"] if one["measure"] == "pass@1"}
    for (member, arm), one in accuracy.items():
        left = one["value"] - accuracy[member, rules.arms.control]["value"]
        assert one.get("less control", 0.0) == pytest.approx(left)
        assert arm != rules.arms.task_reward or left > 0.3
    for one in found["contrasts"]:
        assert one["low"] <= one["value"] <= one["high"]
        assert "less control low" not in one or one["less control low"] <= one["less control"]
        if one["measure"] == "kl_base":
            assert one["low"] >= 0
            assert one["arm"] == rules.arms.control or one["value"] == pytest.approx(0.4)
    drawn, missing = draw_members(study)
    assert {figure.name for figure in drawn} == {"gain-against-alignment", "accuracy-against-kl"}
    assert missing == {}
