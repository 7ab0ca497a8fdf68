"""Sequence models with a stop token: what p^alpha does to length, and what likelihood alone prefers."""

from sharpen.theory.sequences.curve import LengthCurve, LengthPoint
from sharpen.theory.sequences.cycles import CycleMeans, cycle_means
from sharpen.theory.sequences.files import from_files, to_files
from sharpen.theory.sequences.iid import IidModel
from sharpen.theory.sequences.laws import (
    Gap,
    PolicyReport,
    Reward,
    cross_log_prob,
    entropy,
    expected_reward,
    gap,
    kl,
    length_pmf,
    length_variance,
    mean_length,
    report,
)
from sharpen.theory.sequences.model import MarkovModel
from sharpen.theory.sequences.modes import MeanMode, ScoredSequence, WeightedMode, likeliest, mean_mode, weighted_mode
from sharpen.theory.sequences.ngram import from_lines, from_text
from sharpen.theory.sequences.power import Power, normalisable, power, temperature
from sharpen.theory.sequences.spectrum import Bracket, Spectrum, critical_alpha

__all__ = [
    "Bracket",
    "CycleMeans",
    "Gap",
    "IidModel",
    "LengthCurve",
    "LengthPoint",
    "MarkovModel",
    "MeanMode",
    "PolicyReport",
    "Power",
    "Reward",
    "ScoredSequence",
    "Spectrum",
    "WeightedMode",
    "critical_alpha",
    "cross_log_prob",
    "cycle_means",
    "entropy",
    "expected_reward",
    "from_files",
    "from_lines",
    "from_text",
    "gap",
    "kl",
    "length_pmf",
    "length_variance",
    "likeliest",
    "mean_length",
    "mean_mode",
    "normalisable",
    "power",
    "report",
    "temperature",
    "to_files",
    "weighted_mode",
]
