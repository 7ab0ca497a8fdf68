"""Particles against enumeration: Z without bias, the law of the chain, and the door of samplers."""

from __future__ import annotations

import bisect
import itertools
import json
import math
from collections import Counter
from collections.abc import Sequence
from functools import cache
from pathlib import Path as Folder

import numpy as np
import pytest
from scipy.stats import chisquare

from sharpen.cli.main import main
from sharpen.llm.samplers import Extend, Key, Likeliest, Next, Path, run
from sharpen.llm.samplers.particles import Population, particles, population, systematic
from sharpen.objective import InputError

EOS, LONGEST, ALPHA = 0, 3, 2.5
FIRST = np.array([0.15, 0.5, 0.35])  # of EOS, 1 and 2
AFTER = {1: np.array([0.3, 0.1, 0.6]), 2: np.array([0.7, 0.2, 0.1])}


def law(prefix: Sequence[int]) -> np.ndarray:
    return AFTER[prefix[-1]] if prefix else FIRST


@cache
def tempered(last: tuple[int, ...], temperature: float) -> tuple[list[float], list[float], list[float]]:
    """Return the law after a token, the same at a temperature, and the running sums of that."""
    p = law(last)
    q = p ** (1 / temperature) / np.sum(p ** (1 / temperature))
    return p.tolist(), q.tolist(), q.cumsum().tolist()


class Chain:
    """A Markov chain of three tokens that stands for a language model; a prompt is the token 9."""

    eos_ids = frozenset({EOS})

    def extend(self, requests: Sequence[Extend]) -> list[Path]:
        return [self._one(request) for request in requests]

    def likeliest(self, requests: Sequence[Next]) -> list[Likeliest]:
        raise AssertionError("not asked")

    def _one(self, request: Extend) -> Path:
        rng, path = np.random.default_rng(request.seed), Path()
        while len(path) < request.limit and not path.ended:
            p, q, cdf = tempered((*request.prefix[1:], *path.tokens)[-1:], request.temperature)
            token = bisect.bisect_right(cdf, rng.random() * cdf[-1])
            path = path + Path((token,), (math.log(p[token]),), (math.log(q[token]),), token == EOS)
        return path


def exact() -> dict[tuple[int, ...], float]:
    """Return p^alpha of every response, not normalised."""
    found: dict[tuple[int, ...], float] = {}
    for length in range(1, LONGEST + 1):
        for tokens in itertools.product(range(3), repeat=length):
            whole = tokens[-1] == EOS or length == LONGEST
            if whole and EOS not in tokens[:-1]:
                p = math.prod(law(tokens[:place])[token] for place, token in enumerate(tokens))
                found[tokens] = p**ALPHA
    return found


def grown(count: int, size: int) -> list[Population]:
    made = [population((9,), LONGEST, Key(3, 0, each), 0, alpha=ALPHA, particles=size, grow=1) for each in range(count)]
    return run(made, Chain())  # type: ignore[arg-type, return-value]


@pytest.mark.parametrize("size", [1, 4])
def test_z_is_estimated_without_bias(size: int) -> None:
    estimates = np.exp([one.log_z for one in grown(4000, size)])
    error = estimates.std() / math.sqrt(estimates.size)
    total = sum(exact().values())
    assert abs(estimates.mean() - total) < 4 * error
    assert error < 0.02 * total


def test_weighted_particles_have_the_right_means_of_what_is_not_normalised() -> None:
    """Z-hat times a weighted mean is unbiased for sum p^alpha f: here f is the length."""
    total = sum(weight * len(tokens) for tokens, weight in exact().items())
    found = [
        math.exp(one.log_z) * sum(w * len(path) for w, path in zip(one.weights, one.paths, strict=True))
        for one in grown(4000, 3)
    ]
    assert abs(np.mean(found) - total) < 4 * np.std(found) / math.sqrt(len(found))


def test_the_chain_has_the_exact_law() -> None:
    """Even with two particles; one population alone has another law, and the same test sees it."""
    target = exact()
    expected = np.array(list(target.values())) / sum(target.values())

    def p_value(populations: int) -> float:
        drawn = [
            particles((9,), LONGEST, Key(1, 0, each), alpha=ALPHA, particles=2, grow=1, populations=populations)
            for each in range(2500)
        ]
        seen = Counter(sample.path.tokens for sample in run(drawn, Chain()))
        assert seen.keys() <= target.keys()
        return float(chisquare([seen[tokens] for tokens in target], expected * 2500).pvalue)

    assert p_value(8) > 1e-3
    assert p_value(1) < 1e-4


def test_what_a_draw_costs_is_counted() -> None:
    drawn = particles((9,), LONGEST, Key(1, 0, 0), alpha=ALPHA, particles=8, grow=2, populations=5)
    (sample,) = run([drawn], Chain())
    assert sample.proposals == 4
    assert 0 <= sample.moved <= sample.accepted <= 4
    assert sample.generated >= 5 * 8


def after_one_token(weights: Sequence[float]) -> tuple[list[int], Population]:
    """Grow particles of two tokens whose first has these weights; return the parent of each, and all at the end."""
    growing = population((9,), 2, Key(0, 0, 0), 0, alpha=1.0, particles=len(weights), grow=1)
    next(growing)
    asked = growing.send([Path((place,), (math.log(w),), (0.0,)) for place, w in enumerate(weights)])
    parents = [request.prefix[1] for request in asked if isinstance(request, Extend)]
    with pytest.raises(StopIteration) as end:
        growing.send([Path((7,), (0.0,), (0.0,))] * len(asked))
    return parents, end.value.value


def test_particles_are_resampled_where_less_than_half_of_them_count() -> None:
    """(sum w)^2 / sum w^2 is 3.19 of four, then 1.06: then all begin again with even weights and the mean in Z."""
    parents, even = after_one_token([1.0, 1.0, 1.0, 0.1])
    assert parents == [0, 1, 2, 3]
    assert even.weights == pytest.approx([1 / 3.1] * 3 + [0.1 / 3.1])
    assert even.log_z == pytest.approx(math.log(3.1 / 4))
    parents, uneven = after_one_token([1.0, 0.01, 0.01, 0.01])
    assert parents[:3] == [0, 0, 0]
    assert uneven.weights == pytest.approx([0.25] * 4)
    assert uneven.log_z == pytest.approx(math.log(1.03 / 4))


def test_systematic_resampling_keeps_the_weights() -> None:
    weights = np.array([0.5, 0.2, 0.2, 0.1])
    counts = np.zeros(4)
    for uniform in (np.arange(1000) + 0.5) / 1000:
        counts += np.bincount(systematic(np.log(weights), uniform), minlength=4)
    assert counts / 4000 == pytest.approx(weights, abs=1e-3)


@pytest.mark.parametrize("setting", ["particles", "grow", "populations"])
def test_numbers_below_one_are_refused(setting: str) -> None:
    with pytest.raises(InputError, match=setting):
        run([particles((9,), LONGEST, Key(1, 0, 0), alpha=ALPHA, **{setting: 0})], Chain())


def test_the_command_draws_with_them(tmp_path: Folder) -> None:
    asked = ["llm", "sample", "--method", "power-smc", "--alpha", "2"]
    asked += ["--particles", "3", "--populations", "2", "--problems", "2", "--engine", "transformers"]
    with pytest.raises(SystemExit) as end:
        main([*asked, "--max-length", "48", "--out", str(tmp_path / "drawn"), "--json"])
    assert not end.value.code
    found = json.loads((tmp_path / "drawn" / "evaluation.json").read_text())
    assert found["cost"]["proposals"] == 2  # one population a response after the first
