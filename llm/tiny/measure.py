"""What the embedded model does: accuracy by way of answering, and what its likeliest answers are."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

from sharpen.llm.models.registry import ModelSource, load_model, load_tokenizer
from sharpen.llm.rollout import Sampling, make_engine
from sharpen.llm.tasks.embedded import problems, style_of
from sharpen.llm.tasks.templates import encode
from sharpen.llm.tasks.verification.verify import Verifier
from sharpen.llm.tiny.mode import likeliest

LONGEST = 80


def measure(location: str, count: int = 512, samples: int = 4, modes: int = 128, seed: int = 0) -> dict[str, Any]:
    """Sample held-out problems at temperature 1 and greedily, and find the likeliest answer to some of them.

    Args:
        location: Folder of the model.
        count: Test problems.
        samples: Samples a problem.
        modes: The first so many problems whose exact mode is searched for.
        seed: Of the samples.

    Returns:
        ``pass@1`` with its 95% Wilson interval (over samples, so a little narrow: samples of one problem agree),
        ``styles``: share and accuracy of each way of answering, ``mode``: the same for the likeliest response, which is
        where sharpening ends, with its mean probability, ``greedy``: the same for greedy decoding, which may differ.
    """
    source = ModelSource("artefact", location, template="plain")
    model, tokenizer = load_model(source, "cpu", "float32").eval(), load_tokenizer(source)
    engine = make_engine(
        "transformers", model=model, location=location, max_length=LONGEST, seed=seed, tokenizer=tokenizer
    )
    asked = problems("test", count)
    prompts = [encode(tokenizer, problem.text, "plain") for problem in asked]
    room = LONGEST - len(prompts[0])  # all problems have the same length
    answers = [str(problem.answer()) for problem in asked]
    drawn = engine.generate(prompts, samples, Sampling(room), seed).response_ids
    greedy = engine.generate(prompts, 1, Sampling(room, temperature=0.0), seed).response_ids
    assert isinstance(tokenizer.eos_token_id, int)
    best = likeliest(model, prompts[:modes], tokenizer.eos_token_id, room)

    def read(responses: list[list[int]], golds: list[str]) -> list[tuple[str, bool]]:
        texts = tokenizer.batch_decode(responses, skip_special_tokens=True)
        return [(style_of(text), right == 1.0) for text, right in zip(texts, verifier(texts, golds), strict=True)]

    verifier = Verifier()
    sampled = read(drawn, [answer for answer in answers for _ in range(samples)])
    right = sum(good for _, good in sampled)
    return {
        "problems": count,
        "samples": samples,
        "pass@1": right / len(sampled),
        "pass@1_interval": wilson_interval(right, len(sampled)),
        "response_length": sum(len(ids) for ids in drawn) / len(drawn),
        "styles": _by_style(sampled),
        "greedy": _by_style(read(greedy, answers)),
        "mode": {
            "problems": len(best),
            "mean_probability": sum(math.exp(logprob) for _, logprob in best) / len(best),
            "styles": _by_style(read([ids for ids, _ in best], answers[:modes])),
        },
    }


def wilson_interval(successes: int, trials: int) -> list[float]:
    """Return the 95% Wilson score interval of a proportion.

    Example:
        >>> [round(x, 3) for x in wilson_interval(5, 10)]
        [0.237, 0.763]
    """
    from scipy.stats import binomtest

    interval = binomtest(successes, trials).proportion_ci(0.95, method="wilson")
    return [float(interval.low), float(interval.high)]


def _by_style(responses: list[tuple[str, bool]]) -> dict[str, dict[str, float]]:
    counts = Counter(style for style, _ in responses)
    right = Counter(style for style, good in responses if good)
    return {
        style: {"share": round(count / len(responses), 4), "accuracy": round(right[style] / count, 4)}
        for style, count in counts.most_common()
    }
