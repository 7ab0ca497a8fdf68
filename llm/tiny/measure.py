"""What the embedded model does: accuracy by way of answering, and what its likeliest answers are."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

from sharpen.llm.models import ModelSource, load_model, load_tokenizer
from sharpen.llm.rollout import Sampling, make_engine
from sharpen.llm.templates import encode
from sharpen.llm.tiny.corpus import problems, style_of
from sharpen.llm.verify import verify

Z_95 = 1.959963984540054
LONGEST = 80


def measure(location: str, count: int = 512, samples: int = 4, seed: int = 0) -> dict[str, Any]:
    """Sample held-out problems at temperature 1 and greedily.

    Args:
        location: Folder of the model.
        count: Test problems.
        samples: Samples a problem.
        seed: Of the samples.

    Returns:
        ``pass@1`` with its 95% Wilson interval (over samples, so a little narrow: samples of one problem agree),
        ``styles``: share and accuracy of each way of answering, ``greedy``: the same for greedy decoding, which with
        its short direct answers stands for the mode.
    """
    source = ModelSource("artefact", location, template="plain")
    model, tokenizer = load_model(source, "cpu", "float32"), load_tokenizer(source)
    engine = make_engine(
        "transformers", model=model, location=location, max_length=LONGEST, seed=seed, tokenizer=tokenizer
    )
    asked = problems("test", count)
    prompts = [encode(tokenizer, problem.text, "plain") for problem in asked]
    room = LONGEST - max(len(ids) for ids in prompts)
    answers = [str(problem.answer()) for problem in asked]
    drawn = engine.generate(prompts, samples, Sampling(room), seed).response_ids
    greedy = engine.generate(prompts, 1, Sampling(room, temperature=0.0), seed).response_ids
    texts = tokenizer.batch_decode(drawn, skip_special_tokens=True)
    good = [verify(text, answers[row // samples]) for row, text in enumerate(texts)]
    greedy_texts = tokenizer.batch_decode(greedy, skip_special_tokens=True)
    return {
        "problems": count,
        "samples": samples,
        "pass@1": sum(good) / len(good),
        "pass@1_interval": wilson_interval(sum(good), len(good)),
        "response_length": sum(len(ids) for ids in drawn) / len(drawn),
        "styles": _by_style(texts, good),
        "greedy": _by_style(
            greedy_texts, [verify(text, gold) for text, gold in zip(greedy_texts, answers, strict=True)]
        ),
    }


def wilson_interval(successes: float, trials: int) -> list[float]:
    """Return the 95% Wilson score interval of a proportion.

    Example:
        >>> [round(x, 3) for x in wilson_interval(5, 10)]
        [0.237, 0.763]
    """
    share, z2 = successes / trials, Z_95 * Z_95
    centre = (share + z2 / (2 * trials)) / (1 + z2 / trials)
    half = Z_95 * math.sqrt(share * (1 - share) / trials + z2 / (4 * trials**2)) / (1 + z2 / trials)
    return [centre - half, centre + half]


def _by_style(texts: list[str], good: list[float]) -> dict[str, dict[str, float]]:
    counts = Counter(style_of(text) for text in texts)
    right = Counter(style_of(text) for text, correct in zip(texts, good, strict=True) if correct)
    return {
        style: {"share": round(count / len(texts), 4), "accuracy": round(right[style] / count, 4)}
        for style, count in counts.most_common()
    }
