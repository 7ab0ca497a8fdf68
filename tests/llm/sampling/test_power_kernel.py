"""Metropolis-Hastings with suffix regeneration: its exact transition matrix, and the chain that runs it."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sharpen.llm.samplers.candidates import low_temperature
from sharpen.llm.samplers.kernel import accepted, block_limits, is_hopeless, kept_tokens, log_acceptance
from sharpen.llm.sampling import (
    Extend,
    Key,
    Likeliest,
    Next,
    Path,
    Power,
    Sample,
    best_of_n,
    power,
    run,
    single,
)
from sharpen.theory.sequences.model import MarkovModel
from sharpen.theory.sequences.power import power as power_policy

EOS = 0
PROMPT = (9,)
Tokens = tuple[int, ...]


class Tabular:
    """A model by a table: probabilities of the next token after each prefix, up to a length."""

    eos_ids = frozenset({EOS})

    def __init__(self, law: Callable[[Tokens], np.ndarray], longest: int) -> None:
        self.law, self.longest = law, longest
        self.drawn: list[Extend] = []

    def tempered(self, prefix: Tokens, temperature: float) -> np.ndarray:
        weight = self.law(prefix) ** (1 / temperature)
        return weight / weight.sum()

    def responses(self, kept: Tokens = ()) -> list[Tokens]:
        """All responses of positive probability that begin with ``kept``."""
        if kept and (kept[-1] == EOS or len(kept) == self.longest):
            return [kept]
        tokens = np.flatnonzero(self.law(kept))
        return [response for token in tokens for response in self.responses((*kept, int(token)))]

    def path(self, tokens: Tokens, temperature: float) -> Path:
        pairs = [(tokens[:t], token) for t, token in enumerate(tokens)]
        base = tuple(math.log(self.law(prefix)[token]) for prefix, token in pairs)
        proposal = tuple(math.log(self.tempered(prefix, temperature)[token]) for prefix, token in pairs)
        return Path(tokens, base, proposal, tokens[-1:] == (EOS,))

    def extend(self, requests: Sequence[Extend]) -> list[Path]:
        self.drawn += requests
        return [self.draw(request, np.random.default_rng(request.seed).random) for request in requests]

    def draw(self, request: Extend, uniform: Callable[[], float]) -> Path:
        start = tokens = request.prefix[len(PROMPT) :]
        while len(tokens) < len(start) + request.limit and tokens[-1:] != (EOS,):
            law = self.tempered(tokens, request.temperature)
            tokens = (*tokens, int(np.searchsorted(law.cumsum() / law.sum(), uniform(), side="right")))
        whole = self.path(tokens, request.temperature)
        skip = len(start)
        return Path(whole.tokens[skip:], whole.base[skip:], whole.proposal[skip:], whole.ended)

    def likeliest(self, requests: Sequence[Next]) -> list[Likeliest]:
        raise AssertionError("no method here reads next tokens")


def two_steps(p: Sequence[float]) -> Tabular:
    """Responses aa, ab, ba, bb with these weights; tokens a = 1, b = 2, and no end-of-sequence token."""
    joint = np.array(p).reshape(2, 2)

    def law(prefix: Tokens) -> np.ndarray:
        weight = joint.sum(axis=1) if not prefix else joint[prefix[0] - 1]
        return np.array([0.0, *(weight / weight.sum())])

    return Tabular(law, 2)


def random_model(seed: int, tokens: int, longest: int) -> Tabular:
    """Responses of every length from 1 to ``longest``, with probabilities over several orders of magnitude."""

    @cache
    def law(prefix: Tokens) -> np.ndarray:
        return np.random.default_rng([seed, *prefix]).dirichlet(np.full(tokens + 1, 0.7)) * 0.999 + 0.001 / (tokens + 1)

    return Tabular(law, longest)


def target(model: Tabular, alpha: float) -> np.ndarray:
    weight = np.array([math.prod(model.law(x[:t])[v] for t, v in enumerate(x)) ** alpha for x in model.responses()])
    return weight / weight.sum()


def transition_matrix(
    model: Tabular, alpha: float, temperature: float, ratio: Callable[..., float] = log_acceptance
) -> np.ndarray:
    """The exact kernel, by enumeration: every cut, every continuation, each accepted with min(1, ratio)."""
    outcomes = model.responses()
    place = {x: i for i, x in enumerate(outcomes)}
    matrix = np.zeros((len(outcomes), len(outcomes)))
    for x in outcomes:
        current = model.path(x, temperature)
        for kept in range(len(x)):
            for y in model.responses(x[:kept]):
                proposed = model.path(y, temperature)
                drawn = math.exp(sum(proposed.proposal[kept:]))
                chance = min(1.0, math.exp(ratio(current, proposed, kept, alpha)))
                matrix[place[x], place[y]] += drawn * chance / len(x)
    matrix[np.diag_indices(len(outcomes))] += 1 - matrix.sum(axis=1)
    return matrix


def stationary(matrix: np.ndarray) -> np.ndarray:
    """The law that the chain leaves as it is, by linear algebra."""
    system = np.vstack([matrix.T - np.eye(len(matrix)), np.ones(len(matrix))])
    return np.linalg.lstsq(system, np.append(np.zeros(len(matrix)), 1.0))[0]


def wrong_sign(current: Path, proposed: Path, kept: int, alpha: float) -> float:
    """The acceptance ratio of a public implementation: its proposal terms have the opposite sign."""
    right = log_acceptance(current, proposed, kept, alpha)
    return right + 2 * (math.fsum(proposed.proposal[kept:]) - math.fsum(current.proposal[kept:]))


def without_lengths(current: Path, proposed: Path, kept: int, alpha: float) -> float:
    return log_acceptance(current, proposed, kept, alpha) - math.log(len(current) / len(proposed))


JI, KARAN_DU = (0.38, 0.02, 0.33, 0.27), (0.0, 0.40, 0.25, 0.25)


@pytest.mark.parametrize("temperature", [0.25, 0.5, 1.0, 2.0])
@pytest.mark.parametrize("alpha", [0.5, 1.0, 2.0, 4.0])
@pytest.mark.parametrize("weights", [JI, KARAN_DU])
def test_the_toys_have_exactly_the_power_as_their_stationary_law(
    weights: tuple[float, ...], alpha: float, temperature: float
) -> None:
    model = two_steps(weights)
    matrix, law = transition_matrix(model, alpha, temperature), target(model, alpha)
    np.testing.assert_allclose(law, [p**alpha / sum(q**alpha for q in weights) for p in weights if p], atol=1e-15)
    np.testing.assert_allclose(stationary(matrix), law, atol=1e-12, rtol=0)
    np.testing.assert_allclose(law[:, None] * matrix, (law[:, None] * matrix).T, atol=1e-12, rtol=0)


def test_published_numbers_of_the_toys() -> None:
    law = stationary(transition_matrix(two_steps(JI), 4.0, 0.25))
    np.testing.assert_allclose(law, [0.548, 0, 0.312, 0.140], atol=5e-4)
    chosen = stationary(transition_matrix(two_steps(KARAN_DU), 2.0, 0.5))  # ab, ba, bb
    assert chosen[0] / chosen[1:].sum() == pytest.approx(0.160 / 0.125, abs=1e-12)
    tokens = two_steps(KARAN_DU).tempered((), 0.5)  # at temperature 1/2 the other token is the likelier
    assert tokens[1] / tokens[2] == pytest.approx(0.160 / 0.250, abs=1e-12)


def test_the_matrix_tells_the_sign_error_of_a_public_implementation() -> None:
    law = stationary(transition_matrix(two_steps(JI), 4.0, 0.25, wrong_sign))
    np.testing.assert_allclose(law, [0.117, 0, 0.810, 0.073], atol=1e-3)


@settings(max_examples=25)
@given(
    seed=st.integers(0, 10**6),
    shape=st.sampled_from([(1, 5), (2, 3), (3, 2), (2, 4)]),
    alpha=st.floats(0.3, 5),
    temperature=st.floats(0.2, 3),
)
def test_responses_of_every_length_balance_in_detail(
    seed: int, shape: tuple[int, int], alpha: float, temperature: float
) -> None:
    model = random_model(seed, *shape)
    assert {len(x) for x in model.responses()} == set(range(1, shape[1] + 1))
    matrix, law = transition_matrix(model, alpha, temperature), target(model, alpha)
    np.testing.assert_allclose(law[:, None] * matrix, (law[:, None] * matrix).T, atol=1e-12, rtol=0)
    np.testing.assert_allclose(law @ matrix, law, atol=1e-12, rtol=0)
    # One eigenvalue 1: no other law is stationary.
    assert np.sort(np.abs(np.linalg.eigvals(matrix)))[-2] < 1


def test_without_the_factor_of_lengths_another_law_is_stationary() -> None:
    model = random_model(3, 2, 4)
    law = target(model, 2.0)
    np.testing.assert_allclose(stationary(transition_matrix(model, 2.0, 0.5)), law, atol=1e-12, rtol=0)
    wrong = stationary(transition_matrix(model, 2.0, 0.5, without_lengths))
    lengths = np.array([len(x) for x in model.responses()])
    assert np.abs(wrong - law).max() > 0.05
    # Detailed balance says which: p^alpha times the length.
    np.testing.assert_allclose(wrong, law * lengths / (law @ lengths), atol=1e-12, rtol=0)


def test_the_stationary_law_is_the_theorys_policy() -> None:
    """A Markov chain without cycles: the Doob transform of theory against the chain of the language-model backend."""
    rng = np.random.default_rng(1)
    a = np.triu(rng.random((4, 4)), 1)
    stop = rng.random(4) + 0.1
    total = a.sum(axis=1) + stop
    model, policy = MarkovModel(a / total[:, None], stop / total), None
    # State s is token s, the start is state 0 and so is the prompt; EOS is token 0.
    table = np.column_stack([stop / total, (a / total[:, None])[:, 1:]])
    tabular = Tabular(lambda prefix: table[prefix[-1] if prefix else 0], 4)
    policy = power_policy(model, 1.7).policy
    moves, stops = policy.transition.toarray(), policy.stop
    law = stationary(transition_matrix(tabular, 1.7, 1.0))
    for probability, x in zip(law, tabular.responses(), strict=True):
        states = (0, *x[:-1])
        steps = [moves[s, t] for s, t in itertools.pairwise(states)]
        assert probability == pytest.approx(math.prod(steps) * stops[states[-1]], abs=1e-12)


def test_cuts_are_uniform_and_acceptance_is_its_probability() -> None:
    for length in (1, 2, 7, 192):
        cuts = [kept_tokens(length, (i + 0.5) / (4 * length)) for i in range(4 * length)]
        assert cuts == [kept for kept in range(length) for _ in range(4)]
        assert kept_tokens(length, np.nextafter(1.0, 0.0)) == length - 1
    assert accepted(math.log(0.3), np.nextafter(0.3, 0.0))
    assert not accepted(math.log(0.3), 0.3 + 1e-12)
    assert accepted(800.0, np.nextafter(1.0, 0.0))
    assert not accepted(-math.inf, 0.0)
    assert block_limits(5, 9) == [5]
    assert block_limits(8, 4) == [4, 8]


class Fated(Tabular):
    """Its draws depend on what stands before a token and on nothing else, however a continuation is cut in parts."""

    def extend(self, requests: Sequence[Extend]) -> list[Path]:
        self.drawn += requests
        return [self._fated(request) for request in requests]

    def _fated(self, request: Extend) -> Path:
        end = Path()
        for _ in range(request.limit):
            one = Extend(request.prefix + end.tokens, 1, request.temperature, 0)
            end = end + self.draw(one, np.random.default_rng([7, *one.prefix]).random)
            if end.ended:
                break
        return end


@settings(max_examples=30)
@given(seed=st.integers(0, 10**6), chunk=st.integers(1, 5), alpha=st.floats(1, 6))
def test_dropping_hopeless_proposals_changes_no_chain_and_saves_tokens(seed: int, chunk: int, alpha: float) -> None:
    model = Fated(random_model(seed, 3, 6).law, 6)
    whole, parts = (
        run([power(PROMPT, 6, Key(seed, 0, 0), Power(alpha, 3, 12, 1 / alpha, size))], model)[0]
        for size in (None, chunk)
    )
    assert parts.path == whole.path
    assert (parts.proposals, parts.accepted, parts.moved) == (whole.proposals, whole.accepted, whole.moved)
    assert parts.generated <= whole.generated


def test_only_a_ratio_that_must_fall_is_given_up() -> None:
    model = random_model(5, 2, 4)
    for x, y in itertools.product(model.responses(), repeat=2):
        current, proposed = model.path(x, 0.5), model.path(y, 0.5)
        final = math.exp(min(0.0, log_acceptance(current, proposed, 0, 2.0)))
        for drawn in range(1, len(y)):
            assert not is_hopeless(current, proposed.keep(drawn), 0, 2.0, final * (1 - 1e-9))
    # At another temperature, and below alpha 1, the ratio can rise again, so that nothing may be dropped.
    for rising in (Power(2.0, 4, 6, 1.0, chunk=1), Power(0.5, 4, 6, 2.0, chunk=1)):
        model.drawn.clear()
        run([power(PROMPT, 4, Key(0, 0, 0), rising)], model)
        assert max(request.limit for request in model.drawn[1:]) > 1


def chains(settings: Power, longest: int, count: int, seed: int = 0) -> list[Sample]:
    model = random_model(1, 3, longest)
    return run([power(PROMPT, longest, Key(seed, 0, chain), settings) for chain in range(count)], model)


def test_a_chain_is_the_same_alone_and_among_others() -> None:
    settings = Power(2.0, 3, 4, 0.5, chunk=2)
    together = chains(settings, 6, 40)
    assert len({sample.path.tokens for sample in together}) > 5
    model = random_model(1, 3, 6)
    for chain in (0, 17, 39):
        assert run([power(PROMPT, 6, Key(0, 0, chain), settings)], model) == [together[chain]]
    assert chains(settings, 6, 40, seed=1) != together


def test_what_a_chain_reports_is_what_it_did() -> None:
    model = random_model(1, 3, 6)
    sample = run([power(PROMPT, 6, Key(0, 0, 0), Power(2.0, 3, 25, 0.5))], model)[0]
    assert sample.proposals == 50
    assert 0 < sample.moved <= sample.accepted <= 50
    assert sample.path.tokens in model.responses()
    expected = model.path(sample.path.tokens, 0.5)
    np.testing.assert_allclose(sample.path.base, expected.base, atol=1e-12)
    np.testing.assert_allclose(sample.path.proposal, expected.proposal, atol=1e-12)
    assert sample.path.ended == expected.ended
    again = random_model(1, 3, 6)
    assert sample.generated == sum(len(path) for path in again.extend(model.drawn))
    assert all(request.limit <= 6 - (len(request.prefix) - 1) for request in model.drawn)


def test_a_budget_is_spent_and_passed_by_less_than_a_response() -> None:
    for budget in (1, 40, 200):
        for sample in chains(Power(2.0, 3, 4, 0.5, budget=budget), 6, 20):
            assert sample.generated < budget + 2 * 6
            assert sample.generated >= budget
        model = random_model(1, 3, 6)
        for sample in run([best_of_n(PROMPT, 6, Key(0, 0, c), n=1, budget=budget) for c in range(20)], model):
            assert budget <= sample.generated < budget + 6


def test_stopping_early_returns_the_first_block_that_ends() -> None:
    late, early = (chains(Power(1.5, 2, 3, 1 / 1.5, early_stop=stop), 6, 200) for stop in (False, True))
    steps = {sample.proposals for sample in early}
    assert steps == {3, 6, 9}
    assert {sample.proposals for sample in late} == {9}
    assert np.mean([len(s.path) for s in early]) < np.mean([len(s.path) for s in late])


def test_the_best_of_n_is_the_likeliest_of_its_candidates() -> None:
    chosen: dict[str, list[Path]] = {"sum": [], "mean": []}
    for seed, score in itertools.product(range(6), chosen):
        model = random_model(seed, 3, 5)
        sample = run([best_of_n(PROMPT, 5, Key(0, 0, 0), n=20, score=score)], model)[0]
        candidates = random_model(seed, 3, 5).extend(model.drawn)
        assert len(candidates) == sample.proposals == 20
        worth = [sum(c.base) / (len(c) if score == "mean" else 1) for c in candidates]
        assert sample.path == candidates[int(np.argmax(worth))]
        assert sample.generated == sum(map(len, candidates))
        chosen[score].append(sample.path)
    assert chosen["sum"] != chosen["mean"]
    low = run([single(PROMPT, 5, Key(0, 0, c), 0.25) for c in range(50)], random_model(2, 3, 5))
    assert all(sample.generated == len(sample.path) for sample in low)
    tempered = run([low_temperature(PROMPT, 5, Key(0, 0, c), alpha=4.0) for c in range(50)], random_model(2, 3, 5))
    assert tempered == low  # each token at temperature 1/alpha
