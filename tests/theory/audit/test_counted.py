"""pass^k, the sharpening tax, crossover, support and answers, against enumeration, SciPy and published numbers."""

from __future__ import annotations

import itertools
from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import entropy, hypergeom

from sharpen.objective import InputError
from sharpen.theory.audit.counted import Counted, answers, entropy_of, pass_hat_k, token_entropy
from sharpen.theory.core.intervals import Resampler
from sharpen.theory.core.problem import FloatArray

# Oh et al. 2026 (arXiv:2610.01509), counts published beside it: of 500 WebShop goals, how many had c = 0, 1, 2, ... of
# 128 rollouts right; gemma-4-31B before and after post-training. No base goal had more than 103.
BASE = """
62 13 14 10 10 9 13 7 11 8 8 9 7 10 6 10 9 7 4 5 6 7 4 8 2 7 6 8 4 3 5 8 4 6 1 6 4 7 4 8 4 6 7 3 3 5 6 8 6 3 9 6
3 4 3 4 0 2 6 2 3 1 1 5 4 0 4 1 3 1 2 3 0 1 0 2 0 4 2 0 2 1 1 1 1 2 0 3 2 3 1 1 1 1 2 3 3 0 0 0 2 0 2 1
"""
TRAINED = """
220 11 9 3 1 5 1 1 4 3 3 0 3 2 3 1 2 1 3 0 0 0 1 0 0 1 0 2 1 0 0 1 3 0 1 1 0 0 0 0 0 1 0 3 2 0 2 4 0 0 0 0 2 0 0
0 0 1 1 2 0 0 0 0 0 0 0 0 1 0 0 0 0 0 1 0 2 0 1 2 0 1 0 0 3 1 1 0 1 1 1 0 0 1 0 0 1 0 0 1 0 2 0 0 1 2 1 1 2 0 0
1 2 1 2 0 0 0 1 2 1 2 0 6 3 3 6 7 130
"""


def counts(text: str) -> np.ndarray:
    tasks = [int(one) for one in text.split()]
    return np.repeat(np.arange(len(tasks)), tasks)


def test_the_published_example_of_the_sharpening_tax() -> None:
    base, trained = counts(BASE), counts(TRAINED)
    assert base.size == trained.size == 500
    found = Counted(base, 128, trained, 128).tax(Resampler(500, 0), 128)
    assert round(found["A"]["tax"]["value"], 2) == 4.49
    assert round(found["S"]["tax"]["value"], 3) == 0.036
    assert found["A"]["tax"]["low"] > 0
    support = Counted(base, 128, trained, 128).support(Resampler(500, 0))
    assert support["out"]["value"] == pytest.approx(0.124)  # published: never solved before
    assert support["kept"]["value"] == pytest.approx(0.56)


@given(n=st.integers(1, 6), data=st.data())
def test_pass_hat_k_is_the_share_of_sets_that_are_all_right(n: int, data: st.DataObject) -> None:
    marks = data.draw(st.lists(st.booleans(), min_size=n, max_size=n))
    k = data.draw(st.integers(1, n))
    sets = list(itertools.combinations(marks, k))
    assert pass_hat_k(sum(marks), n, k) == pytest.approx(sum(map(all, sets)) / len(sets), abs=1e-12)


def test_the_area_is_its_definition_and_the_tax_changes_sign_with_the_roles() -> None:
    rng = np.random.default_rng(0)
    base, policy = rng.integers(0, 13, 30), rng.integers(0, 13, 30)
    found = Counted(base, 12, policy, 12).tax(Resampler(30, 0), 8)
    curve = [np.mean([1 - hypergeom.pmf(0, 12, c, k) for c in base]) for k in range(1, 9)]
    area = sum(curve[7] - one for one in curve[:7])
    assert found["A"]["base"]["value"] == pytest.approx(area)
    assert found["S"]["base"]["value"] == pytest.approx(area / (7 * (1 - base.mean() / 12)))
    other = Counted(policy, 12, base, 12).tax(Resampler(30, 0), 8)
    for kind in ("A", "S"):
        assert other[kind]["tax"]["value"] == pytest.approx(-found[kind]["tax"]["value"])
        assert found[kind]["tax"]["low"] <= found[kind]["tax"]["value"] <= found[kind]["tax"]["high"]
    same = Counted(base, 12, base, 12).tax(Resampler(30, 0))
    assert same["A"]["tax"] == {"value": 0.0, "low": 0.0, "high": 0.0}


def test_a_policy_that_has_everything_right_has_no_share_of_headroom() -> None:
    found = Counted([2, 3], 4, [4, 4], 4).tax(Resampler(2, 0))
    assert found["S"]["policy"] == found["S"]["tax"] == {"value": None, "low": None, "high": None}
    assert found["A"]["policy"]["value"] == 0
    assert Counted([2, 3], 4, [4, 4], 4).tax(Resampler(2, 0), 1)["S"]["base"]["value"] is None


def test_crossover_is_where_the_base_overtakes() -> None:
    # .3 everywhere against .8 on half the problems and 0 on the others: .3 < .4 at k = 1, above it from k = 2.
    base, policy = np.full(40, 30), np.tile([80, 0], 20)
    found = Counted(base, 100, policy, 100).crossover(Resampler(40, 0))
    assert found["value"] == 2
    assert found["low"] <= 2 <= found["high"]
    assert found["chance"] > 0.9
    never = Counted(base, 100, base + 10, 100).crossover(Resampler(40, 0))
    assert never == {"value": None, "low": None, "high": None, "chance": 0.0, "most": 100}
    behind_from_the_start = Counted(base + 10, 100, base, 100).crossover(Resampler(40, 0))
    assert [behind_from_the_start[name] for name in ("value", "low", "high")] == [1, 1, 1]
    assert Counted(base, 100, base, 100).crossover(Resampler(40, 0))["value"] is None


def test_support_by_chance_is_hypergeometric_and_equal_policies_have_it() -> None:
    rng = np.random.default_rng(1)
    q = rng.beta(0.1, 1, 400)
    base, policy = rng.binomial(16, q), rng.binomial(16, q)
    found = Counted(base, 16, policy, 16).support(Resampler(400, 0))
    c = base + policy
    by_chance = np.mean([float(hypergeom.pmf(0, 32, one, 16)) if one else 0.0 for one in c])
    assert found["gained_by_chance"] == found["lost_by_chance"] == pytest.approx(by_chance)
    for name in ("gained", "lost"):
        assert found[name]["low"] <= by_chance <= found[name]["high"]
    assert sum(found[name]["value"] for name in ("kept", "gained", "lost", "out")) == pytest.approx(1)
    learnt = Counted(base, 16, np.maximum(policy, 1), 16).support(Resampler(400, 0))
    assert learnt["gained"]["low"] > 1.5 * learnt["gained_by_chance"]
    assert learnt["out"]["value"] == 0


def test_chances_of_policies_with_other_numbers_of_samples() -> None:
    """Pooled at random: gained is none of the base's samples right, lost is none of the policy's."""
    base, policy = np.array([0, 2, 1, 0]), np.array([1, 3, 0, 0])
    found = Counted(base, 8, policy, 24).support(Resampler(4, 0))
    for name, n in (("gained", 8), ("lost", 24)):
        chances = [float(hypergeom.pmf(0, 32, c, n)) if c else 0.0 for c in base + policy]
        assert found[f"{name}_by_chance"] == pytest.approx(np.mean(chances))
    # Of a, a, b in any order the first is the base's: b with the chance 1/3, and then the policy has no b.
    uneven = answers([["a"]] * 2, [["a", "b"]] * 2, Resampler(2, 0))
    places = list(itertools.permutations(["a", "a", "b"]))
    new = np.mean([sum(one != first for one in rest) / 2 for first, *rest in places])
    gone = np.mean([first not in rest for first, *rest in places])
    assert uneven["new"]["by_chance"] == pytest.approx(new)
    assert uneven["given_up"]["by_chance"] == pytest.approx(gone)


class Told(Resampler):
    """Ends of intervals that are known, after two draws: the problems as they are, and with the roles exchanged."""

    def function(self, of: Any, columns: FloatArray) -> tuple[float, float]:
        of(np.stack([columns.mean(axis=0), -columns.mean(axis=0)]))
        return 2.4, 3.6


def test_ends_of_a_crossover_are_whole_numbers_outwards_and_its_chance_is_a_share_of_draws() -> None:
    # pass@k of the base is 1/4, 1/2, 3/4, 1, that of the policy 3/4 always: it is behind at the last k only.
    found = Counted([1] * 4, 4, [4, 4, 4, 0], 4).crossover(Told(4, 0))
    assert found == {"value": 4, "low": 2, "high": 4, "chance": 1.0, "most": 4}
    assert Counted([1] * 4, 4, [4] * 4, 4).crossover(Told(4, 0))["chance"] == 0.5


def test_entropy_is_grassbergers() -> None:
    """G(1) = -gamma - log 2, G(2) = 2 + G(1), G(3) = G(2), G(4) = G(2) + 2/3 (arXiv:physics/0307138, equation 35)."""
    one = -np.euler_gamma - np.log(2)
    weights = {1: one, 2: one + 2, 3: one + 2, 4: one + 2 + 2 / 3}
    for counts in ([1, 2], [3, 4], [4, 2, 1]):
        expected = np.log(sum(counts)) - sum(n * weights[n] for n in counts) / sum(counts)
        assert entropy_of(Counter(dict(zip("abc", counts, strict=False)))) == pytest.approx(expected, rel=1e-12)


def test_answers_in_common_by_mass() -> None:
    base = [["a", "a", "b", None], ["x", "x", "x", "x"]]
    policy = [["a", "c", "c", "c"], ["x", "x", "x", None]]
    found = answers(base, policy, Resampler(2, 0))
    assert found["new"]["value"] == pytest.approx((3 / 4 + 1 / 4) / 2)
    assert found["given_up"]["value"] == pytest.approx((2 / 4 + 0) / 2)
    same = answers([["a", "b"]] * 2, [["b", "a"]] * 2, Resampler(2, 0))
    assert same["new"]["value"] == same["entropy"]["difference"]["value"] == 0
    # Of pooled a, a, b, b the base has both a with the chance 1/6, and then half of the samples are of the unseen b.
    assert same["new"]["by_chance"] == pytest.approx(2 / 6)


def test_entropy_of_answers_has_little_bias_where_the_plain_one_has_much() -> None:
    rng = np.random.default_rng(2)
    p = rng.dirichlet(np.ones(10))
    drawn = rng.multinomial(32, p, size=2000)
    ours = np.mean(
        [
            entropy_of(Counter(dict(zip(map(str, range(10)), row.tolist(), strict=True)) | {}) + Counter())
            for row in drawn
        ]
    )
    plain = np.mean([entropy(row) for row in drawn])
    assert abs(ours - entropy(p)) < 0.02
    assert entropy(p) - plain > 0.08


def test_token_entropy_is_a_ratio_of_sums() -> None:
    found = token_entropy(np.array([[4.0, 8], [6, 2]]), np.array([[1.0, 1], [1, 3]]), Resampler(2, 0))
    assert found["base"]["value"] == 1.0
    assert found["policy"]["value"] == 0.5
    assert found["difference"]["value"] == -0.5


@pytest.mark.parametrize(
    ("numbers", "field"),
    [
        (([1, 2], 4, [1], 4), "problems"),
        (([1], 4, [1], 4), "problems"),
        (([1, 5], 4, [1, 1], 4), "correct"),
        (([1, 1.5], 4, [1, 1], 4), "correct"),
    ],
)
def test_bad_counts_are_refused_by_name(numbers: tuple[list[float], int, list[float], int], field: str) -> None:
    with pytest.raises(InputError) as error:
        Counted(*numbers)
    assert error.value.field == field


def test_a_k_above_the_samples_is_refused() -> None:
    with pytest.raises(InputError, match="k"):
        Counted([1, 1], 4, [1, 1], 3).tax(Resampler(2, 0), 4)
