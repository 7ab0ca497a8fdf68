"""Sharpening without training: responses from p^alpha, and what stands beside it at equal cost."""

from sharpen.llm.configs.sampling import SampleConfig
from sharpen.llm.sampling.candidates import best_of_n, single
from sharpen.llm.sampling.kernel import Path
from sharpen.llm.sampling.methods import method
from sharpen.llm.sampling.power import Power, power
from sharpen.llm.sampling.requests import Autoregressive, Extend, Key, Likeliest, Next, Sample, run
from sharpen.llm.sampling.scalable import Scalable, ratio_estimate, scalable, token_probabilities

__all__ = [
    "Autoregressive",
    "Extend",
    "Key",
    "Likeliest",
    "Next",
    "Path",
    "Power",
    "Sample",
    "SampleConfig",
    "Scalable",
    "best_of_n",
    "method",
    "power",
    "ratio_estimate",
    "run",
    "scalable",
    "single",
    "token_probabilities",
]
