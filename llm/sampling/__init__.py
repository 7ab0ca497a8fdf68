"""Sharpening without training: responses from p^alpha, and what stands beside it at equal cost."""

from sharpen.llm.configs.sampling import SampleConfig
from sharpen.llm.samplers import (
    SAMPLERS,
    Autoregressive,
    Extend,
    Key,
    Likeliest,
    Next,
    Path,
    Power,
    Sample,
    Sampler,
    Scalable,
    best_of_n,
    power,
    ratio_estimate,
    run,
    scalable,
    single,
    token_probabilities,
)
from sharpen.llm.sampling.methods import method

__all__ = [
    "SAMPLERS",
    "Autoregressive",
    "Extend",
    "Key",
    "Likeliest",
    "Next",
    "Path",
    "Power",
    "Sample",
    "SampleConfig",
    "Sampler",
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
