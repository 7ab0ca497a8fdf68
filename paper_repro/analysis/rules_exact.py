"""Rules of the verdict that read theory and toy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sharpen.paper_repro.analysis.evidence import Evidence, Outcome, Part, missing

CLOSE = 0.05  # of an expected reward: where a simulation counts as ending where the theory says
NEARLY_ALL = 0.95
TOLERATED = 0.4  # error of a reward that is 0 or 1


def _row(rows: list[Mapping[str, Any]], name: str, entry: Any) -> Mapping[str, Any]:
    return next(row for row in rows if row[name] == entry)


def _decided(holds: bool) -> Outcome:
    return "supported" if holds else "contradicted"


def wrong_mode(evidence: Evidence) -> list[Part]:
    """On the embedded model's ways to answer the optimum of sharpening is wrong, that of task reward right."""
    test = "on the embedded model's ways to answer the exact optimum of sharpening is wrong, that of task reward right"
    found = evidence.exact("theory-regimes")
    if found is None:
        return missing(test, ["theory-regimes"])
    sharp = _row(found["rows"], "regime", "sharpening")
    task = _row(found["rows"], "regime", "task-reward")
    base = found["base"]
    holds = sharp["expected_reward"] < base["expected_reward"] < task["expected_reward"]
    reason = (
        f"E[r]: base {base['expected_reward']:.3f}, sharpening {sharp['expected_reward']:.3f}, task reward "
        f"{task['expected_reward']:.3f}; mean tokens {base['length']:.1f}, {sharp['length']:.1f}, {task['length']:.1f}"
    )
    return [Part(test, _decided(holds), reason, ["theory-regimes"])]


def short_modes(evidence: Evidence) -> list[Part]:
    """p^alpha shortens sequences, and does not exist below a critical alpha; likelihood prefers the empty answer."""
    test = "p^alpha shortens sequences for alpha > 1, and does not exist below a critical alpha next to 1"
    curve, modes = evidence.exact("theory-length"), evidence.exact("theory-modes")
    if curve is None or modes is None:
        return missing(test, ["theory-length", "theory-modes"])
    at, exists = curve["at"], curve["exists"]
    holds = exists["1.0"] and not exists["0.95"] and at["1.25"] < at["1.0"] / 2
    reason = (
        f"five tokens, hazard 0.05: mean length {at['1.0']:.1f} at alpha 1, {at['1.25']:.2f} at 1.25, "
        f"no distribution below {curve['critical_alpha']:.3f}"
    )
    endless = "a cycle that no finite answer attains"
    mean = "a finite answer" if modes["mean"]["attained"] else endless
    second = "likelihood prefers degenerate answers: the empty one as a sum, endless repetition as a mean a token"
    degenerate = modes["sum"]["length"] == 1 and not modes["mean"]["attained"]
    numbers = f"in the Markov example the best sum has |x| = {modes['sum']['length']}, the best mean belongs to {mean}"
    return [
        Part(test, _decided(holds), reason, ["theory-length"]),
        Part(second, _decided(degenerate), numbers, ["theory-modes"]),
    ]


def errors_flip_the_mode(evidence: Evidence) -> list[Part]:
    """Errors of log p replace the optimum of sharpening; errors of r cost task reward nothing until they reach 0.5."""
    test = "errors of log p below half a nat replace the optimum of sharpening; below 0.4 errors of r are free"
    found = evidence.exact("theory-sensitivity")
    if found is None:
        return missing(test, ["theory-sensitivity"])
    flip = found["flip_radius"]
    small = [loss for size, loss in zip(found["epsilon"], found["task_loss"], strict=True) if size < TOLERATED]
    holds = flip is not None and flip < 0.5 and max(small) < 1e-9
    first = next((s for s, loss in zip(found["epsilon"], found["task_loss"], strict=True) if loss > 1e-9), None)
    shown = f"none up to {found['epsilon'][-1]:g}" if first is None else f"some from {first:.2f} on"
    reason = f"beyond {flip:.3f} nats the optimum of sharpening is another one; errors of r cost task reward {shown}"
    return [Part(test, _decided(holds), reason, ["theory-sensitivity"])]


def task_reward_needs_no_likelihood(evidence: Evidence) -> list[Part]:
    """Simulated runs of task reward end on the correct outcomes; of sharpening, at the wrong mode."""
    test = "in the toy every run of task reward ends on the correct outcomes"
    found = evidence.exact("toy-regimes")
    if found is None:
        return missing(test, ["toy-regimes"])
    rewards = _row(found["rows"], "name", "task-reward")["end"]["expected_reward"]
    reason = f"{len(rewards)} seeds, E[r] at the end from {min(rewards):.3f} to {max(rewards):.3f}"
    return [Part(test, _decided(min(rewards) > NEARLY_ALL), reason, ["toy-regimes"])]


def toy_ends_at_the_optimum(evidence: Evidence) -> list[Part]:
    """In each of the four regimes sampled RLOO ends at the exact optimum's expected reward."""
    found = evidence.exact("toy-regimes")
    if found is None:
        return missing("sampled RLOO ends at the exact optimum in each regime", ["toy-regimes"])
    parts = []
    for row in found["rows"]:
        ends = row["end"]["expected_reward"]
        mean, predicted = sum(ends) / len(ends), row["theory"]["expected_reward"]
        test = f"{row['name']}: sampled RLOO ends within {CLOSE:g} of the exact optimum's E[r]"
        reason = f"mean over {len(ends)} seeds {mean:.3f}, exact {predicted:.3f}"
        parts.append(Part(test, _decided(abs(mean - predicted) <= CLOSE), reason, ["toy-regimes"]))
    return parts


def published_values(evidence: Evidence) -> list[Part]:
    """Published numbers of small exact cases, computed again."""
    parts = []
    cases = evidence.exact("theory-published")
    for row in cases["rows"] if cases is not None else []:
        numbers = ", ".join(f"{x:.3f}" for x in row["ours"])
        published = ", ".join(f"{x:g}" for x in row["published"])
        test = f"{row['source']}: {row['what']}"
        parts.append(
            Part(test, _decided(row["agrees"]), f"ours {numbers}; published {published}", ["theory-published"])
        )
    estimators = evidence.exact("theory-estimators")
    for row in estimators["claims"] if estimators is not None else []:
        if row["source"] == "sharpen" or row["confirmed"] is None:
            continue
        numbers = ", ".join(f"{name} {number:.5g}" for name, number in row["numbers"].items())
        parts.append(
            Part(f"{row['source']}: {row['claim']}", _decided(row["confirmed"]), numbers, ["theory-estimators"])
        )
    return parts or missing("published numbers come out again", ["theory-published", "theory-estimators"])
