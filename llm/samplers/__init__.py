"""Samplers: ways to draw a response, as pure functions over any autoregressive model, and the door that finds them."""

from sharpen.llm.samplers.candidates import best_of_n, single
from sharpen.llm.samplers.kernel import Path
from sharpen.llm.samplers.power import Power, power
from sharpen.llm.samplers.registry import SAMPLERS, Sampler, Unless
from sharpen.llm.samplers.requests import Autoregressive, Extend, Key, Likeliest, Method, Next, Sample, run
from sharpen.llm.samplers.scalable import Scalable, ratio_estimate, scalable, token_probabilities

__all__ = [
    "SAMPLERS",
    "Autoregressive",
    "Extend",
    "Key",
    "Likeliest",
    "Method",
    "Next",
    "Path",
    "Power",
    "Sample",
    "Sampler",
    "Scalable",
    "Unless",
    "best_of_n",
    "power",
    "ratio_estimate",
    "run",
    "scalable",
    "single",
    "token_probabilities",
]
