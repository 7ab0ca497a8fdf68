"""The restricted model against the model itself, and published samplers with and without their mistakes."""

from __future__ import annotations

import copy
import itertools
import math
from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import chisquare
from scipy.stats import entropy as scipy_entropy
from transformers import PreTrainedModel, Qwen2Config, Qwen2ForCausalLM

from sharpen.llm.configs.sampling import SampleConfig
from sharpen.llm.exactness.restricted import Restricted, likeliest_tokens, responses_of, restrict
from sharpen.llm.exactness.run import draw
from sharpen.llm.samplers import Extend, Next
from sharpen.objective import InputError
from sharpen.theory.exactness.goodness import Goodness, compare, draws_needed

PROMPT, ALLOWED, EOS, LONGEST = (3, 4, 2), (0, 5, 7), 1, 3
OWN = '''
"""Metropolis-Hastings with suffix regeneration as it is often written."""

from sharpen.llm.samplers.kernel import accepted, kept_tokens
from sharpen.llm.sampling import Extend, Sample


def chain(prompt, longest, key, alpha, ratio, steps=12):
    (now,) = yield [Extend(prompt, longest, 1 / alpha, key.seeds(0)[0])]
    for step in range(steps):
        cut, threshold = key.uniforms(1, step, count=2)
        kept = kept_tokens(len(now), cut)
        (end,) = yield [Extend(prompt + now.tokens[:kept], longest - kept, 1 / alpha, key.seeds(2, step)[0])]
        if accepted(ratio(now.keep(kept) + end, now, kept), threshold):
            now = now.keep(kept) + end
    return Sample(now, proposals=steps)


def without_proposal(prompt, longest, key, *, alpha):
    """Leaves the proposal's probabilities out."""
    return chain(prompt, longest, key, alpha, lambda new, old, kept: alpha * (sum(new.base) - sum(old.base)))


def without_length(prompt, longest, key, *, alpha):
    """Leaves |x|/|x'| out."""
    return chain(
        prompt, longest, key, alpha, lambda new, old, kept: new.log_weight(kept, alpha) - old.log_weight(kept, alpha)
    )


def outside(prompt, longest, key, *, alpha):
    (path,) = yield [Extend((*prompt, 99), longest, 1.0, 0)]
    return Sample(path)
'''


@pytest.fixture(scope="module")
def model() -> PreTrainedModel:
    torch.manual_seed(5)
    sizes = {"hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = Qwen2Config(
        vocab_size=9,
        num_key_value_heads=1,
        max_position_embeddings=32,
        initializer_range=0.25,
        bos_token_id=None,
        eos_token_id=EOS,
        **sizes,  # type: ignore[arg-type]
    )
    return Qwen2ForCausalLM(config).eval()


@pytest.fixture(scope="module")
def restricted(model: PreTrainedModel) -> Restricted:
    return restrict(model, PROMPT, (*ALLOWED, EOS), (EOS,), LONGEST)


@pytest.fixture(scope="module")
def chance() -> Restricted:
    """Return a law of two tokens and an end, drawn at random, with responses of every length."""
    rng, table = np.random.default_rng(2), {}
    for prefix in (prefix for length in range(4) for prefix in itertools.product((0, 2), repeat=length)):
        table[prefix] = np.log(rng.dirichlet([3.0, 2.0, 3.0]))
    return Restricted(PROMPT, (0, 1, 2), frozenset({EOS}), 4, table)


def brute_force(model: PreTrainedModel) -> dict[tuple[int, ...], float]:
    """Return log p of every response, one plain pass each, in float64."""
    exact: Any = copy.deepcopy(model).double()
    allowed, found = [*ALLOWED, EOS], {}
    for length in range(1, LONGEST + 1):
        for tokens in itertools.product(allowed, repeat=length):
            if EOS in tokens[:-1] or (tokens[-1] != EOS and length < LONGEST):
                continue
            with torch.no_grad():
                logits = exact(input_ids=torch.tensor([[*PROMPT, *tokens]])).logits[0].numpy()
            found[tokens] = 0.0
            for place, token in enumerate(tokens):
                weights = np.exp(logits[len(PROMPT) - 1 + place][allowed])
                found[tokens] += math.log(weights[allowed.index(token)] / weights.sum())
    return found


def test_the_law_is_the_models_conditioned_on_the_allowed_tokens(
    model: PreTrainedModel, restricted: Restricted
) -> None:
    expected, law = brute_force(model), restricted.law()
    assert law.keys() == expected.keys()
    assert len(law) == responses_of(3, LONGEST)
    assert list(law.values()) == pytest.approx([expected[tokens] for tokens in law], abs=1e-4)
    assert sum(map(math.exp, law.values())) == pytest.approx(1)


def test_draws_and_their_log_probabilities_are_the_laws(restricted: Restricted) -> None:
    paths = restricted.extend([Extend(PROMPT, LONGEST, 0.5, seed) for seed in range(3000)])
    law, counts = restricted.law(), Counter(path.tokens for path in paths)
    token_wise = {}
    for tokens in law:
        rows = [np.exp(2 * restricted.table[tokens[:place]]) for place in range(len(tokens))]
        places = [restricted.allowed.index(token) for token in tokens]
        token_wise[tokens] = math.prod(row[place] / row.sum() for row, place in zip(rows, places, strict=True))
    often = [tokens for tokens, p in token_wise.items() if p * 3000 >= 5]
    rest = 3000 - sum(counts[tokens] for tokens in often)
    expected = [3000 * token_wise[tokens] for tokens in often]
    assert chisquare([*(counts[t] for t in often), rest], [*expected, 3000 - sum(expected)]).pvalue > 1e-3
    for path in paths[:50]:
        assert sum(path.base) == pytest.approx(law[path.tokens])
        assert sum(path.proposal) == pytest.approx(math.log(token_wise[path.tokens]))
        assert path.ended == (path.tokens[-1] == EOS)


def test_entropies_are_those_of_the_model_at_every_temperature(restricted: Restricted) -> None:
    for path in restricted.extend([Extend(PROMPT, LONGEST, 0.5, seed, entropies=True) for seed in range(5)]):
        laws = [np.exp(restricted.table[path.tokens[:place]]) for place in range(len(path))]
        assert path.entropy == pytest.approx([scipy_entropy(law) for law in laws])
    assert restricted.extend([Extend(PROMPT, LONGEST, 0.5, 0)])[0].entropy == ()


def test_the_likeliest_tokens_are_the_models(model: PreTrainedModel, restricted: Restricted) -> None:
    (top,) = restricted.likeliest([Next((*PROMPT, 5), 2)])
    order = np.argsort(-restricted.table[(5,)])[:2]
    assert top.token_K.tolist() == [restricted.allowed[place] for place in order]
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([PROMPT])).logits[0, -1].numpy()
    going, end = likeliest_tokens(model, PROMPT, (EOS, 6), 3)
    assert list(going) == [token for token in np.argsort(-logits) if token not in (EOS, 6)][:3]
    assert end == (max((EOS, 6), key=lambda token: logits[token]),)


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("own")
    (folder / "chains_with_mistakes.py").write_text(OWN)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        import chains_with_mistakes  # type: ignore[import-not-found]

    return str(chains_with_mistakes.__name__)


def fit(chance: Restricted, tv: float = 0.15, seed: int = 1, **settings: Any) -> Goodness:
    config = SampleConfig.model_validate({"alpha": 2.0, "seed": seed, **settings})
    weights = np.exp(config.alpha * np.array(list(chance.law().values())))
    law = weights / weights.sum()
    draws = draws_needed(law, tv, power_wanted=0.99, false_alarm=1e-3)
    drawn = draw(config, chance, draws)
    assert drawn.draws == draws
    return compare([drawn.counts[tokens] for tokens in chance.law()], law, 1e-3)


@pytest.mark.parametrize(
    "settings", [{"method": "power", "steps": 12}, {"method": "plain", "alpha": 1.0}], ids=lambda one: one["method"]
)
def test_exact_samplers_pass(chance: Restricted, settings: dict[str, Any]) -> None:
    assert fit(chance, **settings).exact


@pytest.mark.parametrize("mistake", ["without_proposal", "without_length", "low-temperature", "best-of-n"])
def test_published_mistakes_are_found(chance: Restricted, own: str, mistake: str) -> None:
    """Acceptance without the proposal; without the number of places to cut; token by token taken for p^alpha."""
    named = mistake if "-" in mistake else f"{own}:{mistake}"
    found = fit(chance, method=named)
    assert found.p_value < 1e-6
    assert found.total_variation > found.largest_variation


def test_a_sampler_that_leaves_the_model_is_told(chance: Restricted, own: str) -> None:
    with pytest.raises(InputError, match=r"method: got .*continues the prompt"):
        fit(chance, method=f"{own}:outside")
