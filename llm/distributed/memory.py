"""How many bytes a training run needs on each GPU, from the model's architecture alone.

N parameters, N_t of them trained, W processes, b bytes of the passes' dtype (2 for bfloat16); sharded runs divide by W:

==============  =====================================================================================================
parameters      4 N / W: the float32 master copy; b N more for passes in less than float32 without sharding
gradients       4 N_t / W
optimizer       8 N_t / W: AdamW's two moments; SGD's one, 4 N_t / W, or none without momentum
temporaries     during AdamW's step: 4 N_t / W on a GPU, where it works on all weights at once; on a CPU it works on one
                at a time, 12 bytes a number of the largest. Where steps are measured 4 N_t / W more, the weights before
                the step, beside these or the measuring pass's logits and gathered weights
gathered        sharded runs: b (E + 3 L) for the weights of embedding and head E and of three layers L that are whole
                at a time (two in one process), b E for the head's gradient, (b + 4) L for a layer's before it is
                summed over processes, and 4 b m h for gradients of hidden states; of E and L where they are trained,
                and with adapters b m i for what one adds to its layer's output
reference       b N / W; 0 if it is offloaded, the policy itself, or the model without adapters
activations     b m [2 h + 2 q + 2 k + 4 i] + 16 m h a layer, for m tokens of a microbatch (of a step, if its graph is
                kept), hidden size h, query and key-value widths q and k, MLP width i: what the backward pass
                reads of a decoder layer with a gated MLP (norms keep float32 copies), and 8 m h of the last norm. With
                activation checkpointing b m h a layer, one layer's whole, and the last norm's
logits          (b + 12) times the logits of one chunk, or of all tokens whose graph is kept: model's dtype, float32,
                softmax and gradient
backward        the most of these three at a time: at the head the logits beside what the layers keep; in the last layer
                its activations; at the embedding its two gradients, of which one is summed: b (3 E) + 4 E. Without
                sharding the sum of activations and logits
engine weights  b N / (tensor parallel): the engine's copy; 0 if it samples from the trained model itself
KV cache        2 k b (layers) for each token of the process's samples at full length; beside a trainer on a GPU at most
                what is free there (``engine_room.py``)
engine work     of vLLM: 12 times the vocabulary for each row at a time, b (2 h + 2 q + 4 i) a token of prompts it reads
==============  =====================================================================================================

A GPU's process also needs memory of the machine (:class:`Host`), W the same: 4 N to load the master copy, b N for the
reference made from it; b N of an engine that sleeps, over its processes; b N / W of an offloaded reference. A
checkpoint takes the optimizer's state (8 N_t of AdamW's), 4 N_t of the master copy where the stored weights are rounded
or merged, b N of a moving reference, and b N of the weights: on the disk, in the first process when it writes, in each
that continues.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

from sharpen.llm.configs.train import TrainConfig
from sharpen.llm.distributed.engine_room import BLOCK, MOST_ROWS, RESERVE, EngineRoom, engine_room

MASTER = 4  # bytes per parameter: float32 weights
GRAPH = 2**31  # bytes that `graph_tokens: auto` may take
BYTES = {"float32": 4, "bfloat16": 2}


@dataclass(frozen=True)
class Shape:
    """Sizes of a decoder.

    Args:
        parameters: Of the policy, adapters included, tied weights once.
        trained: Of these, those that are trained.
        base: Of the model without adapters.
        layer: Of one decoder layer.
        outside: Of embedding, head and last norm.
        layers: Decoder layers.
        hidden: Hidden size.
        query: Heads times head width.
        key_value: Key-value heads times head width.
        intermediate: Width of the MLP.
        vocabulary: Tokens.
        head_norms: Whether queries and keys are normalised, which keeps float32 copies of them.
    """

    parameters: int
    trained: int
    base: int
    layer: int
    outside: int
    layers: int
    hidden: int
    query: int
    key_value: int
    intermediate: int
    vocabulary: int
    head_norms: bool = False


@dataclass(frozen=True)
class Memory:
    """Bytes on one GPU; see the module for each.

    ``update`` and ``rollout`` are the two parts of a step at which most is held.
    """

    parameters: int
    gradients: int
    optimizer: int
    temporaries: int
    gathered: int
    reference: int
    activations: int
    logits: int
    backward: int
    engine_weights: int
    kv_cache: int
    engine_work: int
    engine_rows: int
    engine_sleeps: bool
    optimizer_leaves: bool
    samples_ahead: bool

    @property
    def update(self) -> int:
        """During the backward pass or the optimizer's step, whichever holds more."""
        held = self.parameters + self.gradients + self.optimizer + self.reference
        engine = 0 if self.engine_sleeps else self.engine_weights + self.kv_cache
        engine += self.engine_work if self.samples_ahead else 0  # it samples meanwhile
        return held + engine + max(self.backward, self.temporaries)

    @property
    def rollout(self) -> int:
        """While the engine samples; gradients are freed by then, and the optimizer's state may have left."""
        held = self.parameters + self.reference + (0 if self.optimizer_leaves else self.optimizer)
        return held + self.engine_weights + self.kv_cache + self.engine_work

    def to_dict(self) -> dict[str, Any]:
        """Return all of it."""
        return {**asdict(self), "update": self.update, "rollout": self.rollout}


@dataclass(frozen=True)
class Host:
    """Bytes of the machine's memory that one process needs beside its GPU; see the module.

    Args:
        start: While it loads and divides the model.
        steps: During training: an engine that sleeps, a reference that is offloaded.
        checkpoint: Beyond ``steps``: the first process when it writes a checkpoint, every one when it continues.
    """

    start: int
    steps: int
    checkpoint: int


def shape_of(architecture: Any, lora: Any = None) -> Shape:
    """Return the sizes of a model, built without memory from its transformers config.

    Args:
        architecture: The config.
        lora: The adapters' settings, if any.
    """
    key = architecture.to_json_string(use_diff=False), None if lora is None else lora.rank
    if key not in _shapes:
        _shapes[key] = _measured(architecture, lora)
    return _shapes[key]


_shapes: dict[tuple[str, int | None], Shape] = {}  # a model on no device takes a second to build


def _measured(architecture: Any, lora: Any) -> Shape:
    import torch
    from transformers import AutoModelForCausalLM

    from sharpen.llm.distributed.sharding import decoder_layers
    from sharpen.llm.models.weights import with_adapters

    text = architecture.get_text_config()
    with torch.device("meta"):
        model: Any = AutoModelForCausalLM.from_config(architecture)
        base, layer = _count(model), _count(decoder_layers(model)[0])
        layers = len(decoder_layers(model))
        if lora is not None:
            model = with_adapters(model, lora.rank, lora.alpha)
    heads = text.num_attention_heads
    width = getattr(text, "head_dim", None) or text.hidden_size // heads
    return Shape(
        parameters=_count(model),
        trained=sum(weight.numel() for weight in model.parameters() if weight.requires_grad),
        base=base,
        layer=layer,
        outside=base - layers * layer,
        layers=layers,
        hidden=text.hidden_size,
        query=heads * width,
        key_value=(getattr(text, "num_key_value_heads", None) or heads) * width,
        intermediate=text.intermediate_size,
        vocabulary=text.vocab_size,
        head_norms=any(name.endswith("q_norm.weight") for name, _ in model.named_parameters()),
    )


def _count(module: Any) -> int:
    return sum(weight.numel() for weight in module.parameters())


def estimate(
    config: TrainConfig,
    shape: Shape,
    *,
    processes: int,
    device: str,
    dtype: str,
    divided: bool,
    gpu_memory: int | None = None,
) -> Memory:
    """Return the bytes on each GPU.

    Args:
        config: The run.
        shape: Of its model.
        processes: How many train together.
        device: ``cpu`` or ``cuda``.
        dtype: Of the passes.
        divided: Whether the weights are sharded.
        gpu_memory: Bytes that the GPU has; None: as many as are needed.
    """
    from sharpen.llm.models.logprobs import CHUNK_LOGITS

    b, W = BYTES[dtype], processes if divided else 1
    rows = -(-config.prompts_per_step // processes) * config.samples_per_prompt
    apart = divided or config.lora is not None or config.engine != "transformers" or config.sample_ahead > 0
    kept = 0 if divided or config.learner.learner.resamples else rows * config.max_length
    kept = min(graph_tokens(config, lambda: shape, dtype), kept)
    microbatch = config.tokens_per_microbatch
    tokens = max(microbatch, kept)
    parameters = MASTER * shape.parameters // W + (b * shape.base if dtype != "float32" and not divided else 0)
    optimizer = config.optimizer.state_bytes * shape.trained // W
    reference = _reference(config, shape, b, W, device, divided)
    weights = b * shape.base // config.tensor_parallel if apart else 0
    acts = activations(shape, tokens, b, checkpointing=config.gradient_checkpointing)
    logits = (b + 12) * max(min(CHUNK_LOGITS, microbatch * shape.vocabulary), kept * shape.vocabulary)
    gathered = _gathered(shape, b, tokens, 3 if W > 1 else 2) if divided else 0
    temporaries, backward = _temporaries(shape, device) // W, acts + logits
    if config.optimizer.measures:
        temporaries = MASTER * shape.trained // W + max(temporaries, logits + gathered)
    if divided:
        layer = activations(replace(shape, layers=1), tokens, b, checkpointing=False) - 8 * tokens * shape.hidden
        outside = shape.outside if shape.trained == shape.parameters else 0
        at_head = acts - layer * config.gradient_checkpointing + logits + b * (shape.outside + shape.layer + outside)
        at_embedding = b * (shape.outside + 2 * outside) + MASTER * outside
        backward = max(at_head, acts + gathered, at_embedding)
    beside = MASTER * shape.trained // W + max(backward, temporaries) if config.sample_ahead else 0
    free = None if gpu_memory is None else gpu_memory - RESERVE - parameters - optimizer - reference - weights - beside
    engine = _engine_room(config, shape, rows, b, device, free, gpu_memory, optimizer)
    sleeps = config.engine_sleep and config.engine != "transformers" and not config.sample_ahead
    return Memory(
        parameters=parameters,
        gradients=MASTER * shape.trained // W,
        optimizer=optimizer,
        temporaries=temporaries,
        gathered=gathered,
        reference=reference,
        activations=acts,
        logits=logits,
        backward=backward,
        engine_weights=weights,
        kv_cache=engine.kv_cache,
        engine_work=engine.work,
        engine_rows=engine.rows,
        optimizer_leaves=engine.offload,
        engine_sleeps=device == "cuda" and sleeps,
        samples_ahead=config.sample_ahead > 0,
    )


def _engine_room(
    config: TrainConfig, shape: Shape, rows: int, b: int, device: str, free: int | None, gpu: int | None, moments: int
) -> EngineRoom:
    if device != "cuda" or config.engine == "transformers":
        return EngineRoom(rows, kv_cache(shape, rows * config.max_length, b), 0, offload=False)
    T = config.tensor_parallel
    return engine_room(
        rows=rows * T,
        **_needs(shape, config.max_length, b, T),
        room=free,
        movable=moments,
        most=None if gpu is None else int(config.engine_memory * gpu) - b * shape.base // T,
        offload=False
        if config.sample_ahead
        else {"auto": None, "always": True, "never": False}[config.optimizer_offload],
    )


def _needs(shape: Shape, max_length: int, b: int, T: int) -> dict[str, Any]:
    length = -(-max_length // BLOCK) * BLOCK
    read = b * (2 * shape.hidden + 2 * shape.query + 4 * shape.intermediate)
    return {"row": kv_cache(shape, length, b) // T, "vocabulary": shape.vocabulary, "read": read // T}


def rows_beside(shape: Shape, max_length: int, bytes_each: int, share: int) -> int:
    """Return how many rows an engine may sample at a time that has ``share`` bytes for itself, its weights included."""
    room = share - bytes_each * shape.base
    return max(1, engine_room(rows=MOST_ROWS, **_needs(shape, max_length, bytes_each, 1), room=room).rows)


def graph_tokens(config: TrainConfig, shape: Callable[[], Shape], dtype: Any) -> int:
    """Return the most tokens of a step whose graph is kept for the update, in passes of ``dtype`` (torch's, or a name).

    ``auto`` keeps what takes at most :data:`GRAPH` bytes of activations, whatever the machine has: a run's numbers
    differ in their last bits by it, and have to be the same everywhere.
    """
    if config.graph_tokens != "auto":
        return config.graph_tokens
    size = BYTES.get(str(dtype).removeprefix("torch."), 8)
    each = activations(shape(), 1, size, checkpointing=config.gradient_checkpointing)
    return GRAPH // each


def host(config: TrainConfig, shape: Shape, memory: Memory, *, processes: int, dtype: str, divided: bool) -> Host:
    """Return the bytes of the machine's memory that each process on a GPU needs; arguments as :func:`estimate`."""
    b = BYTES[dtype]
    copied = divided and _has_copy(config)
    offloaded = b * shape.base // processes if copied and config.reference_offload else 0
    return Host(
        start=MASTER * shape.base + (b * shape.base if copied else 0) if divided else 0,
        steps=(memory.engine_weights if memory.engine_sleeps else 0)
        + (memory.optimizer if memory.optimizer_leaves else 0)
        + offloaded,
        checkpoint=b * shape.base + trainer_state(config, shape, dtype),
    )


def trainer_state(config: TrainConfig, shape: Shape, dtype: str) -> int:
    """Return the bytes of a checkpoint beside the policy's weights, all processes together."""
    rounded = dtype != "float32" or config.lora is not None
    moves = config.objective.refresh_every is not None and _has_copy(config)
    return (config.optimizer.state_bytes + MASTER * rounded) * shape.trained + BYTES[dtype] * shape.base * moves


def activations(shape: Shape, tokens: int, bytes_each: int, *, checkpointing: bool) -> int:
    """Return the bytes that the backward pass of a microbatch needs."""
    widths = 2 * shape.hidden + 2 * shape.query + 2 * shape.key_value + 4 * shape.intermediate
    norms = 4 * (shape.query + shape.key_value) if shape.head_norms else 0
    layer, last_norm = tokens * (bytes_each * widths + 16 * shape.hidden + norms), 8 * tokens * shape.hidden
    if checkpointing:
        return shape.layers * tokens * bytes_each * shape.hidden + layer + last_norm
    return shape.layers * layer + last_norm


def kv_cache(shape: Shape, tokens: int, bytes_each: int) -> int:
    """Return the bytes of keys and values of so many tokens."""
    return 2 * shape.layers * shape.key_value * bytes_each * tokens


def _gathered(shape: Shape, b: int, tokens: int, layers: int) -> int:
    whole = shape.trained == shape.parameters
    adapted = 0 if whole else b * tokens * shape.intermediate  # an adapter's output beside its layer's
    gradients = (
        b * shape.outside * whole + adapted + (b + MASTER) * (shape.layer if whole else shape.trained // shape.layers)
    )
    return b * (shape.outside + layers * shape.layer) + gradients + 4 * b * tokens * shape.hidden


def _temporaries(shape: Shape, device: str) -> int:
    largest = max(shape.vocabulary, shape.intermediate) * shape.hidden
    return 4 * shape.trained if device == "cuda" else 12 * min(shape.trained, largest)


def _has_copy(config: TrainConfig) -> bool:
    return config.objective.reference != "policy" and config.lora is None


def _reference(config: TrainConfig, shape: Shape, b: int, W: int, device: str, divided: bool) -> int:
    if not _has_copy(config):
        return 0
    if divided and config.reference_offload and device == "cuda":
        return 0
    return b * shape.base // W
