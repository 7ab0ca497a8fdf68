"""A model's folder, read as a stranger's: any file may be missing, broken, or another model's.

``from_pretrained`` fills what a folder lacks with random numbers, says so in a log, and goes on; a folder that is not
whole has to be refused before anything is computed with it.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from sharpen.llm.models.finite import listed, non_finite

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
CONFIG, GENERATION = "config.json", "generation_config.json"
ADAPTER, ADAPTER_WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")
LARGEST_JSON = 2**27  # bytes
DTYPES = ("auto", "float32", "bfloat16", "float16", "float64", "float8_e4m3fn", "float8_e5m2")
LARGER = 4  # how many times more parameters than the weights a config may describe before its model is made

Loaded = TypeVar("Loaded")


class ModelFolderError(ValueError):
    """A model that cannot be used, with the reason in one line."""


class Stored(NamedTuple):
    """What a safetensors header says of a tensor: its dtype by safetensors' name (``F32``, ``BF16``) and its shape."""

    dtype: str
    shape: tuple[int, ...]


def check_folder(folder: Path) -> None:
    """Refuse a local folder whose files cannot be a whole model; as a rule no weight is read for that.

    Raises:
        ModelFolderError: the config is no config of a known architecture, the weights are missing, pickled, damaged,
            whole numbers, or not those that the config says.
    """
    if not _check_headers(folder):  # they may have other names and still be whole; transformers knows
        _read(str(folder), "auto")


def check_config(folder: Path) -> dict[str, Any]:
    """Return the content of config.json, which has to be a mapping that names a known architecture.

    Raises:
        ModelFolderError: it is not, or it names an activation or a dtype that is unknown.
    """
    from transformers import CONFIG_MAPPING
    from transformers.activations import ACT2FN

    config = _mapping(folder / CONFIG)
    _check_known(config, "model_type", CONFIG_MAPPING.keys(), required=True)
    for name in ("hidden_act", "hidden_activation", "activation_function"):
        _check_known(config, name, ACT2FN.keys())
    for name in ("dtype", "torch_dtype"):
        _check_known(config, name, DTYPES)
    return config


def check_adapter(folder: Path) -> dict[str, Any]:
    """Return an adapter's config, after looking at its files as :func:`check_folder` does.

    Raises:
        ModelFolderError: the config is no mapping, or the weights are missing, pickled or damaged.
    """
    config = _mapping(folder / ADAPTER)
    if not (folder / ADAPTER_WEIGHTS).is_file():
        raise ModelFolderError(_no_weights(folder, ADAPTER_WEIGHTS))
    _check_numbers(stored_tensors(folder / ADAPTER_WEIGHTS))
    return config


def stored_tensors(file: Path) -> dict[str, Stored]:
    """Return what a safetensors file holds, by the tensors' names; only its header is read.

    Raises:
        ModelFolderError: it cannot be read.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="pt") as tensors:
            headers = {name: tensors.get_slice(name) for name in tensors.keys()}  # noqa: SIM118
            return {name: Stored(held.get_dtype(), tuple(held.get_shape())) for name, held in headers.items()}
    except (OSError, SafetensorError, ValueError) as error:
        raise ModelFolderError(f"{file.name} cannot be read: {one_line(error)}") from error


def load_weights(location: str, dtype: torch.dtype | str) -> PreTrainedModel:
    """Return the causal language model of a folder or hub id, every weight of it from there and finite.

    Pickled weights are never opened, and code that comes with a model is never run.

    Args:
        location: The folder or hub id.
        dtype: As ``from_pretrained`` takes it.

    Raises:
        ModelFolderError: it cannot be loaded, or weights are missing, superfluous, of another shape, or not finite.
    """
    if Path(location).is_dir():
        _check_headers(Path(location))
    model = _read(location, dtype)
    check_finite([*model.named_parameters(), *model.named_buffers()], f"as {str(model.dtype).removeprefix('torch.')}")
    return model


def _read(location: str, dtype: torch.dtype | str) -> PreTrainedModel:
    from transformers import AutoModelForCausalLM

    read: Any = guarded(
        lambda: AutoModelForCausalLM.from_pretrained(
            location,
            dtype=dtype,
            use_safetensors=True,
            trust_remote_code=False,
            ignore_mismatched_sizes=True,  # they are refused below, by name
            output_loading_info=True,
        )
    )
    model, found = read
    check_complete(type(model).__name__, **{kind: found[f"{kind}_keys"] for kind in KINDS})
    head, embedding = model.get_output_embeddings(), model.get_input_embeddings()
    if model.config.get_text_config().tie_word_embeddings and head is not None and head.weight is not embedding.weight:
        raise ModelFolderError(f"{CONFIG} ties embedding and head, the weights hold two different ones")
    return model


KINDS = {"missing": "missing", "mismatched": "of another shape", "unexpected": "without a place in it"}


def check_complete(owner: str, **names: Iterable[Any]) -> None:
    """Refuse weights that are not exactly those of ``owner``.

    Args:
        owner: What they should be the weights of.
        names: Names of tensors by what is wrong with them (:data:`KINDS`), or tuples that begin with a name.

    Raises:
        ModelFolderError: there are any.
    """
    told = {kind: {item if isinstance(item, str) else str(item[0]) for item in given} for kind, given in names.items()}
    problems = [f"{listed(found)} {KINDS[kind]}" for kind, found in told.items() if found]
    if problems:
        raise ModelFolderError(f"its weights are not those of {owner}: {'; '.join(problems)}")


def check_tokenizer_files(folder: Path) -> None:
    """Refuse a folder with a broken file of a tokenizer, by the file's name.

    Raises:
        ModelFolderError: one is no mapping.
    """
    for name in TOKENIZER_FILES:
        if (folder / name).exists():
            _mapping(folder / name)


def check_tokenizer(tokenizer: PreTrainedTokenizerBase) -> None:
    """Refuse a tokenizer without a vocabulary, which transformers makes where files are missing.

    Raises:
        ModelFolderError: it knows no digit.
    """
    if not guarded(lambda: tokenizer("0123456789", add_special_tokens=False)["input_ids"]):
        raise ModelFolderError("its tokenizer has no tokens for digits: tokenizer.json is missing or empty")


def check_finite(tensors: Iterable[tuple[str, torch.Tensor]], where: str) -> None:
    """Refuse numbers that are NaN or infinite.

    Raises:
        ModelFolderError: with the names of the tensors.
    """
    bad = non_finite(tensors)
    if bad:
        raise ModelFolderError(f"NaN or infinite {where}: {listed(bad)}")


def guarded(load: Callable[[], Loaded]) -> Loaded:
    """Return what a library's loader makes of foreign files, without its own reports.

    Raises:
        ModelFolderError: it failed, in whatever way: broken files make loaders fail in all of them.
    """
    with _quietly():
        try:
            return load()
        except (MemoryError, ModelFolderError):
            raise
        except BaseException as error:
            # The tokenizers library panics on some files, and its panic is no Exception.
            if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
                raise
            raise ModelFolderError(one_line(error)) from error


def one_line(error: BaseException) -> str:
    """Return the beginning of an error's text as one line, with its kind where the text alone says little."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = " ".join(lines[: 2 if lines and lines[0].endswith((":", "'")) else 1]).rstrip(".:")
    return text if isinstance(error, OSError | ValueError) and text else f"{type(error).__name__}: {text}"


def _check_known(config: Mapping[str, Any], name: str, known: Collection[str], *, required: bool = False) -> None:
    value = config.get(name)
    if (value is not None or required) and not (isinstance(value, str) and value in known):
        raise ModelFolderError(f"{CONFIG} has {name} {value!r:.60}, which torch and transformers here do not know")


def _mapping(file: Path) -> dict[str, Any]:
    try:
        if file.stat().st_size > LARGEST_JSON:
            raise ModelFolderError(f"{file.name} is larger than {LARGEST_JSON} bytes")
        found = json.loads(file.read_text(encoding="utf-8"))
    except ModelFolderError:
        raise
    except (OSError, ValueError, RecursionError) as error:
        raise ModelFolderError(f"{file.name} cannot be read: {one_line(error)}") from error
    if not isinstance(found, dict):
        raise ModelFolderError(f"{file.name} is no mapping")
    return found


def _weight_files(folder: Path) -> list[Path]:
    if (folder / WEIGHTS).is_file():
        return [folder / WEIGHTS]
    if not (folder / INDEX).is_file():
        raise ModelFolderError(_no_weights(folder, WEIGHTS))
    places = _mapping(folder / INDEX).get("weight_map")
    if not isinstance(places, Mapping) or not all(isinstance(name, str) for name in places.values()):
        raise ModelFolderError(f"{INDEX} has no weight_map of file names")
    return [folder / name for name in sorted(set(places.values()))]


def _no_weights(folder: Path, wanted: str) -> str:
    pickled = sorted(file.name for pattern in PICKLES for file in folder.glob(pattern))
    if not pickled:
        return f"no {wanted}"
    return (
        f"no {wanted}; {pickled[0]} is a pickle, which can run any code when it is opened, so it is not read: where "
        "you trust it, load it and store it with save_pretrained, which writes safetensors"
    )


def _check_numbers(tensors: Mapping[str, Stored]) -> None:
    """Refuse weights stored as whole numbers, which would be taken for numbers of that size."""
    whole = [
        name
        for name, held in tensors.items()
        if name.endswith((".weight", ".bias")) and re.fullmatch(r"B?F\d.*", held.dtype) is None
    ]
    if whole:
        raise ModelFolderError(f"its weights are no floating-point numbers: {listed(whole)}")


def _check_headers(folder: Path) -> bool:
    """Refuse what needs no weights to be seen; return whether their names and shapes are the architecture's own."""
    config = check_config(folder)
    if (folder / GENERATION).exists():
        _mapping(folder / GENERATION)  # transformers drops one that is broken, and with it the tokens that end a turn
    if (folder / ADAPTER).exists():
        raise ModelFolderError(f"{ADAPTER} makes it an adapter of another model; merge it with `sharpen llm export`")
    tensors = {name: held for file in _weight_files(folder) for name, held in stored_tensors(file).items()}
    if "quantization_config" in config:
        return False
    _check_numbers(tensors)
    expected, tied = _described(folder, config, tensors)
    held = {name: stored.shape for name, stored in tensors.items() if name not in tied}
    return held == expected


def _described(
    folder: Path, config: Mapping[str, Any], tensors: Mapping[str, Stored]
) -> tuple[dict[str, tuple[int, ...]], Collection[str]]:
    """Return the shapes of the weights that the config describes, without those that are tied to others, and these.

    Refuses a config of a far larger model than the weights: random numbers of that size might not fit anywhere.
    """
    layers = config.get("num_hidden_layers")
    if isinstance(layers, int) and layers > len(tensors):
        raise ModelFolderError(f"{CONFIG} has {layers:.6g} layers, the weights are {len(tensors)} tensors")
    found = _blank(_Config(json.dumps(config), folder))
    stored = sum(math.prod(held.shape) for held in tensors.values())
    if found.parameters > LARGER * max(stored, 1):
        raise ModelFolderError(f"{CONFIG} describes {found.parameters:.3g} parameters, the weights hold {stored:.3g}")
    return found.shapes, found.tied


@dataclass(frozen=True)
class _Config:
    """What a config says, and the folder where it does: another folder that says the same describes the same model."""

    text: str
    folder: Path = field(compare=False)


class _Blank(NamedTuple):
    parameters: int
    shapes: dict[str, tuple[int, ...]]
    tied: Collection[str]


@lru_cache(maxsize=8)  # a run's checkpoints have one config; to build its layers was a third of reading one
def _blank(config: _Config) -> _Blank:
    """Return what a config describes, from a model without numbers."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    def build() -> PreTrainedModel:
        with torch.device("meta"):
            architecture = AutoConfig.from_pretrained(config.folder, trust_remote_code=False)
            return AutoModelForCausalLM.from_config(architecture, trust_remote_code=False)

    model = guarded(build)
    tied = frozenset(getattr(model, "all_tied_weights_keys", {}))
    shapes = {name: tuple(weight.shape) for name, weight in model.state_dict().items() if name not in tied}
    return _Blank(model.num_parameters(), shapes, tied)


@contextmanager
def _quietly() -> Iterator[None]:
    """Keep transformers' own reports back: what is wrong is said in one line."""
    from transformers.utils import logging

    level = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(level)
