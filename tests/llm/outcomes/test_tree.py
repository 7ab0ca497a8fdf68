"""The tree against full enumeration: masses, log-probabilities and bounds, with and without a shared cache."""

from __future__ import annotations

import itertools
from functools import lru_cache
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import LlamaConfig, LlamaForCausalLM

from sharpen.llm.outcomes import passes
from sharpen.llm.outcomes.record import Record, summarise
from sharpen.llm.outcomes.tree import Growth, Tree, grow
from sharpen.llm.rollout.stops import Stops
from sharpen.objective import Objective
from sharpen.theory.audit.certified import Seen, expected_reward, log_normalizer, mode_is_certain

EOS, STOP, VOCABULARY, LONGEST = 0, 4, 5, 4
PROMPT = [1, 2, 3]


@lru_cache
def model(seed: int) -> Any:
    torch.manual_seed(seed)
    shape: dict[str, Any] = {
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
    }
    own = LlamaForCausalLM(LlamaConfig(vocab_size=VOCABULARY, **shape, initializer_range=0.3)).eval()
    with torch.no_grad():
        own.lm_head.weight.mul_(1.5)  # some tokens far likelier than others
    return own


def ends() -> Stops:
    """Stops as a tokenizer would give: token 4 alone, and the pair 2, 3."""
    stops = Stops.__new__(Stops)
    stops.token_ids = (STOP,)
    stops._ends, stops.last_pieces = frozenset({STOP}), frozenset({3})
    stops._tokenizer = SimpleNamespace(decode=lambda ids, **_: "".join("abcde"[i - 1] for i in ids))
    stops._longer = ["bc"]  # tokens 2, 3
    return stops


@lru_cache
def every(seed: int) -> dict[tuple[int, ...], float]:
    """Return log p of every response, by plain forward passes of whole rows."""
    found = {}
    for length in range(1, LONGEST + 1):
        for row in itertools.product(range(VOCABULARY), repeat=length):
            ended = [t in (EOS, STOP) or row[max(0, i - 1) : i + 1] == (2, 3) for i, t in enumerate(row)]
            if any(ended[:-1]) or not (ended[-1] or length == LONGEST):
                continue
            with torch.no_grad():
                logits = model(seed)(input_ids=torch.tensor([[*PROMPT, *row]]), use_cache=False).logits[0]
            logs = logits.double().log_softmax(-1)
            found[row] = float(sum(logs[len(PROMPT) - 1 + i, token] for i, token in enumerate(row)))
    return found


def reward(row: tuple[int, ...]) -> float:
    return float(sum(row) % 3 == 0)


def growth(**changed: Any) -> Growth:
    return Growth(
        **{"alphas": (1.0, 2.0), "width": 1e-9, "threshold": 1e-12, "budget": 10**6, "longest": LONGEST} | changed
    )


def tree_of(seed: int, wanted: Growth) -> Tree:
    return grow(model(seed), PROMPT, wanted, eos_ids=[EOS], stops=ends())


def record_of(tree: Tree) -> Record:
    return Record.of(
        "a", 3, tree, [str(one.tokens) for one in tree.outcomes], [reward(o.tokens) for o in tree.outcomes]
    )


def known(tree: Tree, alpha: float) -> Seen:
    logs = [one.logprob for one in tree.remainders if one.alpha == alpha] + [logprob for _, logprob in tree.frontier]
    return Seen.of([one.logprob for one in tree.outcomes], [reward(one.tokens) for one in tree.outcomes], logs)


@pytest.mark.parametrize("shares", [True, False])
@pytest.mark.parametrize("batch", [1, 7])
def test_a_whole_tree_is_every_response_with_its_log_probability(
    shares: bool, batch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(passes, "prefix_is_shareable", lambda model: shares)
    tree, truth = tree_of(0, growth(width=1e-300, threshold=1e-300, batch=batch)), every(0)
    assert tree.stopped == "exact"
    assert {one.tokens for one in tree.outcomes} == truth.keys()
    assert [one.logprob for one in tree.outcomes] == pytest.approx(
        [truth[one.tokens] for one in tree.outcomes], abs=1e-4
    )
    assert [one.finished for one in tree.outcomes] == [
        one.tokens[-1] in (EOS, STOP) or one.tokens[-2:] == (2, 3) for one in tree.outcomes
    ]
    inner = {row[:length] for row in truth for length in range(1, len(row))}
    assert tree.forward_tokens == (len(inner) if shares else sum(len(PROMPT) + len(row) for row in inner))


def test_the_model_of_the_tests_shares_its_cache() -> None:
    assert passes.Passes(model(0), PROMPT, LONGEST).shares


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2),
    threshold=st.sampled_from([0.3, 0.03, 0.003]),
    budget=st.integers(1, 60),
    alpha=st.one_of(st.just(1.0), st.floats(1, 6)),
    beta_inv=st.sampled_from([0.0, 1.0, 30.0]),
)
def test_every_bound_holds_and_the_masses_sum_to_one(
    seed: int, threshold: float, budget: int, alpha: float, beta_inv: float
) -> None:
    tree, truth = tree_of(seed, growth(alphas=(alpha,), threshold=threshold, budget=budget, batch=4)), every(seed)
    assert tree.forward_tokens <= budget
    mass = [one.logprob for one in tree.outcomes] + [logprob for _, logprob in tree.frontier]
    mass += [one.logprob for one in tree.remainders if one.alpha == 1]
    assert np.exp(mass).sum() == pytest.approx(1, abs=1e-5)
    log_p, r = np.array(list(truth.values())), np.array([reward(row) for row in truth])
    logs = alpha * log_p + beta_inv * r
    log_z = float(np.logaddexp.reduce(logs))
    seen, objective = known(tree, alpha), Objective(alpha=alpha, beta_inv=beta_inv, mode="sampling")
    low, high = expected_reward(seen, objective)
    assert low - 1e-4 <= float(np.exp(logs - log_z) @ r) <= high + 1e-4
    bounds = log_normalizer(seen, objective)
    assert bounds.low - 1e-3 <= log_z <= bounds.high + 1e-3
    if mode_is_certain(seen):
        assert max(seen.logprob) == pytest.approx(max(truth.values()), abs=1e-4)


@pytest.mark.parametrize("alpha", [1.0, 1.25, 4.0])
def test_the_width_that_stops_a_tree_is_that_of_the_certified_bounds(alpha: float) -> None:
    for width in (0.3, 0.05, 0.01):
        tree = tree_of(1, growth(alphas=(alpha,), width=width, threshold=1e-6, batch=1))
        interval = expected_reward(known(tree, alpha), Objective(alpha=alpha, mode="sampling"))
        assert tree.stopped == "width"
        assert interval.width <= width
        before = tree_of(
            1, growth(alphas=(alpha,), width=1e-9, budget=tree.forward_tokens - 1, threshold=1e-6, batch=1)
        )
        assert expected_reward(known(before, alpha), Objective(alpha=alpha, mode="sampling")).width > width
        (row,) = summarise([record_of(tree)], [alpha])["curve"]
        assert (row["low"], row["high"]) == pytest.approx(tuple(interval))


def made_by_hand(prefix: float) -> Record:
    """Outcomes of .4 and .1, a prefix, and children of .3 in all, whose fourth powers sum to .12^4."""
    chances, alphas = [0.4, 0.1, prefix, 0.3, 0.12], [None, None, None, 1.0, 4.0]
    logs = np.log(chances).tolist()
    return Record("a", 3, 9, "budget", logs, [1] * 5, ["x", "y", *[None] * 3], [1.0, 0.5, *[None] * 3], alphas)


def test_sums_and_the_mode_by_hand() -> None:
    record = made_by_hand(0.2)
    for alpha, children in ((1.0, 0.3), (4.0, 0.12)):
        z, right, unseen = 0.4**alpha + 0.1**alpha, 0.4**alpha + 0.5 * 0.1**alpha, 0.2**alpha + children**alpha
        assert np.array(record.sums(alpha)) * 0.4**alpha == pytest.approx([z, right, unseen])
        (row,) = summarise([record], [alpha])["curve"]
        assert (row["low"], row["high"]) == pytest.approx((right / (z + unseen), (right + unseen) / (z + unseen)))
    assert record.mode_is_certain
    assert not made_by_hand(0.4).mode_is_certain  # it may be as likely


def test_the_mode_is_judged_by_the_sums_nearest_a_maximum() -> None:
    """Children of .5 in all could be one response; of fourth powers that sum to .12^4 none is above .12."""
    logs = np.log([0.4, 0.5, 0.12]).tolist()
    found = Record("a", 3, 9, "width", logs, [1] * 3, ["x", None, None], [1.0, None, None], [None, 1.0, 4.0])
    assert found.mode_is_certain
    alone = Record("a", 3, 9, "width", logs[:2], [1] * 2, ["x", None], [1.0, None], [None, 1.0])
    assert not alone.mode_is_certain


def test_what_stops_a_tree() -> None:
    assert tree_of(0, growth(threshold=0.4)).stopped == "threshold"
    assert tree_of(0, growth(budget=1)).stopped == "budget"
    assert tree_of(0, growth(budget=1)).forward_tokens == 1
    assert tree_of(0, growth(width=0.9)).stopped == "width"


def test_log_probabilities_that_are_not_finite_are_refused() -> None:
    broken = LlamaForCausalLM(model(0).config).eval()
    with torch.no_grad():
        broken.lm_head.weight.fill_(float("nan"))
    with pytest.raises(Exception, match="NaN or infinity"):
        grow(broken, PROMPT, growth(), eos_ids=[EOS], stops=None)
