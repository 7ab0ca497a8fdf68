"""Optima of likelihood: against enumeration, networkx, brute force over simple cycles, and Karp's algorithm."""

from __future__ import annotations

import itertools
import math

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sharpen.objective import InputError, Objective
from sharpen.theory.sequences import IidModel, MarkovModel, cycle_means, likeliest, mean_mode, weighted_mode


@st.composite
def models(draw: st.DrawFn, most: int = 4, stop: float = 0.0) -> MarkovModel:
    """Random sparse models whose start can stop; zeros, absorbing and unreachable states included."""
    n = draw(st.integers(1, most))
    weight = st.one_of(st.just(0.0), st.floats(0.05, 1.0))
    rows = np.array([draw(st.lists(weight, min_size=n + 1, max_size=n + 1)) for _ in range(n)])
    rows[:, -1] += stop
    rows[rows.sum(axis=1) == 0.0, -1] = 1.0
    rows /= rows.sum(axis=1, keepdims=True)
    model = MarkovModel(rows[:, :-1], rows[:, -1])
    if not model.can_stop[0]:
        rows[0] *= 0.5
        rows[0, -1] += 0.5
        model = MarkovModel(rows[:, :-1], rows[:, -1])
    return model


def enumerate_sequences(model: MarkovModel, tokens: int) -> list[tuple[float, tuple[int, ...]]]:
    """All (log p, states) with at most so many tokens."""
    found, prefixes = [], [((0,), 0.0)]
    for _ in range(tokens + 1):
        after = []
        for walk, log_p in prefixes:
            if model.stop[walk[-1]] > 0:
                found.append((log_p + math.log(model.stop[walk[-1]]), walk[1:]))
            row = model.transition.toarray()[walk[-1]]
            after += [((*walk, int(t)), log_p + math.log(row[t])) for t in np.flatnonzero(row)]
        prefixes = after
    return found


def live_graph(model: MarkovModel) -> nx.DiGraph:
    matrix = model.transition.toarray()
    graph: nx.DiGraph = nx.DiGraph()
    graph.add_nodes_from([*range(model.n), "stop"])
    for s, t in np.argwhere(matrix > 0).tolist():
        graph.add_edge(s, t, cost=-math.log(matrix[s, t]))
    for s in np.flatnonzero(model.stop > 0).tolist():
        graph.add_edge(s, "stop", cost=-math.log(model.stop[s]))
    keep = ({0} | nx.descendants(graph, 0)) & ({"stop"} | nx.ancestors(graph, "stop"))
    return nx.DiGraph(graph.subgraph(keep))


def brute_cycle_mean(graph: nx.DiGraph) -> float:
    best = -math.inf
    for cycle in nx.simple_cycles(graph):
        edges = zip(cycle, cycle[1:] + cycle[:1], strict=True)
        best = max(best, -sum(graph.edges[edge]["cost"] for edge in edges) / len(cycle))
    return best


def karp(graph: nx.DiGraph) -> float:
    """Karp's maximum cycle mean, component by component."""
    best = -math.inf
    for part in nx.strongly_connected_components(graph):
        inner = graph.subgraph(part)
        if inner.number_of_edges() == 0:
            continue
        n, nodes = len(part), list(part)
        walk = [{v: (0.0 if v == nodes[0] else -math.inf) for v in nodes}]
        for _ in range(n):
            walk.append(
                {
                    v: max((walk[-1][u] - inner.edges[u, v]["cost"] for u in inner.predecessors(v)), default=-math.inf)
                    for v in nodes
                }
            )
        for v in nodes:
            if walk[n][v] > -math.inf:
                means = [(walk[n][v] - walk[k][v]) / (n - k) for k in range(n) if walk[k][v] > -math.inf]
                best = max(best, min(means))
    return best


@settings(max_examples=150, deadline=None)
@given(models(most=6))
def test_maximum_cycle_mean_is_that_of_simple_cycles_and_of_karp(model: MarkovModel) -> None:
    graph = live_graph(model)
    found = cycle_means(model.live)
    expected = brute_cycle_mean(graph)
    assert karp(graph) == pytest.approx(expected, abs=1e-10)
    if expected == -math.inf:
        assert (found.best, found.bound, found.best_cycle()) == (-math.inf, -math.inf, ())
        return
    assert found.best == pytest.approx(expected, abs=1e-10)
    assert found.best <= found.bound <= found.best + 1e-10
    cycle = found.best_cycle()
    assert len(set(cycle)) == len(cycle)
    edges = zip(cycle, cycle[1:] + cycle[:1], strict=True)
    assert -sum(graph.edges[edge]["cost"] for edge in edges) / len(cycle) == pytest.approx(expected, abs=1e-10)


def test_cycle_means_of_a_larger_random_graph() -> None:
    rng = np.random.default_rng(3)
    weights = np.where(rng.random((60, 61)) < 0.08, rng.random((60, 61)), 0.0)
    weights[:, -1] += 0.1
    weights[np.arange(59), np.arange(1, 60)] += 0.05
    weights /= weights.sum(axis=1, keepdims=True)
    model = MarkovModel(weights[:, :-1], weights[:, -1])
    found = cycle_means(model.live)
    assert found.best == pytest.approx(karp(live_graph(model)), abs=1e-10)
    assert found.bound - found.best < 1e-10


def test_the_certified_bound_holds_before_policy_iteration_has_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sharpen.theory.sequences.cycles.ROUNDS", 1)
    rng, early = np.random.default_rng(1), 0
    for _ in range(50):
        weights = rng.random((6, 7)) ** 3 + 1e-3
        weights /= weights.sum(axis=1, keepdims=True)
        model = MarkovModel(weights[:, :-1], weights[:, -1])
        found, expected = cycle_means(model.live), brute_cycle_mean(live_graph(model))
        assert found.best - 1e-12 <= expected <= found.bound + 1e-12
        early += found.best < expected - 1e-9
    assert early > 0  # some had not ended, so that the bound had something to say


@settings(max_examples=80, deadline=None)
@given(models())
def test_likeliest_is_networkx_dijkstra(model: MarkovModel) -> None:
    graph = live_graph(model)
    cost = nx.dijkstra_path_length(graph, 0, "stop", weight="cost")
    best = likeliest(model)[0]
    assert best.log_prob == pytest.approx(-cost, abs=1e-12)
    assert best.length == len(best.states) + 1


@settings(max_examples=60, deadline=None)
@given(models(most=3, stop=0.5), st.integers(1, 6))
def test_the_k_likeliest_are_those_of_enumeration(model: MarkovModel, count: int) -> None:
    expected = sorted(enumerate_sequences(model, 8), reverse=True)[:count]
    found = likeliest(model, count)
    # Nine tokens and more have at most this log-probability; what enumeration cannot see must be below.
    beyond = 9 * math.log(max(model.transition.toarray().max(), 1e-300))
    for each, (log_prob, _) in zip(found, expected, strict=False):
        if log_prob > beyond:
            assert each.log_prob == pytest.approx(log_prob, abs=1e-10)
    assert len({each.states for each in found}) == len(found)
    for each in found:
        assert each.log_prob == pytest.approx(dict_of(model, each.states), abs=1e-10)


def dict_of(model: MarkovModel, states: tuple[int, ...]) -> float:
    matrix, path = model.transition.toarray(), [0, *states]
    return sum(math.log(matrix[s, t]) for s, t in itertools.pairwise(path)) + math.log(model.stop[path[-1]])


def test_fewer_sequences_than_asked() -> None:
    model = MarkovModel([[0.0, 0.5], [0.0, 0.0]], [0.5, 1.0])
    assert [each.states for each in likeliest(model, 5)] == [(), (1,)]


def test_the_empty_answer_is_likeliest_once_stopping_at_once_is() -> None:
    assert likeliest(IidModel([0.4, 0.6], 0.3).markov())[0].states == ()
    # A first state that cannot stop: the shortest answer that can.
    model = MarkovModel([[0.0, 1.0], [0.9, 0.0]], [0.0, 0.1])
    best = likeliest(model)[0]
    assert (best.states, best.length) == ((1,), 2)
    assert best.log_prob == pytest.approx(math.log(0.1))


@settings(max_examples=120, deadline=None)
@given(models())
def test_supremum_of_the_mean_against_enumeration(model: MarkovModel) -> None:
    found = mean_mode(model)
    graph = live_graph(model)
    cycle = brute_cycle_mean(graph)
    # A walk of at most n tokens repeats no state; every longer walk averages one of those and cycles.
    finite = max(log_p / (len(states) + 1) for log_p, states in enumerate_sequences(model, model.n))
    assert found.supremum == pytest.approx(max(cycle, finite), abs=1e-9)
    assert found.cycle_mean == pytest.approx(cycle, abs=1e-9)
    if abs(cycle - finite) > 1e-9:
        assert found.attained == (finite > cycle)
    if found.sequence is not None:
        assert found.attained
        assert found.sequence.log_prob / found.sequence.length == pytest.approx(found.supremum, abs=1e-9)
        assert dict_of(model, found.sequence.states) == pytest.approx(found.sequence.log_prob, abs=1e-9)
    else:
        assert found.cycle


def test_endless_repetition_is_approached_and_not_attained() -> None:
    model = MarkovModel([[0.0, 1.0, 0.0], [0.0, 0.0, 0.95], [0.0, 0.95, 0.0]], [0.0, 0.05, 0.05])
    found = mean_mode(model)
    assert (found.attained, found.sequence, sorted(found.cycle)) == (False, None, [1, 2])
    assert found.supremum == pytest.approx(math.log(0.95))
    scores = [(k * math.log(0.95) + math.log(0.05)) / (k + 2) for k in (10, 100, 1000, 100_000)]
    assert scores == sorted(scores)
    assert all(score < found.supremum for score in scores)
    assert found.supremum - scores[-1] < 1e-4


@pytest.mark.parametrize("lead", [1e-2, 1e-4, 1e-6, 1e-9, -1e-9, -1e-6, -1e-2])
def test_a_small_lead_of_the_cycle_over_stopping_decides(lead: float) -> None:
    found = mean_mode(MarkovModel([[0.5 + lead]], [0.5 - lead]))
    assert found.attained == (lead < 0)
    assert found.supremum == pytest.approx(math.log(0.5 + abs(lead)), rel=1e-14)


def test_a_tie_of_cycle_and_finite_average_is_attained() -> None:
    model = MarkovModel([[0.5]], [0.5])
    found = mean_mode(model)
    assert found.attained
    assert found.supremum == pytest.approx(math.log(0.5))
    assert found.cycle == (0,)


def test_a_finite_average_can_beat_the_cycle() -> None:
    # 0 -> 1 -> 2 -> stop with probabilities 0.9, 0.9, 0.9; the self-loop has 0.1.
    model = MarkovModel([[0.1, 0.9, 0.0], [0.1, 0.0, 0.9], [0.0, 0.1, 0.0]], [0.0, 0.0, 0.9])
    found = mean_mode(model)
    assert found.attained
    assert found.sequence is not None
    assert found.sequence.states == (1, 2)
    assert found.supremum == pytest.approx(math.log(0.9))


@settings(max_examples=100, deadline=None)
@given(models(most=3, stop=0.2), st.sampled_from([-1.0, 0.0, 0.3, 0.5, 0.8, 1.0, 1.5]))
def test_weighted_score_against_enumeration(model: MarkovModel, weight: float) -> None:
    longest = 8
    found = weighted_mode(model, weight, longest)
    pairs = enumerate_sequences(model, longest - 1)
    log_p, length = np.array([p for p, _ in pairs]), np.array([len(states) + 1 for _, states in pairs])
    fields = {"alpha": 1.0, "mode": "optimization", "normalization": "weighted_mean", "weight": weight}
    scores = Objective.model_validate(fields).score(log_p, length)
    within = length <= found.longest
    assert found.score == pytest.approx(scores[within].max(), abs=1e-10)
    assert dict_of(model, found.sequence.states) == pytest.approx(found.sequence.log_prob, abs=1e-10)
    assert found.sequence.score(weight) == pytest.approx(found.score, abs=1e-10)
    assert found.score <= found.bound
    assert np.all(scores <= found.bound + 1e-9)  # also the sequences that were not searched
    if found.optimal:
        assert found.score == pytest.approx(scores.max(), abs=1e-9)


@pytest.mark.parametrize("hazard", [0.05, 0.3])
def test_the_bound_of_a_search_cut_short_holds_for_longer_sequences(hazard: float) -> None:
    model = IidModel([0.9, 0.1], hazard).markov()
    short, full = weighted_mode(model, 0.9, 2), weighted_mode(model, 0.9, 5000)
    assert full.optimal
    assert short.bound >= full.score
    length = np.arange(1, 5001)
    expected = ((length - 1) * math.log((1 - hazard) * 0.9) + math.log(hazard)) / length**0.9
    assert full.score == pytest.approx(expected.max(), rel=1e-12)
    assert full.sequence.length == 1 + int(np.argmax(expected))
    assert full.sequence.states == (1,) * (full.sequence.length - 1)


def test_a_mean_that_is_better_by_little_is_found() -> None:
    """Two tokens of .6 each, the likeliest, against three whose mean is .002 nats higher."""
    last = 0.216 * math.exp(0.006) / (0.4 * 0.7)
    transition = np.zeros((4, 4))
    transition[0, 1], transition[0, 2], transition[1, 1], transition[2, 3] = 0.6, 0.4, 0.4, 0.7
    transition[2, 2], transition[3, 3] = 0.3, 1 - last
    model = MarkovModel(transition, [0.0, 0.6, 0.0, last])
    assert likeliest(model)[0].states == (1,)
    found = mean_mode(model)
    assert found.sequence is not None
    assert found.sequence.states == (2, 3)
    assert found.supremum == pytest.approx(math.log(0.6) + 0.002, rel=1e-12)


def test_a_walk_is_traced_by_its_weight_and_the_edge() -> None:
    """To state 3 through 1, which is likelier than 2 but leads there seldom, or through 2."""
    transition = np.zeros((8, 8))
    transition[0, 1:3], transition[1, 3:8], transition[2, 3] = [0.6, 0.4], 0.2, 1.0
    found = weighted_mode(MarkovModel(transition, [0.0, 0.0, 0.0, *[1.0] * 5]), 0.5, 10)
    assert found.sequence.states == (2, 3)
    assert found.sequence.log_prob == pytest.approx(math.log(0.4))


def test_exponents_above_one_have_no_maximum() -> None:
    found = weighted_mode(IidModel([1.0], 0.5).markov(), 2.0, 50)
    assert (found.optimal, found.bound, found.sequence.length) == (False, 0.0, 50)


def test_long_sequences_are_traced_exactly() -> None:
    # A corridor of 300 sure steps: only one way.
    n = 300
    model = MarkovModel(np.eye(n, k=1), [*([0.0] * (n - 1)), 1.0])
    found = weighted_mode(model, 0.5, 1000)
    assert found.sequence.states == tuple(range(1, n))
    assert (found.optimal, found.score) == (True, 0.0)
    assert mean_mode(model).sequence == likeliest(model)[0] == found.sequence


@pytest.mark.parametrize(
    ("call", "field"),
    [
        (lambda model: likeliest(model, 0), "count"),
        (lambda model: weighted_mode(model, math.nan), "weight"),
        (lambda model: weighted_mode(model, 0.5, 0), "longest"),
        (lambda model: weighted_mode(MarkovModel([[0.0, 1.0], [0.0, 0.0]], [0.0, 1.0]), 0.5, 1), "longest"),
        (lambda model: mean_mode(MarkovModel([[1.0]], [0.0])), "stop"),
        (lambda model: likeliest(MarkovModel([[0.5, 0.0], [0.0, 0.5]], [0.5, 0.5], [0.5, 0.5])), "start"),
    ],
)
def test_bad_input_is_named(call, field: str) -> None:
    with pytest.raises(InputError, match=field):
        call(IidModel([1.0], 0.5).markov())
