"""Rollouts: sampled responses with the log-probabilities they were sampled at, from vLLM or from transformers."""

from sharpen.llm.rollout.factory import ENGINES, make_engine, vllm_available
from sharpen.llm.rollout.types import Engine, Rollout, Sampling, WeightSyncError

__all__ = ["ENGINES", "Engine", "Rollout", "Sampling", "WeightSyncError", "make_engine", "vllm_available"]
