"""T10: which sequences maximise likelihood, and likelihood per token."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Any

import numpy as np
import sympy as sp

from sharpen.theory.proofs.notation import Short, by_sign, evaluate, runs
from sharpen.theory.proofs.prose import say
from sharpen.theory.proofs.result import Derivation, Theorem
from sharpen.theory.sequences import MarkovModel, likeliest, mean_mode

PATH, CYCLE = sp.symbols("P C", real=True)  # log-probabilities, of a path to the stop and of a cycle
BEST = sp.Symbol("mu", real=True)
SIZE, PERIOD, ROUNDS = sp.symbols("l m k", integer=True, positive=True)
GAIN, BEFORE, AFTER, STOP = sp.symbols("g a b e", positive=True)
MEAN = CYCLE / PERIOD
BEST_PATH, BEST_CYCLE = sp.symbols("best_path best_cycle", real=True)
SUPREMUM = sp.Max(BEST_PATH, BEST_CYCLE)
AVERAGE = sp.Symbol("log p / |x|")
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
    supremum: Any = SUPREMUM,
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
    around = 1 / (1 + GAIN)
    gained = BEFORE * AFTER * (1 - around)
    d.has_sign(
        say("A sequence comes back to a state, with the probability {} before, {} after and {} around. Leaving the "
            "round out makes it {}: the likeliest sequence repeats no state.", BEFORE, AFTER, around,
            by_sign(gained, "likelier", "less likely")),
        gained,
        "positive",
    )  # fmt: skip
    cost = Short("cost", -sp.log(around))
    d.has_sign(
        say("Each step has a {}, here of the probability {}, so Dijkstra's algorithm finds it.",
            by_sign(sp.log(1 + GAIN), "cost", "gain"), around),
        cost,
        "positive",
        by=sp.log(1 + GAIN),
    )  # fmt: skip
    other = STOP / (1 + GAIN) / (1 + AFTER)
    d.compare(
        say("A sequence that begins with a token is no more likely than that token, and less if what follows is not "
            "certain. So where no first token is likelier than stopping at once, with {}, nothing is likelier than the "
            "empty answer.", STOP),
        STOP,
        "positive",
        other,
        by=sp.cancel(STOP - other),
    )  # fmt: skip
    most = (1 + GAIN) / (2 + GAIN)
    d.compare(
        say("So with most of the mass, here {}: then it is more than all other sequences have.", most),
        most,
        "positive",
        1 - most,
        by=sp.cancel(most - (1 - most)),
    )
    approached, missed = _repetition(d, limit)
    _one_state(d)
    found = _chains_of_two(d, repeats, Fraction(level), supremum)
    karp = _karp(d, horizon)
    _likelihood_numbers(d, supremum, found[2])
    d.state(
        "The likeliest sequence repeats no state; it is found by Dijkstra's algorithm, and is the empty one as soon as "
        "{}. The average log-likelihood of a token has the supremum of {}, where the best cycle, over states that can "
        "be reached and can stop, is Karp's {}. Rounds of a cycle bring the average to the cycle's, {}, so where it "
        "wins it is approached by endless repetition and not attained: {} and {}.",
        found[1], found[2], karp, approached, found[3], missed,
    )  # fmt: skip


def _repetition(d: Derivation, limit: Any) -> tuple[Any, Any]:
    """Derive what a cycle does to the average of any path."""
    share = SIZE / (SIZE + PERIOD)
    d.equal(
        say("Next the average over all tokens, the stop counted. Taking rounds out of a sequence leaves a path without "
            "repeats, of {} tokens and log-likelihood {}, and cycles, of {} and {}. Its average is a mean of theirs, so"
            " it does not beat the better one.", SIZE, PATH, PERIOD, CYCLE),
        (PATH + CYCLE) / (SIZE + PERIOD),
        share * PATH / SIZE + (1 - share) * CYCLE / PERIOD,
    )  # fmt: skip
    rounds = (PATH + ROUNDS * CYCLE) / (SIZE + ROUNDS * PERIOD)
    approached = d.limit(say("What {} rounds of a cycle on the way do to the average.", ROUNDS),
                         rounds, ROUNDS, sp.oo, limit)  # fmt: skip
    d.equal(
        say("How far it is from the cycle's after any number of rounds."),
        rounds - limit,
        (PATH - SIZE * CYCLE / PERIOD) / (SIZE + ROUNDS * PERIOD),
    )
    worse = sp.Symbol("h", nonnegative=True)
    put = {PATH: SIZE * (BEST - GAIN), CYCLE: PERIOD * (BEST - worse)}
    whole = (PATH + CYCLE) / (SIZE + PERIOD)
    surplus: Any = sp.factor((whole - BEST).subs(put))
    missed = d.compare(
        say("Let {} be the best cycle's average. Rounds of any cycles come short of it by {} or not at all; if the "
            "path alone does, by {}, so does every sequence: the supremum is {}.",
            BEST, worse, GAIN, by_sign(surplus, "approached and not attained", "exceeded")),
        whole,
        "negative",
        BEST,
        by=surplus,
        where=put,
        scope=say("any cycles, any number of rounds"),
    )  # fmt: skip
    return approached, missed


def _one_state(d: Derivation) -> None:
    """Follow one state, with one token, and two that alternate."""
    stop, tokens = STOP, sp.Symbol("L", integer=True, nonnegative=True)
    go = (1 + GAIN) * stop
    score = Short("score", (tokens * sp.log(go) + sp.log(stop)) / (tokens + 1))
    every = say("every {}, one state", tokens)
    more = sp.simplify(sp.expand_log(score.value.subs(tokens, tokens + 1) - score.value))
    d.compare(
        say("One state that goes on with the probability {} and stops with {}: one token more {} the average ...",
            go, stop, by_sign(more, "raises", "lowers")),
        sp.Subs(score, tokens, tokens + 1),
        "positive",
        score,
        by=more,
        scope=every,
    )  # fmt: skip
    d.equal(
        say("... and it differs from the supremum, the average of the cycle, by this."),
        score - sp.log(go),
        -sp.log(1 + GAIN) / (tokens + 1),
        by=sp.expand_log(evaluate(score) - sp.log(go)),
        scope=every,
    )
    there, back = sp.symbols("x y", positive=True)
    d.limit(
        say("Two states that alternate with the probabilities {} and {}: the average of their cycle.", there, back),
        (ROUNDS * sp.log(there * back) + sp.log(stop)) / (2 * ROUNDS + 1),
        ROUNDS,
        sp.oo,
        sp.log(there * back) / 2,
        scope=say("two states"),
    )


def _chains_of_two(d: Derivation, repeats: int, level: Any, supremum: Any) -> list[Any]:
    """Enumerate the sequences of every chain of two states with probabilities in quarters."""
    short, empty, below, strict = [], [], [], []
    most = sp.lambdify((BEST_PATH, BEST_CYCLE), supremum, [{"Max": max, "Min": min}, "math"])
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
        below.append(max(max(averages), cycle) == most(finite, cycle))
        if cycle > finite:
            strict.append(max(averages) < cycle)
    scope = say("two states, every chain in quarters, up to {} tokens", LONGEST)
    length, first = sp.Symbol("|x|"), sp.Symbol("max A_0t")
    return [
        d.check(say("No sequence is likelier than the likeliest of those without repeats."),
                sp.Le(length, 2 + repeats, evaluate=False), short, scope),
        d.check(say("Where stopping at once is no less likely than each first token, the empty answer is the "
                    "likeliest."), sp.Ge(STOP, sp.Rational(str(level)) * first, evaluate=False), empty, scope, True),
        d.check(say("No average beats the better of the best path and the best cycle on the way to the stop, which "
                    "averages come as close to as one likes."),
                sp.Eq(sp.Symbol("sup log p / |x|"), supremum, evaluate=False), below, scope),
        d.check(say("Where the cycle is better, every sequence stays below it."),
                sp.Lt(AVERAGE, BEST_CYCLE, evaluate=False), strict, scope),
    ]  # fmt: skip


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


WALK = sp.Function("F")
SHORTER, STEPS, END = sp.symbols("k n v")
KARP = (WALK(STEPS, END) - WALK(SHORTER, END)) / (STEPS - SHORTER)


def _karp(d: Derivation, horizon: int) -> Any:
    """Compare Karp's formula with all simple cycles of every graph on three states."""
    verdicts = []
    sizes, weights_of = runs(sp.Symbol("n"), [3]), runs(sp.Symbol("A"), (-1, -2))
    pairs = [(s, t) for s in range(3) for t in range(3)]
    ends = {WALK(STEPS, END): sp.Symbol("F_n"), WALK(SHORTER, END): sp.Symbol("F_k")}
    claimed = sp.lambdify((*ends.values(), STEPS, SHORTER), KARP.subs(ends))
    for weights in itertools.product((None, *weights_of), repeat=9):
        edges = {pair: w for pair, w in zip(pairs, weights, strict=True) if w is not None}
        verdicts.append(_karp_mean(edges, horizon, claimed) == _simple_mean(edges))
    shown = sp.Function("max_v")(sp.Function("min_k")(KARP))
    return d.check(
        say("Karp: with {} for the heaviest walk of {} steps to {}, the best cycle average is this, {} counting up to "
            "the number {} of states. Against all simple cycles.", WALK(SHORTER, END), SHORTER, END, SHORTER, STEPS),
        shown,
        verdicts,
        say("every graph, {}, logarithms {}", sizes, weights_of),
    )  # fmt: skip


def _karp_mean(edges: Edges, steps: int, claimed: Callable[..., float]) -> float:
    walks = [dict.fromkeys(range(3), 0.0)]
    for _ in range(steps):
        last = walks[-1]
        walks.append({v: max((last[s] + w for (s, t), w in edges.items() if t == v), default=-math.inf) for v in last})
    best = -math.inf
    for v, end in walks[-1].items():
        if end > -math.inf:
            best = max(best, min(claimed(end, walk[v], steps, k) for k, walk in enumerate(walks[:-1])))
    return best


def _simple_mean(edges: Edges) -> float:
    best = -math.inf
    for size in (1, 2, 3):
        for cycle in itertools.permutations(range(3), size):
            steps = list(zip(cycle, cycle[1:] + cycle[:1], strict=True))
            if all(step in edges for step in steps):
                best = max(best, sum(edges[step] for step in steps) / size)
    return best


def _likelihood_numbers(d: Derivation, supremum: Any, shown: Any) -> None:
    """Compare the package with networkx: shortest paths, simple paths and simple cycles."""
    import networkx as nx

    likely, averages, cycles = [], [], []
    most = sp.lambdify((BEST_PATH, BEST_CYCLE), supremum, [{"Max": max, "Min": min}, "math"])
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
        averages.append(found.supremum - most(-min(paths), -min(rounds)))
        averages.append(float(found.attained != (min(paths) <= min(rounds))))
        cycles.append(found.cycle_mean + min(rounds))
    drawn = say("{} random chains of {} to {} states", 20, 2, 5)
    words = say("The package's likeliest sequence is networkx's shortest path.")
    d.confirm(words, sp.Symbol("max log p"), likely, 1e-10, drawn)
    words = say("Its supremum of averages, and whether it is attained, are those of all simple paths and cycles.")
    d.confirm(words, shown, averages, 1e-10, drawn)
    words = say("Its best cycle average is that of all simple cycles.")
    d.confirm(words, BEST_CYCLE, cycles, 1e-10, drawn)


T10 = Theorem("T10", "Optima of normalised likelihood", normalised)
