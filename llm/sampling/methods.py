"""From settings to the generator that draws one response."""

from __future__ import annotations

from sharpen.llm.configs.sampling import SampleConfig
from sharpen.llm.samplers import Autoregressive, Key, Method
from sharpen.llm.samplers.kernel import Tokens
from sharpen.llm.samplers.registry import begin


def method(config: SampleConfig, prompt: Tokens, longest: int, key: Key, model: Autoregressive) -> Method:
    """Return the generator of ``config``'s sampler for one response.

    Args:
        config: The settings.
        prompt: Token ids.
        longest: Longest response in tokens.
        key: The source of its random numbers.
        model: What will answer the generator's requests.

    Raises:
        InputError: a sampler of a user's own is none, see :class:`sharpen.llm.samplers.Sampler`.
    """
    fields = {name: getattr(config, name) for name in SampleConfig.model_fields if name != "options"}
    return begin(config.method, prompt, longest, key, model, fields, config.options)
