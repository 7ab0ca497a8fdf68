"""Ask a policy problems and mark its answers; the measures of what comes back are in ``llm/evaluation/summary.py``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sharpen.llm.evaluation.records import Record, judged
from sharpen.llm.evaluation.summary import summarise
from sharpen.llm.rollout import Engine, Rollout, Sampling
from sharpen.llm.rollout.requests import row_seed
from sharpen.llm.tasks.data import AnswerKey, PromptSet
from sharpen.llm.tasks.marking import marks
from sharpen.llm.tasks.templates import encode_all
from sharpen.llm.tasks.verification.verify import Verifier

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

MICRO_BATCH_TOKENS = 16384


@dataclass(frozen=True)
class Exam:
    """Problems with their answers, encoded once: what an evaluation asks.

    Args:
        prompts: The problems.
        answers: Gold answers by prompt id.
        prompt_ids: Token ids of each prompt, in the order of ``prompts``.
        categories: Subject and level by prompt id, where the data set has them.
    """

    prompts: PromptSet
    answers: AnswerKey
    prompt_ids: list[list[int]]
    categories: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    @classmethod
    def encoded(
        cls,
        prompts: PromptSet,
        answers: AnswerKey,
        tokenizer: PreTrainedTokenizerBase,
        template: str,
        chat_options: Mapping[str, Any] | None = None,
        *,
        categories: Mapping[str, Mapping[str, str]] | None = None,
    ) -> Exam:
        """Return the exam with its prompts rendered by ``template``, with arguments of the chat format."""
        ids = encode_all(tokenizer, [prompt.text for prompt in prompts.prompts], template, chat_options)
        return cls(prompts, answers, ids, categories or {})


@dataclass
class Examinee:
    """A policy and what is needed to ask and to mark it.

    Args:
        engine: Samples the policy.
        tokenizer: Decodes the responses.
        verifier: Marks them.
        model: The policy, if its entropy and log-probabilities are to be measured.
        base: The base model, if the KL to it is to be measured; may be ``model`` itself.
    """

    engine: Engine
    tokenizer: PreTrainedTokenizerBase
    verifier: Verifier
    model: Any = None
    base: Any = None


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
        See :func:`sharpen.llm.evaluation.summary.summarise`.
    """
    with Verifier() as verifier:
        examinee = Examinee(engine, tokenizer, verifier)
        records = ask(examinee, exam, range(len(exam.prompt_ids)), samples, sampling, seed)
    return summarise(records, seed, threshold=exam.answers.threshold)


def ask(
    examinee: Examinee, exam: Exam, places: Sequence[int], samples: int, sampling: Sampling, seed: int
) -> list[Record]:
    """Return the records of the problems at ``places``.

    A sample depends on the seed, the problem's place and the sample's number, and not on what it is asked with.
    """
    prompt_ids = [exam.prompt_ids[place] for place in places]
    seeds = [row_seed(seed, place, sample) for place in places for sample in range(samples)]
    rollout = examinee.engine.generate(prompt_ids, samples, sampling, seed, row_seeds=seeds)
    texts = examinee.tokenizer.batch_decode(rollout.response_ids, skip_special_tokens=True)
    prompts = [exam.prompts.prompts[place] for place in places]
    names = [prompt.id for prompt in prompts for _ in range(samples)]
    form = exam.prompts.form
    scores = marks(exam.answers, names, texts, rollout.finished, examinee.verifier)
    columns: dict[str, list[Any]] = {
        "responses": texts,
        "votes": form.votes(texts, rollout.finished),
        **judged(scores, exam.answers.threshold),
        "lengths": [len(ids) for ids in rollout.response_ids],
        "finished": list(rollout.finished),
        **_likelihoods(examinee, rollout),
    }
    blocks = [slice(index * samples, (index + 1) * samples) for index in range(len(prompts))]
    united = form.united([columns["votes"][block] for block in blocks], examinee.verifier)
    columns["votes"] = [vote for votes in united for vote in votes]
    records = []
    for block, prompt in zip(blocks, prompts, strict=True):
        category = exam.categories.get(prompt.id, {})
        own = {name: column[block] for name, column in columns.items()}
        records.append(Record(prompt.id, category.get("subject"), category.get("level"), **own))
    return records


def _likelihoods(examinee: Examinee, rollout: Rollout) -> dict[str, list[float]]:
    """Return what the models say about the responses, one number per row: log-probabilities and summed entropies."""
    if examinee.model is None:
        return {}
    from sharpen.llm.models.logprobs import token_logprobs  # torch, which asking alone does not need

    rows = (rollout.prompt_ids, rollout.response_ids)
    policy = token_logprobs(examinee.model, *rows, micro_batch_tokens=MICRO_BATCH_TOKENS, with_entropy=True)
    assert policy.entropy_BT is not None
    found = {
        "logprob": policy.logprobs_BT.double().sum(dim=1).tolist(),
        "entropy": policy.entropy_BT.double().sum(dim=1).tolist(),
    }
    if examinee.base is examinee.model:
        found["base_logprob"] = found["logprob"]
    elif examinee.base is not None:
        base = token_logprobs(examinee.base, *rows, micro_batch_tokens=MICRO_BATCH_TOKENS)
        found["base_logprob"] = base.logprobs_BT.double().sum(dim=1).tolist()
    return found
