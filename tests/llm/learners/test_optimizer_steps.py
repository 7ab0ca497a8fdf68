"""SGD beside AdamW, and steps within a KL: against enumeration, the textbook's recursion, and stored states."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from scipy.special import log_softmax, rel_entr

from sharpen.llm.configs.optimizer import OptimizerSettings
from sharpen.llm.configs.train import resolve
from sharpen.llm.distributed.optimizer import (
    TRIES,
    bounded_step,
    make_optimizer,
    mean_step_kl,
    step_kl,
    step_metrics,
)
from sharpen.llm.distributed.world import World
from sharpen.llm.models.registry import resolve as resolve_model
from sharpen.llm.tasks.sources import load_source
from sharpen.llm.training.setup import prepare
from sharpen.llm.training.trainer import Trainer
from sharpen.objective import preset

TOKENS, LENGTH = 3, 3


def language(rng: np.random.Generator) -> dict[tuple[int, ...], np.ndarray]:
    """Return log-probabilities of the next token after every prefix."""
    prefixes = [x for size in range(LENGTH) for x in itertools.product(range(TOKENS), repeat=size)]
    return {prefix: log_softmax(rng.normal(size=TOKENS)) for prefix in prefixes}


def rows(model: dict[tuple[int, ...], np.ndarray]) -> np.ndarray:
    """Return the log-probability of each token of every sequence, shape [TOKENS^LENGTH, LENGTH]."""
    sequences = itertools.product(range(TOKENS), repeat=LENGTH)
    return np.array([[model[x[:place]][x[place]] for place in range(LENGTH)] for x in sequences])


def test_the_mean_of_the_estimate_is_the_kl_of_the_sequences() -> None:
    """Over all sequences, weighed by the policy before the step; no sample is below zero."""
    rng = np.random.default_rng(0)
    before, after = rows(language(rng)), rows(language(rng))
    p, q = np.exp(before.sum(axis=1)), np.exp(after.sum(axis=1))
    found = step_kl(torch.tensor(before), torch.tensor(after), torch.ones(before.shape, dtype=torch.bool)).numpy()
    assert found.min() >= 0
    assert p @ found == pytest.approx(rel_entr(p, q).sum(), rel=1e-12)
    assert rel_entr(p, q).sum() > 0.1


def test_the_kl_of_a_small_step_keeps_its_digits() -> None:
    """d^2/2 + d^3/6, whose digits float32 loses in exp(d) - 1 - d."""
    change = torch.tensor([[1e-4, -3e-5, 0.0], [2e-5, 7e-5, -5e-5]])
    d = change.double()
    found = step_kl(torch.zeros(2, 3), change, torch.ones(2, 3, dtype=torch.bool))
    torch.testing.assert_close(found.double(), (d**2 / 2 + d**3 / 6).sum(dim=1), rtol=1e-5, atol=0.0)


class Beside(World):
    """One of two processes; what the other one says is always the same."""

    def gather(self, items: list[Any]) -> list[Any]:
        return [*items, 9.0]


def test_both_processes_count() -> None:
    """Of a step of norm 4 here and 3 there, and of one response here and one there whose D is 9."""
    weight = torch.zeros(2)
    for divided, norm in ((True, 5.0), (False, 4.0)):
        weight.zero_()
        size = bounded_step(
            lambda: weight.add_(torch.tensor([4.0, 0.0])), [weight], lambda: 0.0, None, Beside(), divided=divided
        )
        assert size.norm == pytest.approx(norm)
    here = torch.log(torch.tensor([[2.0]]))  # D = 2 - 1 - log 2
    found = mean_step_kl(torch.zeros(1, 1), here, torch.ones(1, 1, dtype=torch.bool), Beside())
    assert found == pytest.approx((1.0 - math.log(2.0) + 9.0) / 2)


def walk(most: float | None, far: float = 1.0) -> tuple[Any, torch.Tensor, np.ndarray]:
    """Return the size of a step of logits away from even odds, the logits after it, and the whole step."""
    logits, step = torch.zeros(4), far * torch.tensor([3.0, 0.0, -1.0, 0.5])

    def divergence() -> float:
        now = log_softmax(logits.double().numpy())
        return float(rel_entr(np.full(4, 0.25), np.exp(now)).sum())

    size = bounded_step(lambda: logits.add_(step), [logits], divergence, most, World())
    return size, logits, step.numpy()


def test_a_step_within_the_bound_is_made_whole() -> None:
    for most in (None, 100.0):
        size, logits, step = walk(most)
        assert size.scale == 1.0
        assert logits.numpy() == pytest.approx(step)
        assert size.norm == pytest.approx(np.linalg.norm(step))


@pytest.mark.parametrize("most", [0.3, 0.01, 1e-4])
@pytest.mark.parametrize("far", [1.0, 10.0])  # from the second the first try is still too long
def test_a_step_beyond_the_bound_is_shrunk_along_itself(most: float, far: float) -> None:
    size, logits, step = walk(most, far)
    assert most / 10 < size.kl <= most  # not much shorter than it may be
    assert 0 < size.scale < 1
    assert logits.numpy() == pytest.approx(size.scale * step, rel=1e-5)
    assert size.norm == pytest.approx(size.scale * np.linalg.norm(step), rel=1e-5)


@pytest.mark.parametrize("beyond", [1.0, math.inf, math.nan])
def test_a_step_that_nothing_makes_short_enough_is_not_made(beyond: float) -> None:
    start = torch.zeros(3)  # so that no step however short is rounded away
    weight, seen = start.clone(), []

    def divergence() -> float:
        seen.append(weight.clone())
        return 0.0 if torch.equal(weight, start) else beyond

    size = bounded_step(lambda: weight.add_(1.0), [weight], divergence, 1e-6, World())
    assert torch.equal(weight, start)
    assert size == (0.0, 0.0, 0.0)
    assert len(seen) == TRIES + 2


def test_the_ratio_is_the_rate_of_a_natural_gradient() -> None:
    """A step of log pi by eta A, normalised, for small eta."""
    rng, eta = np.random.default_rng(1), 1e-3
    p = rng.dirichlet(np.ones(6))
    advantages = rng.normal(size=6)
    advantages -= p @ advantages
    kl = rel_entr(p, np.exp(log_softmax(np.log(p) + eta * advantages))).sum()
    drawn = torch.tensor(advantages[rng.choice(6, size=200_000, p=p)])
    found = step_metrics(bounded_step(lambda: None, [], lambda: float(kl), None, World()), drawn, World())
    assert found["step_per_advantage"] == pytest.approx(eta, rel=0.02)
    nothing = step_metrics(bounded_step(lambda: None, [], lambda: 0.0, None, World()), 0 * drawn, World())
    assert nothing["step_per_advantage"] is None


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_sgd_is_the_textbooks(momentum: float) -> None:
    weight = torch.nn.Parameter(torch.tensor([1.0, -2.0], dtype=torch.float64))
    settings = OptimizerSettings(kind="sgd", learning_rate=0.1, momentum=momentum, weight_decay=0.01)
    optimizer = make_optimizer(settings, [weight], fused=False)
    expected, average = np.array([1.0, -2.0]), np.zeros(2)
    for step in range(5):
        gradient = np.array([0.3 * step, -1.0])
        weight.grad = torch.tensor(gradient)
        optimizer.step()
        average = momentum * average + gradient + 0.01 * expected
        expected = expected - 0.1 * average
    assert weight.detach().numpy() == pytest.approx(expected)


def test_sgd_decays_only_where_it_is_asked_to() -> None:
    assert OptimizerSettings(kind="sgd").weight_decay == 0.0
    assert resolve({"optimizer": {"kind": "sgd"}}).optimizer.weight_decay == 0.0
    assert OptimizerSettings(kind="sgd", weight_decay=0.1).weight_decay == 0.1
    assert OptimizerSettings().weight_decay == 0.01


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"optimizer": {"kind": "lion"}}, "optimizer.kind"),
        ({"optimizer": {"momentum": 1.0}}, "optimizer.momentum"),
        ({"optimizer": {"max_kl": 0.0}}, "optimizer.max_kl"),
        ({"optimizer": {"max_kl": 0.1}, "learner": {"kind": "dapo"}}, "optimizer.max_kl: got it with dapo"),
        (
            {"optimizer": {"measure_step": True}, "learner": {"kind": "tb-batch"}, "temperature": 1.5},
            "optimizer.measure_step: got it with temperature 1.5",
        ),
    ],
)
def test_what_cannot_be_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message.replace(".", r"\.?")):
        resolve({"objective": preset("tempered").to_dict(), **changes})


SGD = {"kind": "sgd", "learning_rate": 0.5, "max_kl": 1e-3, "warmup_steps": 0}


def trainer(optimizer: dict[str, Any]) -> Trainer:
    config = resolve(
        {
            "prompts_per_step": 2,
            "samples_per_prompt": 4,
            "engine": "transformers",
            "optimizer": optimizer,
            "objective": preset("tempered").to_dict(),
        }
    )
    setup = prepare(config, resolve_model("embedded"), World())
    prompts = load_source("embedded", "train", 16).prompts()
    return Trainer(config, setup.model, setup.tokenizer, setup.engine, prompts, None, setup.template)


@pytest.mark.parametrize("optimizer", [SGD, {**SGD, "momentum": 0.0}], ids=["momentum", "plain"])
def test_bounded_sgd_goes_on_from_stored_tensors_bit_by_bit(optimizer: dict[str, Any], tmp_path: Path) -> None:
    whole = trainer(optimizer)
    records = [whole.step()[0]]
    tensors, numbers = whole.state()
    save_file(tensors["optimizer"], tmp_path / "optimizer.safetensors")
    weights = {name: weight.detach().clone() for name, weight in whole.model.named_parameters()}
    records.append(whole.step()[0])

    again = trainer(optimizer)
    again.load_state({"optimizer": load_file(tmp_path / "optimizer.safetensors")}, numbers, weights, "here")
    record = again.step()[0]
    assert (record["step"], record["step_norm"]) == (1, records[1]["step_norm"])
    other = dict(again.model.named_parameters())
    assert all(torch.equal(weight, other[name]) for name, weight in whole.model.named_parameters())
    assert bool(tensors["optimizer"]) is ("momentum" not in optimizer)
    assert all(0 < record["step_kl"] <= 1e-3 and 0 < record["step_scale"] < 1 for record in records)
