"""Where rates round to 0 or to 1, and what the search for the crossover rests on; oracles in 60 digits or fractions."""

from __future__ import annotations

import json
import math
from fractions import Fraction
from pathlib import Path

import mpmath
import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from sharpen.cli.main import main
from sharpen.objective import InputError
from sharpen.theory.core.problem import Problem
from sharpen.theory.optima.coverage import LogRates, Prompt, crossover, log_crossover, log_rates

SUCCESS = st.one_of(
    st.sampled_from([0.0, 1.0, 1.0 - 2.0**-53, 2.0**-60, 1e-300, 0.5]),
    st.floats(1e-6, 1.0),
    st.floats(-40.0, 0.0).map(math.exp),
)


def by_brute_force(base: list[float], other: list[float], weights: list[float], k_max: int) -> int | None:
    """The first k with D(k) < 0 by evaluating every k in 60 digits."""
    with mpmath.workdps(60):
        # Written with q, as 1 - q would not hold a q below 1e-60.
        logs = [
            [mpmath.log1p(-mpmath.mpf(q)) if q < 1 else mpmath.mpf("-inf") for q in rates] for rates in (base, other)
        ]
        for k in range(1, k_max + 1):
            terms = [
                mpmath.mpf(w) * (mpmath.expm1(k * b) - mpmath.expm1(k * o))
                for w, b, o in zip(weights, *logs, strict=True)
                if b != o
            ]
            total, size = mpmath.fsum(terms), mpmath.fsum(abs(x) for x in terms)
            if total < 0:
                # Nearer to 0 than doubles resolve there is no right answer in doubles: such problems are left out.
                assume(size == 0 or abs(total) > 1e-11 * size)
                return k
            assume(size == 0 or total > 1e-11 * size or total == 0)
    return None


def test_a_success_that_rounds_to_one() -> None:
    assert crossover([0.005, 0.9, 0.002], [0.9, 1.0, 0.0019]) == 818
    b, o = [Fraction("0.995"), Fraction("0.1"), Fraction("0.998")], [Fraction("0.1"), Fraction(0), Fraction("0.9981")]
    first = next(k for k in range(1, 900) if sum(x**k - y**k for x, y in zip(b, o, strict=True)) < 0)
    assert first == 818


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(SUCCESS, SUCCESS, st.floats(0.1, 3.0)), min_size=1, max_size=4))
@example([(0.005, 0.9, 1.0), (0.9, 1.0, 1.0), (0.002, 0.0019, 1.0)])
@example([(1.0, 0.5, 1.0), (0.25, 1.0, 1.0)])
@example([(0.0, 1.0, 1.0), (0.01, 0.0, 1.0)])
def test_every_k_by_brute_force(rows: list[tuple[float, float, float]]) -> None:
    base, other, weights = (list(column) for column in zip(*rows, strict=True))
    assert crossover(base, other, weights, k_max=300) == by_brute_force(base, other, weights, 300)


def bump(a: float, b: float, k: float) -> float:
    """exp(-a k) - exp(-b k): what a prompt of rates a < b contributes against the other policy."""
    return math.exp(-a * k) - math.exp(-b * k)


def test_a_crossover_inside_a_range_whose_ends_show_none() -> None:
    # The first prompt helps the other policy by the same at all k; the second hurts it most at k = 724, so that D < 0
    # only near there, between the ends 512 and 1023 of the range that is looked at.
    rate = math.log(2.0) / 724.0
    slow, fast = rate, 2.0 * rate
    deepest = bump(slow, fast, 724.0)
    q = [-math.expm1(-slow), -math.expm1(-fast)]
    for share in (0.99, 1.0 - 1e-6, 1.0 - 1e-10):
        weights = [share * deepest, 1.0]
        k = np.arange(1, 1200)
        with mpmath.workdps(40):
            gap = [
                mpmath.mpf(weights[0]) + (1 - mpmath.mpf(q[1])) ** int(i) - (1 - mpmath.mpf(q[0])) ** int(i) for i in k
            ]
        first = next(int(i) for i, d in zip(k, gap, strict=True) if d < 0)
        assert 512 < first <= 724
        assert gap[511] > 0 < gap[1022]
        assert crossover([0.0, q[1]], [1.0, q[0]], weights) == first


def test_a_difference_of_rounding_is_none() -> None:
    # In exact arithmetic 0.1 + 0.2 and 0.3 differ by 3e-17; the sums' difference is below what doubles resolve.
    assert crossover([0.1, 0.2], [0.2, 0.1]) is None
    base = np.linspace(0.01, 0.99, 50)
    assert crossover(base, base[::-1], k_max=3000) is None
    with pytest.raises(InputError, match="k_max"):  # every k would have to be looked at
        crossover([0.1, 0.2], [0.2, 0.1], k_max=2**53 - 1)


def test_rates_that_underflow() -> None:
    def rates(*log_success: float) -> LogRates:
        log_q = np.array(log_success)
        return LogRates(log_q, np.log1p(-np.exp(log_q)))

    assert log_crossover(rates(-1000.0), rates(-2000.0)) == 1
    assert log_crossover(rates(-2000.0), rates(-1000.0)) is None
    assert log_crossover(rates(-1000.0, -1000.5), rates(-999.9, -5000.0)) == 1  # e^-0.5 lost against e^.1 - 1 won
    assert log_crossover(rates(-1000.0, -1000.5), rates(-999.0, -1001.0)) is None
    # A prompt whose rates underflow has no part beside one whose rates do not.
    assert log_crossover(rates(-3.0, -1000.0), rates(-2.0, -2000.0)) is None
    assert log_crossover(rates(-1000.0), rates(-1000.0)) is None
    assert log_crossover(rates(-700.0), rates(-800.0)) == 1


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(-3000.0, 0.0), min_size=2, max_size=6), st.integers(1, 62))
def test_both_logarithms_of_a_success(level: list[float], bits: int) -> None:
    log_p = np.array(level)
    log_p -= np.logaddexp.reduce(log_p)
    correct = [float(bits >> i & 1) for i in range(log_p.size)]
    assume(0 < sum(correct) < len(correct))
    found = log_rates([Prompt(Problem.from_log(log_p, correct))], [log_p])
    with mpmath.workdps(1400):
        p = [mpmath.exp(mpmath.mpf(x)) for x in log_p.tolist()]
        right = mpmath.fsum(x for x, c in zip(p, correct, strict=True) if c)
        expected = mpmath.log(right / mpmath.fsum(p)), mpmath.log1p(-right / mpmath.fsum(p))
    for logs, exact in zip(found, expected, strict=True):
        assert float(logs[0]) == pytest.approx(float(exact), rel=1e-12, abs=1e-15)


def test_the_command_tells_rates_apart_that_round_to_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # Sharpening raises the success of the first prompt from 1 - 1e-20 to 1 - 1e-40 and loses the second; at large k the
    # second decides. With rounded rates the first would be no difference at all; both are found from the logarithms.
    mix = [
        {"base": "log:0,-46.051701859880914", "reward": [1, 0]},
        {"base": "log:0,-900", "reward": [0, 1]},
    ]
    path = tmp_path / "mix.json"
    path.write_text(json.dumps(mix))
    with pytest.raises(SystemExit) as stop:
        main(["theory", "coverage", "--mix", str(path), "--json", "--k", "1,2"])
    assert stop.value.code == 0
    assert json.loads(capsys.readouterr().out)["crossover"] == {"optimum": None}
    path.write_text(json.dumps(mix[1:]))
    with pytest.raises(SystemExit):
        main(["theory", "coverage", "--mix", str(path), "--json", "--k", "1,2"])
    assert json.loads(capsys.readouterr().out)["crossover"] == {"optimum": 1}
