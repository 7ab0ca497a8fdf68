"""Tokens drawn from the model against total variation from p^alpha, of one response, with enumeration as the oracle.

    python benchmarks/llm/samplers.py [--particles 16000] [--largest 900000]

The problem is that of ``sharpen llm verify-sampler --tokens 3``: the embedded model's first test problem, three tokens
and the one that ends, at most four tokens, 121 responses, alpha 2. The law of one response is

- of a Metropolis-Hastings chain after 0, 1, 2, ... steps exact, by its transition matrix, and so are its mean tokens;
- of power-smc the mean of the weighted particles of simulated populations (the shipped generator);
- of reweighted the mean of the weighted pool over simulated pools (multinomial counts of the exact base law).

A simulated law is noisy, so its distance to p^alpha comes out too large. Two numbers bracket it on average: ``plain``,
too large, and ``split``, too small: half of the runs says which responses come too often, the other by how much.

Who wants an estimate of p^alpha, of an expectation under it for example, wants many responses. So ``estimate`` is the
mean total variation between p^alpha and the whole weighted population or pool, and ``chain_estimate`` that between
p^alpha and the shares of the states that one Metropolis-Hastings chain has visited, its first response included.
Writes benchmarks/results/samplers.json.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sharpen.llm.configs.exactness import ExactnessConfig
from sharpen.llm.configs.sampling import SampleConfig
from sharpen.llm.exactness.restricted import Restricted
from sharpen.llm.exactness.run import open_model
from sharpen.llm.samplers import Key, run
from sharpen.llm.samplers.particles import population
from sharpen.objective.storage.runfolder import provenance

RESULT = Path(__file__).parents[1] / "results" / "samplers.json"
ALPHA, TOKENS, LONGEST, STEPS = 2.0, 3, 4, 200
SIZES, POOLS = (4, 16, 64, 256), (4, 16, 64, 256, 1024)
CHAINS, VISITS = 200, 4000
GOALS, LEVELS = {4: 0.132, 16: 0.051, 64: 0.042, 256: 0.007}, (0.1, 0.05, 0.02, 0.01)
Law = np.ndarray


class Problem:
    """All responses, log p of each, and their laws."""

    def __init__(self, model: Restricted) -> None:
        self.model, self.logprob = model, model.law()
        self.responses = list(self.logprob)
        self.place = {tokens: place for place, tokens in enumerate(self.responses)}
        self.lengths = np.array([len(tokens) for tokens in self.responses])
        self.base = np.exp(np.array(list(self.logprob.values())))
        self.target = self.base**ALPHA / np.sum(self.base**ALPHA)

    def suffix(self, tokens: tuple[int, ...], kept: int) -> float:
        """Return the chance that the proposal ends a kept prefix so."""
        chance = 1.0
        for place in range(kept, len(tokens)):
            row = np.exp(ALPHA * self.model.table[tokens[:place]])
            chance *= row[self.model.allowed.index(tokens[place])] / row.sum()
        return chance

    def chain(self) -> tuple[Law, np.ndarray, np.ndarray]:
        """Return the law of the first response, the transition matrix, and the mean tokens of a step from each."""
        size = len(self.responses)
        matrix, cost = np.zeros((size, size)), np.zeros(size)
        for prefix in self.model.table:
            kept = len(prefix)
            inside = [self.place[x] for x in self.responses if x[:kept] == prefix and len(x) > kept]
            q = np.array([self.suffix(self.responses[place], kept) for place in inside])
            weight = self.base[inside] ** ALPHA / q / self.lengths[inside]
            accepted = np.minimum(1.0, weight[None, :] / weight[:, None])
            matrix[np.ix_(inside, inside)] += q * accepted / self.lengths[inside][:, None]
            cost[inside] += float(q @ (self.lengths[inside] - kept)) / self.lengths[inside]
        matrix[np.diag_indices(size)] += 1 - matrix.sum(axis=1)
        return np.array([self.suffix(x, 0) for x in self.responses]), matrix, cost


def metropolis(problem: Problem) -> list[dict[str, float]]:
    """Return total variation and mean tokens after each number of steps, exactly."""
    law, matrix, cost = problem.chain()
    tokens, rows = float(law @ problem.lengths), []
    for steps in range(STEPS + 1):
        rows.append({"steps": steps, "tokens": tokens, "tv": float(np.abs(law - problem.target).sum() / 2)})
        tokens, law = tokens + float(law @ cost), law @ matrix
    return rows


def visits(problem: Problem) -> list[dict[str, float]]:
    """Return mean tokens and mean total variation of the shares that one chain visits, by its steps; simulated."""
    first, matrix, cost = problem.chain()
    rng, sums, rows = np.random.default_rng(11), matrix.cumsum(axis=1), []
    state = rng.choice(first.size, size=CHAINS, p=first)
    counts, tokens = np.zeros((CHAINS, first.size)), problem.lengths[state].astype(float)
    for steps in range(VISITS + 1):
        counts[np.arange(CHAINS), state] += 1
        tv = float(np.abs(counts / (steps + 1) - problem.target).sum(axis=1).mean() / 2)
        rows.append({"steps": steps, "tokens": float(tokens.mean()), "estimate": tv})
        tokens = tokens + cost[state]
        state = np.minimum((sums[state] < rng.random((CHAINS, 1))).sum(axis=1), first.size - 1)
    return rows


def estimate_of(laws: np.ndarray, target: Law) -> float:
    return float(np.abs(laws - target).sum(axis=1).mean() / 2)


def distances(laws: np.ndarray, target: Law) -> dict[str, float]:
    """Return the two estimates of the total variation of a mean of simulated laws, shape [runs, n]."""
    halves = [laws[start::2].mean(axis=0) - target for start in (0, 1)]
    split = [other[chosen > 0].sum() for chosen, other in (halves, halves[::-1])]
    return {"plain": float(np.abs(laws.mean(axis=0) - target).sum() / 2), "split": max(0.0, float(np.mean(split)))}


def smc(problem: Problem, size: int, total: int) -> dict[str, Any]:
    """Return what populations of a size come to, some ``total`` particles of them."""
    model, laws, tokens, log_z = problem.model, [], 0, []
    for place in range(max(100, total // size)):
        drawing = population(model.prompt, LONGEST, Key(7, place, 0), 0, alpha=ALPHA, particles=size, grow=1)
        (found,) = run([drawing], model)  # type: ignore[list-item]
        law = np.zeros(len(problem.responses))
        np.add.at(law, [problem.place[path.tokens] for path in found.paths], found.weights)  # type: ignore[attr-defined]
        laws.append(law)
        tokens += found.generated
        log_z.append(found.log_z)  # type: ignore[arg-type]
    z, exact = np.exp(np.array(log_z)), float(np.sum(problem.base**ALPHA))
    row: dict[str, Any] = {"particles": size, "populations": len(laws), "tokens": tokens / len(laws)}
    row |= distances(np.array(laws), problem.target) | {"published": GOALS[size]}
    row["estimate"] = estimate_of(np.array(laws), problem.target)
    return row | {"z_over_exact": float(z.mean()) / exact, "standard_error": float(z.std() / math.sqrt(z.size)) / exact}


def pooled(problem: Problem, size: int, pools: int = 20_000) -> dict[str, Any]:
    """Return what one response of a shared pool of base samples comes to."""
    counts = np.random.default_rng(size).multinomial(size, problem.base, size=pools)
    weights = counts * problem.base ** (ALPHA - 1)
    laws = weights / weights.sum(axis=1, keepdims=True)
    tokens = size * float(problem.base @ problem.lengths)
    return {"pool": size, "pools": pools, "tokens": tokens, "estimate": estimate_of(laws, problem.target)} | distances(
        laws, problem.target
    )


def cheapest(rows: Sequence[dict[str, Any]], name: str, level: float) -> float | None:
    """Return the fewest tokens at which a sampler is within a total variation, among the settings that were tried."""
    return min((row["tokens"] for row in rows if row[name] <= level), default=None)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--particles", type=int, default=16_000, help="about so many for each size")
    parser.add_argument("--largest", type=int, default=0, help="as many for the largest size, whose noise hides most")
    options = parser.parse_args()
    started = provenance()
    sampled = SampleConfig.model_validate({"alpha": ALPHA, "engine": "transformers"})
    problem = Problem(open_model(sampled, ExactnessConfig(tokens=TOKENS, longest=LONGEST))[0])
    chain, pools = metropolis(problem), [pooled(problem, size) for size in POOLS]
    particles = []
    for size in SIZES:
        total = max(options.particles, options.largest if size == SIZES[-1] else 0)
        particles.append(smc(problem, size, total))
        print(json.dumps(particles[-1]), flush=True)
    levels = []
    for level in LEVELS:
        tokens = {
            "metropolis": cheapest(chain, "tv", level),
            "power_smc": cheapest(particles, "plain", level),
            "reweighted": cheapest(pools, "plain", level),
        }
        known = {name: value for name, value in tokens.items() if value is not None and name != "metropolis"}
        best = min(known.values(), default=None)
        once = None if best is None or tokens["metropolis"] is None else tokens["metropolis"] / best
        levels.append({"tv": level, "tokens": tokens, "chain_over_best": once})
        print(json.dumps(levels[-1]))
    walked = visits(problem)
    for row in [*particles, *pools]:
        needed = cheapest(walked, "estimate", row["estimate"])
        row["chain_tokens_for_the_estimate"] = needed  # None: more than VISITS steps
        row["chain_over_this"] = None if needed is None else needed / row["tokens"]
        print(json.dumps(row))
    kept = [row for row in chain if row["steps"] in (0, 1, 2, 5, 10, 20, 50, 100, STEPS)]
    record = {"problem": {"alpha": ALPHA, "responses": len(problem.responses), "longest": LONGEST}, "levels": levels}
    record["chain_estimate"] = [row for row in walked if row["steps"] in (0, 10, 100, 1000, VISITS)]
    record |= {"metropolis": kept, "power_smc": particles, "reweighted": pools, "provenance": started}
    RESULT.write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()
