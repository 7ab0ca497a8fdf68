"""p^alpha of sequence models: existence, partition vector, Doob policy, temperature, and the published examples."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import networkx as nx
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sharpen.objective import InputError
from sharpen.theory.sequences import (
    IidModel,
    MarkovModel,
    Spectrum,
    critical_alpha,
    kl,
    length_pmf,
    normalisable,
    power,
    temperature,
)

Rational = list[list[Fraction]]


@st.composite
def rational_rows(draw: st.DrawFn, most: int = 5) -> tuple[Rational, list[Fraction]]:
    """A and e as fractions; zeros, absorbing and unreachable states, and states that cannot stop, included."""
    n = draw(st.integers(1, most))
    rows, stops = [], []
    for _ in range(n):
        weights = draw(st.lists(st.sampled_from([0, 0, 0, 1, 2, 5]), min_size=n + 1, max_size=n + 1))
        if sum(weights) == 0:
            weights[-1] = 1
        rows.append([Fraction(w, sum(weights)) for w in weights[:-1]])
        stops.append(Fraction(weights[-1], sum(weights)))
    return rows, stops


def floats(rows: Any) -> np.ndarray:
    return np.array([[float(x) for x in row] for row in rows])


def live_states(rows: Rational, stops: list[Fraction]) -> list[int]:
    """By networkx: reachable from state 0, and with a way to a state that stops."""
    graph: nx.DiGraph = nx.DiGraph()
    graph.add_nodes_from([*range(len(rows)), "stop"])
    graph.add_edges_from((s, t) for s, row in enumerate(rows) for t, p in enumerate(row) if p)
    graph.add_edges_from((s, "stop") for s, p in enumerate(stops) if p)
    return sorted(({0} | nx.descendants(graph, 0)) & nx.ancestors(graph, "stop"))


def dense_radius(rows: Rational, live: list[int], alpha: float) -> float:
    a = floats(rows)[np.ix_(live, live)]
    b = np.where(a > 0, np.where(a > 0, a, 1.0) ** alpha, 0.0)
    return float(np.max(np.abs(np.linalg.eigvals(b)), initial=0.0))


@settings(max_examples=150, deadline=None)
@given(rational_rows(), st.sampled_from([0.0, 0.3, 0.8, 0.95, 1.0, 1.5, 4.0]))
def test_radius_is_that_of_dense_eigenvalues_on_live_states(
    rows: tuple[Rational, list[Fraction]], alpha: float
) -> None:
    a, e = rows
    model = MarkovModel(floats(a), [float(x) for x in e])
    live = live_states(a, e)
    assert model.live.states.tolist() == live
    bracket = Spectrum(model).bracket(alpha)
    radius = dense_radius(a, live, alpha)
    if bracket.upper == -math.inf:
        # Nilpotent: eigenvalues of a defective matrix are wrong by the k-th root of rounding.
        assert nx.is_directed_acyclic_graph(nx.DiGraph([(s, t) for s in live for t in live if a[s][t]]))
        return
    assert bracket.lower <= bracket.upper <= bracket.lower + 1e-9
    assert math.exp(bracket.middle) == pytest.approx(radius, rel=1e-6)


@settings(max_examples=80, deadline=None)
@given(rational_rows())
def test_critical_alpha_separates_existence(rows: tuple[Rational, list[Fraction]]) -> None:
    a, e = rows
    model = MarkovModel(floats(a), [float(x) for x in e])
    spectrum = Spectrum(model)
    critical = critical_alpha(spectrum)
    if critical is None:
        assert normalisable(spectrum, 0.0)
        return
    assert 0.0 <= critical < 1.0
    assert not normalisable(spectrum, critical - 1e-6 if critical > 1e-6 else 0.0)
    assert normalisable(spectrum, critical + 1e-6)
    live = live_states(a, e)
    assert dense_radius(a, live, critical) == pytest.approx(1.0, abs=1e-6)


def exact_partition(rows: Rational, stops: list[Fraction], live: list[int], power_of: int) -> list[Fraction]:
    """(I - A^(k)) v = e^(k) by Gauss-Jordan elimination over fractions."""
    m = [[Fraction(int(s == t)) - rows[s][t] ** power_of for t in live] + [stops[s] ** power_of] for s in live]
    for i in range(len(live)):
        pivot = next(r for r in range(i, len(live)) if m[r][i] != 0)
        m[i], m[pivot] = m[pivot], m[i]
        m[i] = [x / m[i][i] for x in m[i]]
        for r in range(len(live)):
            if r != i and m[r][i] != 0:
                m[r] = [x - m[r][i] * y for x, y in zip(m[r], m[i], strict=True)]
    return [row[-1] for row in m]


@settings(max_examples=100, deadline=None)
@given(rational_rows(), st.sampled_from([1, 2, 3, 8]))
def test_partition_and_doob_policy_match_exact_fractions(rows: tuple[Rational, list[Fraction]], alpha: int) -> None:
    a, e = rows
    live = live_states(a, e)
    model = MarkovModel(floats(a), [float(x) for x in e])
    if 0 not in live:
        with pytest.raises(InputError, match="stop"):
            power(model, alpha)
        return
    v = exact_partition(a, e, live, alpha)
    found = power(model, alpha)
    np.testing.assert_allclose(np.exp(found.log_partition[live]), [float(x) for x in v], rtol=1e-10)
    assert np.all(found.log_partition[np.setdiff1d(np.arange(len(a)), live)] == -np.inf)
    matrix = found.policy.transition.toarray()
    for i, s in enumerate(live):
        for j, t in enumerate(live):
            assert matrix[s, t] == pytest.approx(float(a[s][t] ** alpha * v[j] / v[i]), rel=1e-9, abs=1e-300)
        assert found.policy.stop[s] == pytest.approx(float(e[s] ** alpha / v[i]), rel=1e-9)
    assert found.policy.stops_surely


def walks(a: np.ndarray, e: np.ndarray, longest: int) -> dict[tuple[int, ...], float]:
    """Every sequence from state 0 with at most so many transitions, and its probability."""
    found, prefixes = {}, {(): 1.0}
    for _ in range(longest + 1):
        after = {}
        for walk, p in prefixes.items():
            state = walk[-1] if walk else 0
            if e[state] > 0:
                found[walk] = p * e[state]
            after |= {(*walk, t): p * a[state, t] for t in range(len(e)) if a[state, t] > 0}
        prefixes = after
    return found


@settings(max_examples=25, deadline=None)
@given(rational_rows(most=3), st.sampled_from([1.5, 2.0, 3.0]))
def test_doob_policy_is_the_normalised_power_of_every_sequence(
    rows: tuple[Rational, list[Fraction]], alpha: float
) -> None:
    a, e = floats(rows[0]), np.array([float(x) for x in rows[1]])
    if 0 not in live_states(*rows):
        return
    found = power(MarkovModel(a, e), alpha)
    policy, stop = found.policy.transition.toarray(), found.policy.stop
    total = math.exp(found.log_partition[0])
    base, sharp = walks(a, e, 7), walks(policy, stop, 7)
    for walk, p in base.items():
        assert sharp[walk] == pytest.approx(p**alpha / total, rel=1e-8, abs=0)
    # The rest of the sum is the policy's probability of longer sequences, so the partition sum is complete.
    tail = 1.0 - length_pmf(found.policy, 7).sum()
    assert sum(p**alpha for p in base.values()) == pytest.approx(total * (1.0 - tail), rel=1e-9)


def test_below_the_critical_alpha_there_is_no_power() -> None:
    model = IidModel([0.4, 0.3, 0.15, 0.1, 0.05], 0.05).markov()
    with pytest.raises(InputError, match=r"alpha: got 0\.95, allowed: an alpha above the critical 0\.964622"):
        power(model, 0.95)
    assert not normalisable(Spectrum(model), 0.95)


def prefix_tree(p: dict[str, float]) -> MarkovModel:
    """A model whose sequences are the given words of two tokens, one state a prefix; p sums to 1."""
    prefixes = sorted({word[:i] for word in p for i in range(3)}, key=lambda prefix: (len(prefix), prefix))
    mass = {prefix: sum(q for word, q in p.items() if word.startswith(prefix)) for prefix in prefixes}
    a, e = np.zeros((len(prefixes), len(prefixes))), np.zeros(len(prefixes))
    for s, prefix in enumerate(prefixes):
        if len(prefix) == 2:
            e[s] = 1.0
        for t, longer in enumerate(prefixes):
            if len(longer) == len(prefix) + 1 and longer.startswith(prefix):
                a[s, t] = mass[longer] / mass[prefix] if mass[prefix] else 0.0
        if a[s].sum() == 0.0:
            e[s] = 1.0
    return MarkovModel(a, e, 0, prefixes)


def word_probability(model: MarkovModel, word: str) -> float:
    assert model.labels is not None
    matrix, s, p = model.transition.toarray(), 0, 1.0
    for i in (1, 2):
        t = model.labels.index(word[:i])
        p, s = p * matrix[s, t], t
    return p


def test_two_step_example_of_karan_and_du() -> None:
    weights = {"aa": 0.0, "ab": 0.40, "ba": 0.25, "bb": 0.25}
    model = prefix_tree({word: w / 0.90 for word, w in weights.items()})
    sharp, cool = power(model, 2.0).policy, temperature(model, 2.0)
    assert model.labels is not None
    first = [model.labels.index(token) for token in "ab"]
    ratio = sharp.transition.toarray()[0, first]
    assert ratio[0] / ratio[1] == pytest.approx(0.160 / 0.125)
    ratio = cool.transition.toarray()[0, first]
    assert ratio[0] / ratio[1] == pytest.approx(0.160 / 0.250)
    # KL between the two over the three words, by hand.
    p = np.array([0.16, 0.0625, 0.0625]) / 0.285
    t = np.array([0.16, 0.125, 0.125]) / 0.41
    assert kl(sharp, cool) == pytest.approx(float(np.sum(p * np.log(p / t))))
    assert kl(cool, sharp) == pytest.approx(float(np.sum(t * np.log(t / p))))


def test_toy_of_ji() -> None:
    p: dict[str, float] = dict(zip(("aa", "ab", "ba", "bb"), (0.38, 0.02, 0.33, 0.27), strict=True))
    sharp = power(prefix_tree(p), 4.0).policy
    found = [word_probability(sharp, word) for word in p]
    expected = np.array(list(p.values())) ** 4
    np.testing.assert_allclose(found, expected / expected.sum(), rtol=1e-12)
    np.testing.assert_allclose(found, [0.55, 0.0, 0.31, 0.14], atol=0.005)


@settings(max_examples=60, deadline=None)
@given(rational_rows(), st.sampled_from([0.0, 0.5, 1.0, 3.0]))
def test_temperature_renormalises_each_row(rows: tuple[Rational, list[Fraction]], alpha: float) -> None:
    a, e = floats(rows[0]), np.array([float(x) for x in rows[1]])
    full = np.column_stack([a, e])
    powered = np.where(full > 0, np.where(full > 0, full, 1.0) ** alpha, 0.0)
    powered /= powered.sum(axis=1, keepdims=True)
    cool = temperature(MarkovModel(a, e), alpha)
    np.testing.assert_allclose(cool.transition.toarray(), powered[:, :-1], rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(cool.stop, powered[:, -1], rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("alpha", [100.0, 1e4, 1e6])
def test_huge_alpha_keeps_the_likeliest_sequence_only(alpha: float) -> None:
    # Likeliest: 0 -> 1 -> stop, probability 0.54; its power underflows to 0 in float64 for alpha > 1211.
    model = MarkovModel([[0.3, 0.6], [0.1, 0.0]], [0.1, 0.9])
    found = power(model, alpha)
    assert found.log_partition[0] == pytest.approx(alpha * math.log(0.54), rel=1e-12)
    np.testing.assert_allclose(found.policy.transition.toarray()[0], [0.0, 1.0], atol=1e-12)
    assert found.policy.stop[1] == pytest.approx(1.0)
    # The larger of the two cycle means rules the radius: self-loop 0.3 against sqrt(0.6 * 0.1) = 0.245.
    assert found.radius.middle == pytest.approx(alpha * math.log(0.3), rel=1e-12)
    # Exact in logs where the probabilities themselves underflow.
    loop = (found.policy.source == 0) & (found.policy.target == 0)
    assert found.policy.log_prob[loop][0] == pytest.approx(alpha * math.log(0.3), rel=1e-9)


@given(st.floats(1.0, 6.0), st.floats(0.01, 0.9))
@example(1.0, 0.05)
@settings(max_examples=40, deadline=None)
def test_power_of_independent_tokens_is_independent(alpha: float, hazard: float) -> None:
    q = np.array([0.5, 0.3, 0.2])
    model = IidModel(q, hazard)
    policy = power(model.markov(), alpha).policy
    rho = model.continuation_ratio(alpha)
    np.testing.assert_allclose(policy.stop, 1.0 - rho, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(
        policy.transition.toarray(), np.tile([0.0, *(rho * q**alpha / np.sum(q**alpha))], (4, 1)), rtol=1e-9
    )


def test_powers_of_a_model_that_may_never_stop_are_over_finite_sequences() -> None:
    # State 2 repeats for ever; it has no part in any finite sequence.
    model = MarkovModel([[0.0, 0.5, 0.25], [0.5, 0.0, 0.0], [0.0, 0.0, 1.0]], [0.25, 0.5, 0.0])
    assert not model.stops_surely
    found = power(model, 1.0)
    assert math.exp(found.log_partition[0]) == pytest.approx(
        0.5 / 0.75
    )  # 0.25 + 0.5 * 0.5 in each round of weight 0.25
    assert found.policy.stops_surely
    assert found.radius.middle == pytest.approx(math.log(0.5))


def test_only_reachable_classes_matter() -> None:
    # State 1 has radius 0.99 but nothing leads there; at alpha = 0.9 the start's own class, 0.5^0.9, decides.
    model = MarkovModel([[0.5, 0.0], [0.0, 0.99]], [0.5, 0.01])
    assert Spectrum(model).bracket(0.9).middle == pytest.approx(0.9 * math.log(0.5))
    joined = MarkovModel([[0.5, 0.1], [0.0, 0.99]], [0.4, 0.01])
    assert Spectrum(joined).bracket(0.9).middle == pytest.approx(0.9 * math.log(0.99))


def ring(n: int) -> MarkovModel:
    """One long cycle with a few chords and stops: products with the matrix nearly repeat every n steps."""
    rng = np.random.default_rng(5)
    a, e = np.diag(np.ones(n - 1), 1), np.zeros(n)
    a[n - 1, 0] = 1.0
    a[rng.integers(0, n, 5), rng.integers(0, n, 5)] += rng.random(5) + 0.1
    e[rng.integers(0, n, 10)] = 0.05
    total = a.sum(axis=1) + e
    return MarkovModel(a / total[:, None], e / total)


def grid(side: int) -> MarkovModel:
    """A random walk on a grid: it mixes slowly, and under p^alpha settles around the likeliest cycle."""
    rng = np.random.default_rng(6)
    edges = nx.to_numpy_array(nx.grid_2d_graph(side, side)) * (rng.random((side**2, side**2)) + 0.5)
    e = 0.001 * rng.random(side**2)
    total = edges.sum(axis=1) + e
    return MarkovModel(edges / total[:, None], e / total)


@pytest.mark.parametrize("model", [ring(600), grid(25)], ids=["ring", "grid"])
@pytest.mark.parametrize("alpha", [0.5, 1.0, 2.0, 30.0])
def test_radius_of_chains_that_mix_badly(model: MarkovModel, alpha: float) -> None:
    bracket = Spectrum(model).bracket(alpha)
    assert bracket.upper - bracket.lower < 1e-8
    # Weights divided by their largest, so that the oracle's matrix does not underflow.
    top = model.log_prob.max()
    powered = model.graph.matrix(np.exp(alpha * (model.log_prob - top))).toarray()
    radius = float(np.max(np.abs(np.linalg.eigvals(powered))))
    # The ring is nearly nilpotent for large alpha, where dense eigenvalues keep six digits only.
    assert bracket.middle == pytest.approx(alpha * top + math.log(radius), abs=1e-5)


def test_prompts_are_not_sharpened() -> None:
    model = MarkovModel([[0.5, 0.0], [0.0, 0.2]], [0.5, 0.8], [0.25, 0.75])
    assert power(model, 3.0).policy.start.tolist() == [0.25, 0.75]
    assert temperature(model, 3.0).start.tolist() == [0.25, 0.75]
    sharp = power(model, 3.0).policy
    np.testing.assert_allclose(sharp.stop, [1 - 0.5**3, 1 - 0.2**3])


@pytest.mark.parametrize("alpha", [-1.0, math.nan, math.inf])
def test_alpha_out_of_range(alpha: float) -> None:
    model = IidModel([1.0], 0.5).markov()
    with pytest.raises(InputError, match="alpha"):
        power(model, alpha)
    with pytest.raises(InputError, match="alpha"):
        temperature(model, alpha)
