"""pass@k and maj@k of a policy with intervals over problems."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from sharpen.llm.data import AnswerKey, PromptSet
from sharpen.llm.passk import maj_at_k, pass_at_k
from sharpen.llm.rollout import Engine, Sampling
from sharpen.llm.templates import encode
from sharpen.llm.verify import final_answer, verify

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

BOOTSTRAP_RESAMPLES = 2000
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Exam:
    """Problems with their answers, encoded once: what an evaluation asks.

    Args:
        prompts: The problems.
        answers: Gold answers by prompt id.
        prompt_ids: Token ids of each prompt, in the order of ``prompts``.
    """

    prompts: PromptSet
    answers: AnswerKey
    prompt_ids: list[list[int]]

    @classmethod
    def encoded(cls, prompts: PromptSet, answers: AnswerKey, tokenizer: PreTrainedTokenizerBase, template: str) -> Exam:
        """Return the exam with its prompts rendered by ``template``."""
        return cls(prompts, answers, [encode(tokenizer, prompt.text, template) for prompt in prompts.prompts])


def evaluate(
    engine: Engine,
    tokenizer: PreTrainedTokenizerBase,
    exam: Exam,
    samples: int,
    sampling: Sampling,
    seed: int,
) -> dict[str, Any]:
    """Sample every problem and return the measures of one policy, the one that the engine holds.

    Args:
        engine: Samples the policy.
        tokenizer: Decodes the responses.
        exam: Problems and answers.
        samples: Samples a problem, n.
        sampling: Temperature and length limit.
        seed: Seed of the samples.

    Returns:
        ``pass@k`` and ``maj@k`` for k = 1, 2, 4, … up to n, each with a 95% percentile-bootstrap interval over problems
        under ``pass@k_interval``; ``response_length`` (mean tokens), ``finished`` (share that stopped by itself),
        ``answered`` (share with a final answer), ``problems``, ``samples``.
    """
    rollout = engine.generate(exam.prompt_ids, samples, sampling, seed)
    texts = tokenizer.batch_decode(rollout.response_ids, skip_special_tokens=True)
    per_problem: dict[str, list[float]] = {
        f"{kind}@{k}": [] for k in powers_of_two(samples) for kind in ("pass", "maj")
    }
    answered = 0
    for index, prompt in enumerate(exam.prompts.prompts):
        responses = texts[index * samples : (index + 1) * samples]
        correct = [verify(response, exam.answers[prompt.id]) == 1.0 for response in responses]
        votes = _votes(responses, correct)
        answered += sum(final_answer(response) is not None for response in responses)
        for k in powers_of_two(samples):
            per_problem[f"pass@{k}"].append(pass_at_k(samples, sum(correct), k))
            per_problem[f"maj@{k}"].append(maj_at_k(votes, correct, k))
    rows = len(texts)
    summary: dict[str, Any] = {"problems": len(exam.prompt_ids), "samples": samples}
    for name, scores in per_problem.items():
        summary[name] = float(np.mean(scores))
        summary[f"{name}_interval"] = bootstrap_interval(np.array(scores), seed)
    summary["response_length"] = float(np.mean([len(ids) for ids in rollout.response_ids]))
    summary["finished"] = float(np.mean(rollout.finished))
    summary["answered"] = answered / rows
    return summary


def powers_of_two(limit: int) -> list[int]:
    """Return 1, 2, 4, … up to ``limit``.

    Example:
        >>> powers_of_two(16)
        [1, 2, 4, 8, 16]
    """
    return [2**i for i in range(limit.bit_length())]


def bootstrap_interval(scores: np.ndarray, seed: int) -> list[float]:
    """Return the 95% percentile-bootstrap interval of the mean of ``scores``, shape [problems]."""
    rng = np.random.default_rng(seed)
    means = scores[rng.integers(0, len(scores), size=(BOOTSTRAP_RESAMPLES, len(scores)))].mean(axis=1)
    tail = (1.0 - CONFIDENCE) / 2.0
    return [float(x) for x in np.quantile(means, [tail, 1.0 - tail])]


def _votes(responses: list[str], correct: list[bool]) -> list[str | None]:
    """Return what each response votes for; all right answers are one class, however they are written."""
    return ["right" if good else _wrong_vote(text) for text, good in zip(responses, correct, strict=True)]


def _wrong_vote(response: str) -> str | None:
    answer = final_answer(response)
    return None if answer is None else f"wrong: {answer.strip()}"
