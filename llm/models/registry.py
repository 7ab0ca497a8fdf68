"""Which models there are, and how to load them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.resources import as_file, files
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from sharpen.llm.models import store
from sharpen.llm.models.hub import prefer_cache
from sharpen.llm.models.packaged import PACKAGED, SMOLLM2
from sharpen.objective import InputError
from sharpen.objective.storage.files import naming, sha256

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

Loaded = TypeVar("Loaded")


@dataclass(frozen=True)
class ModelSource:
    """A model that can be loaded.

    Args:
        name: What the user called it.
        location: Hub id, folder, GGUF file or package of the Python package index. ``from_pretrained`` and vLLM take
            what :func:`sharpen.llm.models.store.folder_of` makes of it.
        template: Prompt template.
        default_data: Training data unless the user names other.
        architecture: Fields of its transformers config that its size and its positions follow from, where the registry
            knows them.
    """

    name: str
    location: str
    template: str = "boxed-cot"
    default_data: str = "math"
    architecture: Mapping[str, object] = field(default_factory=dict, hash=False)


# As their config.json say; `sharpen llm train --dry-run` works out sizes from these without a network.
_QWEN25_3B: dict[str, object] = {
    "model_type": "qwen2",
    "hidden_size": 2048,
    "intermediate_size": 11008,
    "num_hidden_layers": 36,
    "num_attention_heads": 16,
    "num_key_value_heads": 2,
    "vocab_size": 151936,
    "max_position_embeddings": 32768,
    "rope_parameters": {"rope_type": "default", "rope_theta": 1e6},
    "rms_norm_eps": 1e-6,
    "tie_word_embeddings": True,
}
_LLAMA32_3B: dict[str, object] = {
    "model_type": "llama",
    "hidden_size": 3072,
    "intermediate_size": 8192,
    "num_hidden_layers": 28,
    "num_attention_heads": 24,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "vocab_size": 128256,
    "max_position_embeddings": 131072,
    "rope_parameters": {
        "rope_type": "llama3",
        "rope_theta": 5e5,
        "factor": 32.0,
        "high_freq_factor": 4.0,
        "low_freq_factor": 1.0,
        "original_max_position_embeddings": 8192,
    },
    "rms_norm_eps": 1e-5,
    "tie_word_embeddings": True,
}
_QWEN3_4B: dict[str, object] = {
    "model_type": "qwen3",
    "hidden_size": 2560,
    "intermediate_size": 9728,
    "num_hidden_layers": 36,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "vocab_size": 151936,
    "max_position_embeddings": 262144,
    "rope_parameters": {"rope_type": "default", "rope_theta": 5e6},
    "rms_norm_eps": 1e-6,
    "tie_word_embeddings": True,
}
# As the header of its GGUF file says.
_SMOLLM2: dict[str, object] = {
    "model_type": "llama",
    "hidden_size": 576,
    "intermediate_size": 1536,
    "num_hidden_layers": 30,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "head_dim": 64,
    "vocab_size": 49152,
    "max_position_embeddings": 8192,
    "rope_parameters": {"rope_type": "default", "rope_theta": 1e5},
    "rms_norm_eps": 1e-5,
    "tie_word_embeddings": True,
}
REGISTRY: dict[str, ModelSource] = {
    source.name: source
    for source in (
        ModelSource("smollm2", SMOLLM2.location, default_data="antonyms", architecture=_SMOLLM2),
        ModelSource("qwen2.5-3b", "Qwen/Qwen2.5-3B-Instruct", architecture=_QWEN25_3B),
        ModelSource("llama-3.2-3b", "meta-llama/Llama-3.2-3B-Instruct", architecture=_LLAMA32_3B),
        ModelSource("qwen3-4b", "Qwen/Qwen3-4B-Instruct-2507", default_data="deepscaler", architecture=_QWEN3_4B),
    )
}

# docs/dial.md; llm/tasks/dial/law.py says what each learns.
DIAL = (
    *("dial-1", "dial-0.5", "dial+0", "dial+0.5", "dial+1"),
    *("dial-right-short", "dial-right-long", "dial-wrong-short", "dial-wrong-long"),
)
BUILT_IN = ("embedded", *DIAL)  # their weights come with this package


def artifact_path() -> Path:
    """Return the folder of the embedded model, which ``from_pretrained`` and vLLM load; ``llm/tiny`` made it."""
    with as_file(files("sharpen.llm") / "tiny" / "artifact") as folder:
        return Path(folder)


def dial_path() -> Path:
    """Return the folder of the dial's models, each in a folder of its name; ``measures.json`` has what each was."""
    with as_file(files("sharpen.llm") / "tiny" / "dial_models") as folder:
        return Path(folder)


def folder_of_built_in(name: str) -> Path:
    """Return where the weights of one of :data:`BUILT_IN` are."""
    return dial_path() / name if name in DIAL else artifact_path()


def _of_dial(name: str) -> ModelSource:
    """Return a model of the dial whose weights are those that were made and measured.

    Raises:
        InputError: its weights are not those that were made.
    """
    folder = dial_path() / name
    with naming(folder, "model"):
        told = json.loads((folder / "provenance.json").read_text(encoding="utf-8"))["measures"]["sha256"]
        found = sha256(folder / "model.safetensors")
    if found != told:
        raise InputError("model", name, f"its weights as they were made, SHA-256 {told}; {folder} has {found}")
    return ModelSource(name, str(folder), template="plain", default_data="dial")


def resolve(name: str) -> ModelSource:
    """Return the model that ``name`` stands for; nothing is loaded.

    Args:
        name: ``embedded``, a model of the dial (:data:`DIAL`),
            a registered name, a local folder, a GGUF file, or a hub id ``org/name``.

    Raises:
        InputError: it is none of these.
    """
    if name == "embedded":
        return ModelSource(name, str(artifact_path()), template="plain", default_data="embedded")
    if name in DIAL:
        return _of_dial(name)
    if name in REGISTRY:
        return REGISTRY[name]
    if name in PACKAGED:
        return REGISTRY[PACKAGED[name].name]
    if name and Path(name).is_dir():
        if not (Path(name) / "config.json").is_file():
            held = min((str(file) for file in Path(name).glob(f"*{store.GGUF}")), default=None)
            other = "" if held is None else f"; of this folder take the file, --model {held}"
            raise InputError("model", name, f"a folder with config.json, weights and tokenizer{other}")
        return ModelSource(name, name)
    if name.endswith(store.GGUF):
        if not Path(name).is_file():
            raise InputError("model", name, "a GGUF file that exists")
        return ModelSource(name, name)
    if re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", name):
        return ModelSource(name, name)
    raise InputError(
        "model",
        name,
        f"embedded, {', '.join(REGISTRY)}, {', '.join(DIAL)}, a hub id (org/name), an existing folder or GGUF file",
    )


def load_architecture(source: ModelSource) -> Any:
    """Return the model's transformers config: the registry's where it has one, so that no network is needed.

    Raises:
        InputError: it is neither on this machine nor to be had from the hub.
    """
    from transformers import AutoConfig

    if source.architecture:
        fields = dict(source.architecture)
        return AutoConfig.for_model(str(fields.pop("model_type")), **fields)
    if store.is_converted(source.location) and not store.is_ready(source.location):
        return store.architecture(source.location)
    return _loaded(source, lambda place: AutoConfig.from_pretrained(place, trust_remote_code=False))


def load_tokenizer(source: ModelSource) -> PreTrainedTokenizerBase:
    """Return the model's tokenizer.

    Raises:
        InputError: it is neither on this machine nor to be had from the hub, or its files are broken.
    """
    from transformers import AutoTokenizer

    from sharpen.llm.models.folder import check_tokenizer, check_tokenizer_files

    def load(place: str) -> PreTrainedTokenizerBase:
        if Path(place).is_dir():
            check_tokenizer_files(Path(place))
        tokenizer = AutoTokenizer.from_pretrained(place, trust_remote_code=False)
        check_tokenizer(tokenizer)
        return tokenizer

    return _loaded(source, load)


def load_model(source: ModelSource, device: str, dtype: str) -> PreTrainedModel:
    """Return the model on ``device`` (``cpu``, ``cuda``) in ``dtype`` (``float32``, ``bfloat16``), in eval mode.

    Raises:
        InputError: it is neither on this machine nor to be had from the hub, it is not whole (weights missing,
            superfluous, of another shape or not finite; see :mod:`sharpen.llm.models.folder`), or there is no such
            device.
    """
    import torch

    from sharpen.llm.models.folder import load_weights

    check_device(device)
    without_cudnn_attention()
    model = _loaded(source, lambda place: load_weights(place, getattr(torch, dtype)))
    return model.to(device)  # type: ignore[arg-type]


def without_cudnn_attention() -> None:
    """Leave attention on a GPU to the other kernels of ``scaled_dot_product_attention``.

    PyTorch takes cuDNN's on Hopper, which compiles a graph for each shape of queries and keys, once in every thread:
    when sampling each token has a shape of its own, and when training most microbatches have.
    """
    import torch

    torch.backends.cuda.enable_cudnn_sdp(False)


def check_device(device: str, place: int = 0) -> None:
    """Refuse a GPU that is not there.

    Args:
        device: ``cpu`` or ``cuda``.
        place: Number of this process on the machine: the GPU that it would use.

    Raises:
        InputError: ``cuda`` is meant, and torch sees no GPU, or fewer than there are processes.
    """
    import torch

    if device == "cuda" and not torch.cuda.is_available():
        raise InputError("device", device, "cpu: this machine has no GPU that torch can use")
    if device == "cuda" and place >= torch.cuda.device_count():
        allowed = f"at most one a GPU; this machine has {torch.cuda.device_count()} (torchrun --nproc-per-node)"
        raise InputError("processes", f"{place + 1} on this machine", allowed)


def _loaded(source: ModelSource, load: Callable[[str], Loaded]) -> Loaded:
    """Return what ``load`` makes of the model's folder or hub id; a GGUF file is converted first if it has to be."""
    from sharpen.llm.models.folder import ModelFolderError, check_config, guarded

    place = store.folder_of(source.location)
    local = Path(place).is_dir()
    if not local:
        prefer_cache()
    try:
        if local:
            check_config(Path(place))
        return guarded(lambda: load(place))
    except ModelFolderError as error:
        raise _not_there(source, local, error) from error


def _not_there(source: ModelSource, local: bool, error: Exception) -> InputError:
    if store.is_converted(source.location):
        name = store.name_of(source.location)
        return InputError("model", name, f"a whole model ({error}); `sharpen llm fetch {name}` makes its folder again")
    if local:
        return InputError("model", source.name, f"a folder with config.json, weights and tokenizer ({error})")
    if not isinstance(error.__cause__, OSError):  # it was found
        return InputError("model", source.name, f"a whole model ({error})")
    folder = source.location.rpartition("/")[2]
    return InputError(
        "model",
        source.name,
        f"a model that can be loaded; {source.location} is neither in the local cache nor to be had from the hub "
        f"({error}): on a machine with network run `hf download {source.location} --local-dir {folder}`, then pass "
        f"--model {folder}",
    )
