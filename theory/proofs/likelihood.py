"""T10: which sequences maximise likelihood, and likelihood per token."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Any

import numpy as np
import sympy as sp

from sharpen.theory.proofs.result import Derivation, Theorem
from sharpen.theory.sequences import MarkovModel, likeliest, mean_mode

PATH, CYCLE = sp.symbols("P C", real=True)  # log-probabilities, of a path to the stop and of a cycle
BEST = sp.Symbol("mu", real=True)
SIZE, PERIOD, ROUNDS = sp.symbols("l m k", integer=True, positive=True)
GAIN, BEFORE, AFTER, STOP = sp.symbols("g a b e", positive=True)
MEAN = CYCLE / PERIOD
QUARTERS = 4
LONGEST = 5  # tokens of the walks that are enumerated
POWERS = math.lcm(*range(1, LONGEST + 2))  # averages p^(1/l) are compared as whole powers of p
Edges = dict[tuple[int, int], int]


def normalised(
    d: Derivation,
    *,
    limit: Any = MEAN,
    repeats: int = 0,
    level: Any = 1,
    supremum: Callable[..., Any] = max,
    horizon: int = 3,
) -> None:
    """Derive the optima of log p(x) and of log p(x) / |x|.

    Args:
        d: Takes the steps.
        limit: Claimed limit of the average of a path with more and more rounds of a cycle (m tokens, log p = C).
        repeats: Claimed largest number of tokens, above n - 1, of the likeliest sequence of n states.
        level: Claimed multiple of the likeliest first token from which on stopping at once is the likeliest answer.
        supremum: Claimed function of the best average of a path without repeats and of the best cycle.
        horizon: Claimed number of steps after which Karp's formula is right for 3 states.
    """
    d.has_sign(
        "Of a sequence that comes back to a state (probability a before, b after, 1 / (1 + g) around), leaving out the "
        "round raises the probability: the likeliest sequence repeats no state.",
        BEFORE * AFTER * (1 - 1 / (1 + GAIN)),
        "positive",
    )
    d.has_sign(
        "Steps have costs -log A >= 0, here of A = 1 / (1 + g), so Dijkstra's algorithm finds it.",
        sp.expand_log(-sp.log(1 / (1 + GAIN)), force=True),
        "positive",
    )
    d.has_sign(
        "A sequence that begins with a token t is at most as likely as that token, A_0t = e / (1 + g), and less if "
        "what follows (1 / (1 + b)) is not certain: where no first token is likelier than stopping at once, e, "
        "nothing is likelier than the empty answer.",
        sp.cancel(STOP - STOP / (1 + GAIN) / (1 + AFTER)),
        "positive",
        shown=STOP - STOP / (1 + GAIN) / (1 + AFTER),
    )
    d.has_sign(
        "So with half the mass, e = (1 + g) / (2 + g): then all other sequences together have less.",
        sp.cancel((1 + GAIN) / (2 + GAIN) - (1 - (1 + GAIN) / (2 + GAIN))),
        "positive",
    )
    _repetition(d, limit)
    _one_state(d)
    _chains_of_two(d, repeats, Fraction(level), supremum)
    _karp(d, horizon)
    _likelihood_numbers(d, supremum)


def _repetition(d: Derivation, limit: Any) -> None:
    """Derive what a cycle does to the average of any path."""
    share = SIZE / (SIZE + PERIOD)
    d.equal(
        "Next the average over |x| tokens, the stop counted. Taking rounds out of a sequence leaves a path without "
        "repeats (l tokens, log p = P) and cycles (m, C); its average is a mean of theirs, so at most the largest.",
        (PATH + CYCLE) / (SIZE + PERIOD),
        share * PATH / SIZE + (1 - share) * CYCLE / PERIOD,
    )
    rounds = (PATH + ROUNDS * CYCLE) / (SIZE + ROUNDS * PERIOD)
    d.limit("k rounds of a cycle on the way bring the average to the cycle's.", rounds, ROUNDS, sp.oo, limit)
    d.equal(
        "The difference from the cycle's mean is this for any k.",
        rounds - limit,
        (PATH - SIZE * CYCLE / PERIOD) / (SIZE + ROUNDS * PERIOD),
    )
    worse = sp.Symbol("h", nonnegative=True)
    below = (PATH + CYCLE - (SIZE + PERIOD) * BEST) / (SIZE + PERIOD)
    surplus: Any = sp.factor(below.subs({PATH: SIZE * (BEST - GAIN), CYCLE: PERIOD * (BEST - worse)}))
    d.has_sign(
        "Let mu be the best cycle's mean. Rounds of any cycles, m tokens in all, have log p = m (mu - h), h >= 0; if "
        "the path alone has less than mu, l (mu - g), so has every sequence: the supremum is approached and never "
        "attained.",
        surplus,
        "negative",
        shown=(PATH + CYCLE) / (SIZE + PERIOD) - BEST,
        scope="any cycles, any number of rounds",
    )


def _one_state(d: Derivation) -> None:
    """Follow one state, with one token, and two that alternate."""
    stop, tokens = STOP, sp.Symbol("L", integer=True, nonnegative=True)
    score = (tokens * sp.log((1 + GAIN) * stop) + sp.log(stop)) / (tokens + 1)
    d.has_sign(
        "One state that goes on with probability (1 + g) e and stops with e: each further token raises the average ...",
        sp.simplify(sp.expand_log(score.subs(tokens, tokens + 1) - score)),
        "positive",
        scope="every L, one state",
    )
    d.equal(
        "... and it stays below the supremum, the mean of the cycle, by this.",
        sp.expand_log(score - sp.log((1 + GAIN) * stop)),
        -sp.log(1 + GAIN) / (tokens + 1),
        shown=score - sp.log((1 + GAIN) * stop),
        scope="every L, one state",
    )
    there, back = sp.symbols("x y", positive=True)
    d.limit(
        "Two states that alternate with probabilities x and y: the mean over the cycle.",
        (ROUNDS * sp.log(there * back) + sp.log(stop)) / (2 * ROUNDS + 1),
        ROUNDS,
        sp.oo,
        sp.log(there * back) / 2,
        scope="two states",
    )


def _chains_of_two(d: Derivation, repeats: int, level: Any, supremum: Callable[..., Any]) -> None:
    """Enumerate the sequences of every chain of two states with probabilities in quarters."""
    short, empty, below, strict = [], [], [], []
    for edges, stop in _quarters():
        walks = list(_walks(edges, stop))
        if not walks:
            continue
        short.append(max(p for p, w in walks) == max((p for p, w in walks if len(w) <= 2 + repeats), default=0))
        if stop[0] >= level * max(edges[0]):
            empty.append(max(p for p, _ in walks) == stop[0])
        averages = [p ** (POWERS // len(w)) for p, w in walks]
        finite = max(x for x, (_, w) in zip(averages, walks, strict=True) if len(set(w)) == len(w))
        cycle = _best_cycle(edges, stop)
        below.append(max(averages) <= supremum(finite, cycle))
        if cycle > finite:
            strict.append(max(averages) < cycle)
    scope = f"two states, every chain in quarters, up to {LONGEST} tokens"
    d.check("No sequence is likelier than the likeliest of those without repeats.",
            sp.Le(sp.Symbol("|x|"), 2 + repeats, evaluate=False), short, scope)  # fmt: skip
    d.check("Where stopping at once is at least as likely as every first token, the empty answer is the likeliest.",
            sp.Ge(STOP, level * sp.Symbol("max A_0t"), evaluate=False), empty, scope, True)  # fmt: skip
    best = sp.Max(sp.Symbol("best path"), sp.Symbol("best cycle"), evaluate=False)
    d.check("No average beats the larger of the best path and the best cycle on the way to the stop.",
            sp.Le(sp.Symbol("log p / |x|"), best, evaluate=False), below, scope)  # fmt: skip
    d.check("Where the cycle is better, every sequence stays below it.",
            sp.Lt(sp.Symbol("log p / |x|"), sp.Symbol("best cycle"), evaluate=False), strict, scope)  # fmt: skip


def _quarters() -> Iterator[tuple[list[list[Fraction]], list[Fraction]]]:
    rows = [x for x in itertools.product(range(QUARTERS + 1), repeat=3) if sum(x) == QUARTERS]
    for pair in itertools.product(rows, repeat=2):
        shares = [[Fraction(x, QUARTERS) for x in row] for row in pair]
        yield [row[:2] for row in shares], [row[2] for row in shares]


def _walks(edges: list[list[Fraction]], stop: list[Fraction]) -> Iterator[tuple[Fraction, tuple[int, ...]]]:
    """Yield the probability and the states, the start included, of every sequence from state 0."""
    prefixes = [(Fraction(1), (0,))]
    for _ in range(LONGEST + 1):
        yield from ((p * stop[w[-1]], w) for p, w in prefixes if stop[w[-1]])
        prefixes = [(p * edges[w[-1]][t], (*w, t)) for p, w in prefixes for t in range(len(stop)) if edges[w[-1]][t]]


def _best_cycle(edges: list[list[Fraction]], stop: list[Fraction]) -> Fraction:
    """Return the best geometric mean of a cycle of two states, to the power that averages are compared at."""
    live = [bool(stop[0] or (edges[0][1] and stop[1])), bool(edges[0][1] and (stop[1] or (edges[1][0] and stop[0])))]
    loops = [edges[s][s] ** POWERS for s in (0, 1) if live[s]]
    turn = [(edges[0][1] * edges[1][0]) ** (POWERS // 2)] if all(live) else []
    return max([*loops, *turn, Fraction(0)])


def _karp(d: Derivation, horizon: int) -> None:
    """Compare Karp's formula with all simple cycles of every graph on three states."""
    verdicts = []
    pairs = [(s, t) for s in range(3) for t in range(3)]
    for weights in itertools.product((None, -1, -2), repeat=9):
        edges = {pair: w for pair, w in zip(pairs, weights, strict=True) if w is not None}
        verdicts.append(_karp_mean(edges, horizon) == _simple_mean(edges))
    walk = sp.Function("F")
    k, n, v = sp.symbols("k n v")
    shown = sp.Function("max_v")(sp.Function("min_k")((walk(n, v) - walk(k, v)) / (n - k)))
    d.check(
        "Karp: with F(k, v) the heaviest walk of k steps to v, the best cycle mean is this. Against all simple cycles.",
        shown,
        verdicts,
        "every graph of 3 states with weights -1 and -2",
    )


def _karp_mean(edges: Edges, steps: int) -> float:
    walks = [dict.fromkeys(range(3), 0.0)]
    for _ in range(steps):
        last = walks[-1]
        walks.append({v: max((last[s] + w for (s, t), w in edges.items() if t == v), default=-math.inf) for v in last})
    best = -math.inf
    for v, end in walks[-1].items():
        if end > -math.inf:
            best = max(best, min((end - walk[v]) / (steps - k) for k, walk in enumerate(walks[:-1])))
    return best


def _simple_mean(edges: Edges) -> float:
    best = -math.inf
    for size in (1, 2, 3):
        for cycle in itertools.permutations(range(3), size):
            steps = list(zip(cycle, cycle[1:] + cycle[:1], strict=True))
            if all(step in edges for step in steps):
                best = max(best, sum(edges[step] for step in steps) / size)
    return best


def _likelihood_numbers(d: Derivation, supremum: Callable[..., Any]) -> None:
    """Compare the package with networkx: shortest paths, simple paths and simple cycles."""
    import networkx as nx

    likely, averages, cycles = [], [], []
    for _ in range(20):
        n = int(d.rng.integers(2, 6))
        rows = d.rng.dirichlet(np.full(n + 1, 0.4), size=n)
        graph = nx.DiGraph()
        graph.add_weighted_edges_from((s, t, -math.log(p)) for (s, t), p in np.ndenumerate(rows))  # node n is the stop
        model = MarkovModel(rows[:, :-1], rows[:, -1])
        likely.append(likeliest(model)[0].log_prob + nx.dijkstra_path_length(graph, 0, n))
        paths = [nx.path_weight(graph, path, "weight") / (len(path) - 1) for path in nx.all_simple_paths(graph, 0, n)]
        rounds = [nx.path_weight(graph, [*c, c[0]], "weight") / len(c) for c in nx.simple_cycles(graph)]
        found = mean_mode(model)
        averages.append(found.supremum - supremum(-min(paths), -min(rounds)))
        averages.append(float(found.attained != (min(paths) <= min(rounds))))
        cycles.append(found.cycle_mean + min(rounds))
    drawn = "20 random chains of 2 to 5 states"
    d.confirm("The package's likeliest sequence is networkx's shortest path.",
              sp.Symbol("max log p"), likely, 1e-10, drawn)  # fmt: skip
    d.confirm("Its supremum of averages, and whether it is attained, are those of all simple paths and cycles.",
              sp.Symbol("sup log p / |x|"), averages, 1e-10, drawn)  # fmt: skip
    d.confirm("Its best cycle mean is that of all simple cycles.", MEAN, cycles, 1e-10, drawn)


T10 = Theorem(
    "T10",
    "Optima of normalised likelihood",
    "log p(x) is largest for a sequence without repeats, found by Dijkstra's algorithm on -log A; it is the empty one "
    "as soon as stopping at once is at least as likely as every first token. The supremum of log p(x) / |x| is the "
    "larger of the best average of a sequence without repeats and the maximum cycle mean of log A (Karp) over states "
    "that can be reached and can stop; where the cycle wins it is approached by endless repetition and never "
    "attained.",
    r"\sup_x \frac{\log p(x)}{|x|} = \max\Big(\max_{x\ \mathrm{simple}} \frac{\log p(x)}{|x|},\ "
    r"\max_{\mathrm{cycles}\ C} \frac{1}{|C|} \sum_{(s,t) \in C} \log A_{st}\Big)",
    normalised,
)
