"""What every rollout engine must do, tried on each of them: its distribution, its log-probabilities, its semantics."""

from __future__ import annotations

import copy
import pickle
import random
from collections import Counter
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import chi2_contingency, chisquare
from transformers import PreTrainedModel, Qwen2Config, Qwen2ForCausalLM

from sharpen.llm.rollout import Engine, Rollout, Sampling, make_engine
from sharpen.objective import InputError

VOCABULARY, EOS, MAX_LENGTH = 7, 1, 24
PROMPTS = [[3, 4, 2, 6, 5, 0, 3, 2, 4], [5], [2, 2, 6]]  # of different lengths, so that batches are padded


@pytest.fixture(scope="module")
def model() -> PreTrainedModel:
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=VOCABULARY,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=64,
        initializer_range=0.15,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=EOS,
    )
    return Qwen2ForCausalLM(config)


@pytest.fixture(scope="module", params=["transformers", pytest.param("vllm", marks=pytest.mark.vllm)])
def engine(
    request: pytest.FixtureRequest, model: PreTrainedModel, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Engine]:
    folder: Path = tmp_path_factory.mktemp("model")
    model.save_pretrained(folder)
    engine = make_engine(request.param, model=model, location=folder, max_length=MAX_LENGTH, seed=0)
    assert engine.name == request.param
    yield engine
    engine.close()


def by_hand(logits: torch.Tensor, sampling: Sampling) -> np.ndarray:
    """The distribution of the next token by the definitions of temperature and nucleus, in NumPy."""
    weight = np.exp((logits.double().numpy() - logits.max().item()) / sampling.temperature)
    probability = weight / weight.sum()
    kept, mass = np.zeros(len(probability)), 0.0
    for token in np.argsort(-probability):
        if mass >= sampling.top_p:
            break
        kept[token] = probability[token]
        mass += probability[token]
    return kept / kept.sum()


Logits = dict[tuple[int, ...], torch.Tensor]  # of the token after a response's beginning, by that beginning


@pytest.fixture(scope="module")
def exact(model: PreTrainedModel) -> list[Logits]:
    """Of each prompt the logits after every beginning of a response of three tokens, in one float64 pass."""
    double, beginnings = copy.deepcopy(model).double().eval(), [*product(range(VOCABULARY), repeat=2)]
    tables: list[Logits] = []
    for prompt in PROMPTS:
        with torch.no_grad():
            logits = double(input_ids=torch.tensor([[*prompt, *ids] for ids in beginnings])).logits
        after = {
            ids[:length]: row[len(prompt) - 1 + length]
            for ids, row in zip(beginnings, logits, strict=True)
            for length in range(3)
        }
        tables.append(after)
    return tables


def outcomes(table: Logits, sampling: Sampling) -> dict[tuple[int, ...], float]:
    """The exact probability of every response of at most three tokens, by enumeration."""
    assert sampling.max_new_tokens == 3
    found: dict[tuple[int, ...], float] = {}
    open_prefixes: list[tuple[tuple[int, ...], float]] = [((), 1.0)]
    while open_prefixes:
        prefix, mass = open_prefixes.pop()
        for token, probability in enumerate(by_hand(table[prefix], sampling)):
            response = (*prefix, token)
            if probability == 0:
                continue
            if token == EOS or len(response) == sampling.max_new_tokens:
                found[response] = mass * probability
            else:
                open_prefixes.append((response, mass * probability))
    return found


def p_value(responses: list[list[int]], expected: dict[tuple[int, ...], float]) -> float:
    """Pearson's chi-square test, with the outcomes expected fewer than five times pooled; 0 for an impossible one."""
    counts = Counter(map(tuple, responses))
    if set(counts) - set(expected):
        return 0.0
    common = [o for o, p in expected.items() if p * len(responses) >= 5]
    observed = [counts[o] for o in common]
    wanted = [expected[o] * len(responses) for o in common]
    rest = len(responses) - sum(wanted)
    if rest > 1e-6 * len(responses):
        observed.append(len(responses) - sum(observed))
        wanted.append(rest)
    return float(chisquare(observed, wanted).pvalue)


SAMPLINGS = [
    Sampling(3),
    Sampling(3, temperature=0.6),
    Sampling(3, temperature=1.5),
    Sampling(3, top_p=0.7),
    Sampling(3, temperature=0.6, top_p=0.8),
]


@pytest.mark.parametrize("sampling", SAMPLINGS, ids=str)
def test_responses_have_the_exact_distribution(engine: Engine, exact: list[Logits], sampling: Sampling) -> None:
    samples = 2500
    rollout = engine.generate(PROMPTS, samples, sampling, seed=3)
    for index, table in enumerate(exact):
        responses = rollout.response_ids[index * samples : (index + 1) * samples]
        expected = outcomes(table, sampling)
        assert sum(expected.values()) == pytest.approx(1)
        assert p_value(responses, expected) > 1e-3
        # The test sees a temperature that is not the one asked for.
        other = Sampling(3, sampling.temperature * 0.6, sampling.top_p)
        assert p_value(responses, outcomes(table, other)) < 1e-6


def test_rows_and_calls_are_independent(engine: Engine) -> None:
    first, second = (
        [ids[0] for ids in engine.generate([[5]], 4000, Sampling(1), seed=seed).response_ids] for seed in (0, 1)
    )
    for left, right in ((first, second), (first[0::2], first[1::2]), (first[:-1], first[1:])):
        table = np.zeros((VOCABULARY, VOCABULARY))
        np.add.at(table, (left, right), 1)
        common = np.flatnonzero(np.bincount(first, minlength=VOCABULARY) > 150)
        result: Any = chi2_contingency(table[np.ix_(common, common)])
        assert result.pvalue > 1e-3


@pytest.mark.parametrize("sampling", [Sampling(12, s.temperature, s.top_p) for s in SAMPLINGS], ids=str)
def test_logprobs_are_those_of_the_distribution_sampled_from(
    engine: Engine, model: PreTrainedModel, sampling: Sampling
) -> None:
    rollout = engine.generate(PROMPTS, 6, sampling, seed=1)
    for prompt, response, logprobs in zip(rollout.prompt_ids, rollout.response_ids, rollout.logprobs, strict=True):
        with torch.no_grad():
            logits = model.eval()(input_ids=torch.tensor([prompt + response])).logits[0]
        expected = [np.log(by_hand(logits[len(prompt) - 1 + t], sampling)[token]) for t, token in enumerate(response)]
        np.testing.assert_allclose(logprobs, expected, atol=1e-4)


def test_greedy_takes_the_likeliest_token_and_reports_the_models_logprobs(
    engine: Engine, model: PreTrainedModel
) -> None:
    rollout = engine.generate(PROMPTS, 2, Sampling(8, temperature=0), seed=0)
    for prompt, response, logprobs in zip(rollout.prompt_ids, rollout.response_ids, rollout.logprobs, strict=True):
        with torch.no_grad():
            table = model.eval()(input_ids=torch.tensor([prompt + response])).logits[0].log_softmax(-1)
        table = table[len(prompt) - 1 : -1]
        assert response == table.argmax(-1).tolist()
        np.testing.assert_allclose(logprobs, table.max(-1).values, atol=1e-4)


def test_rows_are_prompt_major(engine: Engine) -> None:
    rollout = engine.generate(PROMPTS, 4, Sampling(5), seed=0)
    assert rollout.prompt_ids == [prompt for prompt in PROMPTS for _ in range(4)]
    assert len(rollout.response_ids) == len(rollout.logprobs) == len(rollout.finished) == 12


def test_a_response_ends_with_its_eos_or_is_cut(engine: Engine) -> None:
    rollout = engine.generate(PROMPTS, 60, Sampling(4), seed=0)
    lengths = {True: set(), False: set()}
    for response, logprobs, finished in zip(rollout.response_ids, rollout.logprobs, rollout.finished, strict=True):
        assert len(response) == len(logprobs)
        assert EOS not in response[:-1]
        assert finished == (response[-1] == EOS)
        lengths[finished].add(len(response))
    assert lengths == {True: {1, 2, 3, 4}, False: {4}}


def test_ignoring_eos_fixes_the_length(engine: Engine) -> None:
    rollout = engine.generate(PROMPTS, 20, Sampling(9, ignore_eos=True), seed=0)
    assert {len(response) for response in rollout.response_ids} == {9}
    assert not any(rollout.finished)
    assert any(EOS in response[:-1] for response in rollout.response_ids)


def test_prompt_and_response_fit_in_max_length(engine: Engine) -> None:
    long, short = [2] * (MAX_LENGTH - 2), [3] * 4
    rollout = engine.generate([long, short], 5, Sampling(10, ignore_eos=True), seed=0)
    assert [len(response) for response in rollout.response_ids] == [2] * 5 + [10] * 5


def test_the_same_request_gives_the_same_rollout_whatever_came_before(engine: Engine) -> None:
    request = (PROMPTS, 5, Sampling(10))
    first = engine.generate(*request, seed=7)
    other = engine.generate([[6, 2], *PROMPTS], 3, Sampling(4, temperature=0.5), seed=1)
    assert engine.generate(*request, seed=7) == first
    assert engine.generate(*request, seed=8).response_ids != first.response_ids
    assert other != first


def test_a_row_does_not_depend_on_its_neighbours(engine: Engine) -> None:
    together = engine.generate(PROMPTS, 6, Sampling(10), seed=2)
    assert engine.generate(PROMPTS[:1], 6, Sampling(10), seed=2).response_ids == together.response_ids[:6]
    few = engine.generate(PROMPTS[:1], 2, Sampling(10), seed=2)
    assert few.response_ids == together.response_ids[:2]


def test_rows_with_their_own_seeds_and_limits_are_the_same_in_any_batch(engine: Engine) -> None:
    prompts, limits, seeds = [*PROMPTS, PROMPTS[0]], [3, 9, 1, 9], [11, 2**63 - 1, 13, 14]
    sampling = Sampling(8, temperature=0.8)
    together = engine.generate(prompts, 1, sampling, 0, limits=limits, row_seeds=seeds)
    assert all(len(ids) <= min(8, limit) for ids, limit in zip(together.response_ids, limits, strict=True))
    for place in (3, 1, 0):
        alone = engine.generate([prompts[place]], 1, sampling, 5, limits=[limits[place]], row_seeds=[seeds[place]])
        assert alone.response_ids == [together.response_ids[place]]
    other = engine.generate(prompts, 1, sampling, 0, limits=limits, row_seeds=[1, 2, 3, 4])
    assert other.response_ids != together.response_ids
    for wrong in ({"limits": [3]}, {"limits": [0, 1, 1, 1]}, {"row_seeds": [1]}, {"row_seeds": [1, 2, 3, -1]}):
        with pytest.raises(InputError, match=next(iter(wrong))):
            engine.generate(prompts, 1, sampling, 0, **wrong)


@pytest.mark.parametrize("sampling", [Sampling(12), Sampling(12, temperature=0.4), Sampling(12, top_p=0.6)], ids=str)
def test_the_models_own_logprobs_come_along_where_the_engine_knows_them(
    engine: Engine, model: PreTrainedModel, sampling: Sampling
) -> None:
    rollout = engine.generate(PROMPTS, 4, sampling, seed=1)
    if rollout.model_logprobs is None:
        assert engine.name == "vllm"
        assert sampling != Sampling(12)
        return
    for prompt, response, logprobs in zip(
        rollout.prompt_ids, rollout.response_ids, rollout.model_logprobs, strict=True
    ):
        with torch.no_grad():
            logits = model.eval()(input_ids=torch.tensor([prompt + response])).logits[0]
        expected = logits[len(prompt) - 1 : -1].double().log_softmax(-1)[range(len(response)), response]
        np.testing.assert_allclose(logprobs, expected, atol=1e-4)


def test_sampling_leaves_the_program_as_it_was(engine: Engine, model: PreTrainedModel) -> None:
    model.train()
    states = torch.get_rng_state(), random.getstate(), pickle.dumps(np.random.get_state())  # noqa: NPY002
    engine.generate(PROMPTS, 2, Sampling(4), seed=0)
    assert torch.equal(torch.get_rng_state(), states[0])
    assert (random.getstate(), pickle.dumps(np.random.get_state())) == states[1:]  # noqa: NPY002
    assert model.training
    assert all(p.grad is None and p.requires_grad for p in model.parameters())


@pytest.mark.parametrize(
    ("prompts", "samples", "seed", "field"),
    [
        ([], 1, 0, "prompts"),
        ([[2], []], 1, 0, "prompt 1"),
        ([[2] * MAX_LENGTH], 1, 0, "prompt 0"),
        ([[2]], 0, 0, "samples"),
        ([[2]], 1, -1, "seed"),
    ],
)
def test_requests_that_cannot_be_met_are_refused(
    engine: Engine, prompts: list[list[int]], samples: int, seed: int, field: str
) -> None:
    with pytest.raises(InputError) as caught:
        engine.generate(prompts, samples, Sampling(4), seed)
    assert caught.value.field == field


def test_an_engine_is_an_engine(engine: Engine) -> None:
    assert isinstance(engine, Engine)
    assert isinstance(engine.generate([[2]], 1, Sampling(1), 0), Rollout)
