"""From settings to the generator that draws one response."""

from __future__ import annotations

from sharpen.llm.configs.sampling import SampleConfig
from sharpen.llm.sampling.candidates import best_of_n, single
from sharpen.llm.sampling.kernel import Tokens
from sharpen.llm.sampling.power import Power, power
from sharpen.llm.sampling.requests import Autoregressive, Key, Method
from sharpen.llm.sampling.scalable import Scalable, scalable


def method(config: SampleConfig, prompt: Tokens, longest: int, key: Key, model: Autoregressive) -> Method:
    """Return the generator of ``config``'s method for one response.

    Args:
        config: The settings.
        prompt: Token ids.
        longest: Longest response in tokens.
        key: The source of its random numbers.
        model: What will answer the generator's requests.
    """
    alpha, budget = config.alpha, config.budget
    if config.method == "power":
        temperature = config.proposal_temperature or 1 / alpha
        chain = Power(alpha, config.block, config.steps, temperature, config.chunk, config.early_stop, budget)
        return power(prompt, longest, key, chain)
    if config.method == "scalable-power":
        weighing = Scalable(alpha, config.candidates, config.rollouts, config.horizon, config.jackknife, budget)
        return scalable(prompt, longest, key, weighing, model)
    if config.method == "best-of-n":
        return best_of_n(prompt, longest, key, n=config.n, score=config.score, budget=budget)
    return single(prompt, longest, key, 1 / alpha if config.method == "low-temperature" else 1.0)
