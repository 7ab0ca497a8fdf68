"""The rewards on hand-made groups, their definitions recomputed, and which of them may open answers."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from sharpen.llm.learners.certainty import self_certainty
from sharpen.llm.models.registry import load_model, resolve
from sharpen.llm.rewards import REWARDS, RewardConfig, Scoring, reward_for
from sharpen.llm.rewards.firewall import BoundReward
from sharpen.llm.tasks.data import AnswerKey, DataSource, PromptSet
from sharpen.llm.tasks.sources import load_source
from sharpen.llm.tasks.verification.verify import Verifier
from sharpen.objective import PRESETS, InputError

TASK = PRESETS["task-reward"]
NAMES = ["p", "p", "p", "q", "q", "q"]
TEXTS = [r"\boxed{7}", r"\boxed{ 07}", r"\boxed{8}", "no box", r"\boxed{x}", r"\boxed{}"]
LABELLED = ("task", "inverted", "noisy")
FIELDS: dict[str, dict[str, Any]] = {"length": {"target": 4}}
VERIFIER = Verifier(workers=1)  # of all rewards: each one's own would start a process of its own


@pytest.fixture(scope="module", autouse=True)
def _closed() -> Iterator[None]:
    yield
    VERIFIER.close()


class Source(DataSource):
    """Two problems whose answers may be opened or not."""

    def __init__(self, allowed: bool) -> None:
        self.allowed, self.opened = allowed, 0

    def prompts(self) -> PromptSet:
        raise AssertionError("a reward has no business with the prompts")

    def answers(self) -> AnswerKey:
        self.opened += 1
        assert self.allowed, "answers were opened"
        return AnswerKey({"p": "7", "q": "x"})


def rewards(kind: str, scoring: Scoring | None = None, **fields: Any) -> list[float]:
    reward = reward_for(TASK, Source(kind in LABELLED), kind=kind, verifier=VERIFIER, **fields)
    assert reward is not None
    assert reward.kind == kind
    return reward(NAMES, TEXTS, scoring)


def label_free(kind: str, seed: int = 0, **fields: Any) -> BoundReward:
    found = reward_for(TASK, Source(False), kind=kind, seed=seed, verifier=VERIFIER, **fields)
    assert found is not None
    return found


def test_task_and_its_inverse() -> None:
    assert rewards("task") == [1, 1, 0, 0, 1, 0]
    assert rewards("inverted") == [0, 0, 1, 1, 0, 1]


def noisy(step: int = 0, **options: Any) -> np.ndarray:
    """Verdicts on many right and as many wrong responses, shape [2, 3000]."""
    reward = reward_for(TASK, Source(True), kind="noisy", seed=7, options=options)
    assert reward is not None
    names, texts = ["p"] * 6000, [r"\boxed{7}"] * 3000 + [r"\boxed{8}"] * 3000
    return np.array(reward(names, texts, Scoring(step=step))).reshape(2, 3000)


@pytest.mark.parametrize(("t", "f"), [(0.8, 0.1), (0.3, 0.6), (1.0, 0.0)])
def test_a_noisy_verifier_has_its_two_rates_and_its_correction_is_the_reward(t: float, f: float) -> None:
    """THEORY T20: the mean verdict is f + (t - f) r. Corrected, it is r; the draws are those of the same row."""
    rates: dict[str, Any] = {"true_positive": t, "false_positive": f}
    verdicts, corrected = noisy(**rates), noisy(**rates, corrected=True)
    assert set(verdicts.flat) <= {0.0, 1.0}
    for found, rate, right in zip(verdicts, (t, f), (1.0, 0.0), strict=True):
        assert abs(found.mean() - rate) <= 4 * math.sqrt(rate * (1 - rate) / 3000)
        unbiased = corrected[0 if right else 1]
        np.testing.assert_allclose(unbiased * (t - f) + f, found, atol=1e-12)
        assert abs(unbiased.mean() - right) <= 4 * math.sqrt(rate * (1 - rate) / 3000) / abs(t - f)
    assert np.array_equal(noisy(**rates), verdicts)
    assert (noisy(step=1, **rates) != verdicts).any() == (t < 1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"true_positive": 1.5}, "true_positive: got 1.5, allowed: a number from 0 to 1"),
        ({"false_positive": True}, "false_positive: got True"),
        ({"true_positive": 0.5, "false_positive": 0.5, "corrected": True}, "such verdicts tell nothing"),
        ({"corrected": 1}, "corrected: got 1, allowed: true or false"),
        ({"rate": 1}, "got rate, allowed: true_positive, false_positive, corrected"),
    ],
)
def test_rates_that_are_none_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises((ValidationError, InputError), match=message):
        RewardConfig(kind="noisy", options=options)


def test_format_wants_a_filled_box() -> None:
    assert rewards("format") == [1, 1, 1, 0, 1, 0]


def test_length_saturates_at_its_target() -> None:
    scoring = Scoring(lengths=[0, 1, 2, 4, 5, 100])
    assert rewards("length", scoring, target=4) == [0, 0.25, 0.5, 1, 1, 1]
    assert rewards("length", scoring, target=4, prefer="short") == [1, 0.75, 0.5, 0, 0, 0]


def test_majority_is_a_vote_within_each_group() -> None:
    assert rewards("majority") == [1, 1, 0, 0, 1, 0]


@pytest.mark.parametrize("answers", product("ab-", repeat=4))
def test_majority_against_counting(answers: tuple[str, ...]) -> None:
    """Every group of four: the rewarded answer has most votes, and of tied ones it came first."""
    reward = label_free("majority")
    texts = ["no box" if answer == "-" else f"\\boxed{{{answer}}}" for answer in answers]
    counts = {answer: answers.count(answer) for answer in "ab"}
    best = max(counts.values())
    winner = next((answer for answer in answers if answer != "-" and counts[answer] == best), None)
    assert reward(["p"] * 4, texts) == [float(answer == winner and winner is not None) for answer in answers]


def test_groups_do_not_vote_for_each_other() -> None:
    reward = label_free("majority")
    texts = [rf"\boxed{{{answer}}}" for answer in (1, 1, 2, 2, 2, 1)]
    assert reward(["p", "q", "p", "q", "p", "q"], texts) == [0, 1, 1, 0, 1, 1]


def test_random_depends_on_seed_step_and_row_only() -> None:
    reward = label_free("random", seed=5, probability=0.3)
    names, texts = ["p"] * 4000, ["x"] * 4000
    drawn = reward(names, texts, Scoring(step=3))
    assert drawn == reward(names, ["y"] * 4000, Scoring(step=3))
    assert drawn[1000:1010] == reward(names[:10], texts[:10], Scoring(step=3, rows=range(1000, 1010)))
    assert drawn != reward(names, texts, Scoring(step=4))
    assert drawn != label_free("random", seed=6, probability=0.3)(names, texts, Scoring(step=3))
    assert abs(np.mean(drawn) - 0.3) < 4 * math.sqrt(0.3 * 0.7 / 4000)


def test_confidence_rewards_pass_on_what_they_are_given() -> None:
    values = [0.5, 1.0, 2.0, 3.0, 4.0, 5.0]
    assert rewards("self_certainty", Scoring(certainties=values)) == values
    assert rewards("negative_entropy", Scoring(entropies=values)) == [-value for value in values]


@pytest.mark.parametrize(
    ("kind", "field"), [("self_certainty", "certainties"), ("negative_entropy", "entropies"), ("length", "lengths")]
)
def test_what_was_not_measured_is_named(kind: str, field: str) -> None:
    with pytest.raises(ValueError, match=rf"scoring\.{field}: got none"):
        rewards(kind, **FIELDS.get(kind, {}))


def test_a_measure_of_other_rows_is_refused() -> None:
    with pytest.raises(ValueError, match="rows: got 2"):
        rewards("negative_entropy", Scoring(entropies=[1.0, 2.0]))


@pytest.mark.parametrize("kind", REWARDS)
@pytest.mark.parametrize("preset", PRESETS)
def test_answers_are_opened_by_the_labelled_rewards_of_objectives_with_a_reward_term_only(
    kind: str, preset: str
) -> None:
    objective, source = PRESETS[preset], Source(allowed=True)
    reward = reward_for(objective, source, kind=kind, verifier=VERIFIER, **FIELDS.get(kind, {}))
    assert (reward is not None) == objective.needs_reward
    assert source.opened == (objective.needs_reward and kind in LABELLED)
    if reward is not None and kind not in LABELLED:
        ones = [1.0] * len(TEXTS)
        scoring = Scoring(0, None, [1] * len(TEXTS), ones, ones)
        assert len(reward(NAMES, TEXTS, scoring)) == len(TEXTS)
        assert source.opened == 0


def test_a_label_free_reward_works_on_data_without_answers(tmp_path: Path) -> None:
    file = tmp_path / "unlabelled.jsonl"
    file.write_text('{"problem": "1+1=?"}\n')
    source = load_source(str(file), "train")
    reward = reward_for(TASK, source, kind="majority")
    assert reward is not None
    (prompt,) = source.prompts().prompts
    assert reward([prompt.id] * 3, [r"\boxed{2}", r"\boxed{2}", r"\boxed{3}"]) == [1, 1, 0]
    with pytest.raises(InputError, match="a data set with answers"):
        reward_for(TASK, source, kind="task")


def test_unknown_and_misplaced_settings() -> None:
    with pytest.raises(InputError, match=r"reward\.kind: got 'truth'"):
        reward_for(TASK, Source(True), kind="truth")
    for fields in ({"kind": "length"}, {"kind": "task", "target": 3}, {"kind": "random", "probability": 1.5}):
        with pytest.raises(ValidationError):
            RewardConfig.model_validate(fields)


def test_self_certainty_is_the_divergence_from_uniform() -> None:
    """Against the definition, token by token in float64, on rows of different lengths."""
    source = resolve("embedded")
    model = load_model(source, "cpu", "float32").eval()
    rng = np.random.default_rng(0)
    vocabulary = model.config.vocab_size
    prompts = [[int(t) for t in rng.integers(vocabulary, size=n)] for n in (3, 5, 4)]
    responses = [[int(t) for t in rng.integers(vocabulary, size=n)] for n in (4, 0, 7)]
    expected = []
    for prompt, response in zip(prompts, responses, strict=True):
        total = 0.0
        for place in range(len(response)):
            with torch.no_grad():
                logits = model(torch.tensor([prompt + response[:place]])).logits[0, -1].double().numpy()
            pi = np.exp(logits - np.logaddexp.reduce(logits))
            total += float(np.sum((1 / vocabulary) * np.log((1 / vocabulary) / pi)))
        expected.append(total / max(1, len(response)))
    assert self_certainty(model, prompts, responses) == pytest.approx(expected, rel=1e-5)
    assert self_certainty(model, prompts, responses, chunk_logits=vocabulary) == pytest.approx(expected, rel=1e-5)
    with torch.no_grad():
        for weight in model.parameters():
            weight.zero_()  # a uniform policy
    assert self_certainty(model, prompts[:1], responses[:1]) == pytest.approx([0.0], abs=1e-6)
