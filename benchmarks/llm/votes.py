"""Right mass against the vote under p^alpha, for certain: SmolLM2's outcome trees of tasks with short answers.

    python benchmarks/llm/votes.py --out runs/votes [--task TASK ...]

Grows the trees of ``sharpen llm outcomes`` (finished ones are read), unites answers as evaluations do, and compares two
exponents on each problem: did the mass of right answers and the chance that a vote of k samples is right move in
opposite directions? Every number is an interval that holds whatever the responses are that a tree did not see. With
q_j the mass of answer j over the bound Z + U of the normaliser, and u = U / (Z + U) of unseen mass, the true law is q
and u spread somehow. A vote of k is right at most as often as if all of u were right, and at least as often as

    P(N_right > max_j N_j + N_u),

where each sample of the unseen mass votes for the strongest rival. Writes benchmarks/results/votes.json.
"""

from __future__ import annotations

import argparse
import json
import math
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import binomtest

from sharpen.llm.configs.outcomes import OutcomesConfig
from sharpen.llm.outcomes.record import Record
from sharpen.llm.outcomes.run import run_outcomes
from sharpen.llm.tasks.sources import load_source
from sharpen.llm.tasks.verification.verify import Verifier
from sharpen.objective.storage.runfolder import provenance
from sharpen.theory import vote

RESULT = Path(__file__).parents[1] / "results" / "votes.json"
TASKS = ("largest-of-three", "letters", "first-letter")
ALPHAS, VOTES, PROBLEMS = (1.0, 2.0, 4.0), (4, 16, 64), 32
PAIRS = ((1.0, 2.0), (1.0, 4.0), (2.0, 4.0))
SLACK = 1e-9  # rounding of the sums


def at_least(right: float, others: np.ndarray, unseen: float, k: int) -> float:
    """Return P(N_right > max N_j + N_u) for k draws, shape [] ; what is left of 1 votes for nobody.

    The chance is k! [x^k] of the sum over a = N_right and b = N_u of (right x)^a/a! (unseen x)^b/b! times the product
    of the others' exponential series, each cut at a - b - 1.
    """
    nobody = max(0.0, 1.0 - right - unseen - float(others.sum()))
    degrees = np.arange(k + 1)
    factorial = np.array([math.factorial(n) for n in degrees], dtype=float)
    total = 0.0
    free = nobody**degrees / factorial
    for gap in range(1, k + 1):  # a - b
        rest = free
        for q in others[others > 0]:
            rest = np.convolve(rest, (q ** degrees[:gap]) / factorial[:gap])[: k + 1]
        for b in range((k - gap) // 2 + 1):
            a = b + gap
            if a + b <= k:
                total += right**a / factorial[a] * unseen**b / factorial[b] * rest[k - a - b]
    return total * factorial[k]


def interval(right: float, others: np.ndarray, unseen: float, k: int) -> tuple[float, float]:
    """Return the bounds of the chance that a vote of k samples is right."""
    best = vote(np.array([right + unseen, *others]), k)[0]
    return max(0.0, at_least(right, others, unseen, k) - SLACK), min(1.0, float(best) + SLACK)


def of_problem(record: Record, votes: list[str | None], alpha: float) -> dict[Any, Any]:
    """Return the interval of the right mass, and of maj@k, at one exponent."""
    z, r, unseen = record.sums(alpha)
    u, logs = unseen / (z + unseen), alpha * np.array(record.logprob)
    weights = np.exp(logs - logs.max()) / (z + unseen)
    right, others = 0.0, defaultdict(float)
    for weight, reward, answer in zip(weights, record.reward, [*votes, *[None] * len(weights)], strict=False):
        if reward is None:
            break
        if reward == 1:
            right += float(weight)
        elif answer is not None:
            others[answer] += float(weight)
    mass = (r / (z + unseen) - SLACK, r / (z + unseen) + u + SLACK)
    return {"mass": mass, "unseen": u} | {k: interval(right, np.array([*others.values()]), u, k) for k in VOTES}


def moved(before: tuple[float, float], after: tuple[float, float]) -> int:
    """Return 1 if a number certainly rises, -1 if it certainly falls, else 0."""
    return int(after[0] > before[1]) - int(after[1] < before[0])


def of_task(task: str, out: Path) -> dict[str, Any]:
    """Return the problems of a task: id, intervals by exponent."""
    settings = {"problems": PROBLEMS, "alphas": ALPHAS, "width": 0.02, "budget": 256, "max_response": 6}
    run_outcomes(OutcomesConfig.model_validate({"model": "smollm2", "data": task, **settings}), out / task)
    lines = (out / task / "trees.jsonl").read_text(encoding="utf-8").splitlines()
    records = [Record(**json.loads(line)) for line in lines]
    form, problems = load_source(task, "test").answers().form, []
    with Verifier() as verifier:
        for record in records:
            texts = [text for text in record.response if text is not None]
            (votes,) = form.united([form.votes(texts)], verifier)
            by_alpha = {alpha: of_problem(record, votes, alpha) for alpha in ALPHAS}
            problems.append({"id": record.id, "at": by_alpha})
    return {**settings, "problems": problems}


def counted(problems: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return by pair of exponents and k on how many problems mass and vote certainly go which ways."""
    rows = []
    for low, high in PAIRS:
        for k in VOTES:
            ways = [
                (moved(p["at"][low]["mass"], p["at"][high]["mass"]), moved(p["at"][low][k], p["at"][high][k]))
                for p in problems
            ]
            row = {
                "from": low,
                "to": high,
                "k": k,
                "problems": len(ways),
                "mass_up": sum(a > 0 for a, _ in ways),
                "mass_up_vote_down": ways.count((1, -1)),
                "mass_down": sum(a < 0 for a, _ in ways),
                "mass_down_vote_up": ways.count((-1, 1)),
                "undecided": sum(a == 0 or b == 0 for a, b in ways),
            }
            found = binomtest(row["mass_up_vote_down"], len(ways)).proportion_ci(method="exact")
            rows.append(row | {"share_interval": [float(found.low), float(found.high)]})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/votes"), help="folder of the trees")
    parser.add_argument("--task", action="append", choices=TASKS, help="only this one; repeatable")
    options = parser.parse_args()
    started, tasks = provenance(), {}
    for task in options.task or TASKS:
        found = of_task(task, options.out)
        rows = counted(found["problems"])
        example = next(
            (
                p
                for p in found["problems"]
                for low, high in PAIRS
                for k in VOTES
                if moved(p["at"][low]["mass"], p["at"][high]["mass"]) == 1
                and moved(p["at"][low][k], p["at"][high][k]) == -1
            ),
            None,
        )
        means = {
            str(alpha): {
                name: [float(np.mean([p["at"][alpha][name][end] for p in found["problems"]])) for end in (0, 1)]
                for name in ("mass", *VOTES)
            }
            for alpha in ALPHAS
        }
        tasks[task] = {
            "means": means,
            "counts": rows,
            "example": example,
            "settings": {name: value for name, value in found.items() if name != "problems"},
        }
        for row in rows:
            print(task, json.dumps(row), flush=True)
    RESULT.write_text(json.dumps({"model": "smollm2", "tasks": tasks, "provenance": started}, indent=1) + "\n")


if __name__ == "__main__":
    main()
