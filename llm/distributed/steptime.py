"""How long a training step takes, phase by phase, counted from the model's shape and from what a machine does a second.

Every phase is a :class:`Work`: floating-point operations of matrix products, bytes that kernels read and write beside
them, bytes between processes, bytes between GPU and machine, and kernels. N parameters, L tokens a row, b bytes of the
passes' dtype, h hidden size, q, k and i the widths of queries, keys and MLP, V vocabulary, W processes:

==============  =====================================================================================================
forward pass    2 (weights of the layers + V h) + 2 q L (layers) FLOP a token (causal attention: half of 4 q L)
its kernels     bytes per token and layer: 2 h (4 b + 28) norms, which compute in float32; 6 b h sums of the residual
                stream; 10 b (q + k) rotation; 2 b q; 5 b i gate of the MLP. Head: V (b + 20) for log softmax in
                float32, V 28 more for entropies. Adapters: 6 b for each output of each linear layer
backward pass   twice the forward pass; with adapters the FLOP of the frozen weights' inputs only
sharded         each pass over the weights reads 4 N / W bytes and writes b N, of which (W - 1) / W cross the network;
                gradients are cast, summed and added: (b + 20) N, and 4 N (W - 1) / W cross the network
optimizer       60 N_t / W: AdamW reads weight, gradient and moments and writes three of them, operation by operation;
                SGD 32 N_t / W, 12 without momentum. A measured step reads and writes 32 N_t / W more for the weights
                before it, and takes a forward pass
decoding        b N of weights and 2 k b (layers) for each token of context, for every step of all rows; 2 N FLOP a row
push            b N read and written; with sleep, b N to the machine's memory and back
==============  =====================================================================================================

Kernels of a pass run one after the other, so the times of products and bytes add, and those of copies to the machine's
memory, which hold the next phase up; what goes between processes runs beside the passes. A decoding step reads weights
and cache inside its products: the longer of the two. ``SHARE`` is the one number that is fitted (docs/scale.md): what
the model's products reach of a large product's rate.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from sharpen.llm.distributed.cards import Card
from sharpen.llm.distributed.memory import BYTES, Shape, graph_tokens, kv_cache

if TYPE_CHECKING:
    from sharpen.llm.configs.train import TrainConfig

SHARE = 0.65  # fitted, with the times of one H200 and one H100 in sight (docs/scale.md)
LARGE_PRODUCT, COPY = 0.80, 0.90  # of the data sheet's rates: what an 8192^3 product and a large copy reach
NODE, BETWEEN = 8, 50e9  # cards of a machine; bytes per second that each sends to another one (400 Gb/s, assumed)
ROWS = 256  # rows that an engine samples at a time
LAUNCH = 1e-5  # seconds from one kernel to the next where Python starts them
LAYER_KERNELS, STEP_KERNELS = 45, 60  # of a decoder layer's forward pass; of a decoding step beside the layers
ENTROPY, HEAD, SAMPLER, ADAM = 28, 20, 60, 60  # bytes per number; see above
Bound = Literal["products", "memory", "network", "host", "launches"]


@dataclass(frozen=True)
class Rates:
    """What one device does a second.

    Args:
        products: FLOP of a large matrix product in the passes' dtype.
        memory: Bytes of its memory, read and written.
        network: Bytes that a process sends to the others.
        host: Bytes between it and the machine's memory, one way.
        share: Of ``products``, what the products of a model's passes reach.
        launch: Seconds to start a kernel.
        hides_launches: Whether kernels are started while earlier ones run, as on a GPU.
    """

    products: float
    memory: float
    network: float = float("inf")
    host: float = float("inf")
    share: float = SHARE
    launch: float = 0.0
    hides_launches: bool = True


def ceiling(card: Card, processes: int = 1) -> Rates:
    """Return a card's rates by its data sheet, all of which products are taken to reach: no step is faster."""
    network = card.link if processes <= NODE else BETWEEN
    return Rates(card.flops, card.bandwidth, network, card.host, share=1.0)


def expected(card: Card, processes: int = 1) -> Rates:
    """Return the rates that were seen on GPUs of this kind (``LARGE_PRODUCT``, ``COPY``, ``SHARE``)."""
    most = ceiling(card, processes)
    return replace(most, products=LARGE_PRODUCT * most.products, memory=COPY * most.memory, share=SHARE, launch=LAUNCH)


@dataclass(frozen=True)
class Work:
    """What a phase makes one device do; ``fused``: it reads and writes its bytes inside its products."""

    flop: float = 0.0
    memory: float = 0.0
    network: float = 0.0
    host: float = 0.0
    kernels: float = 0.0
    fused: bool = False

    def __add__(self, other: Work) -> Work:
        """Return both; of the same kind."""
        return Work(
            self.flop + other.flop,
            self.memory + other.memory,
            self.network + other.network,
            self.host + other.host,
            self.kernels + other.kernels,
            self.fused or other.fused,
        )

    def __mul__(self, times: float) -> Work:
        """Return it so many times."""
        own = (self.flop, self.memory, self.network, self.host, self.kernels)
        return Work(*(times * each for each in own), fused=self.fused)

    def parts(self, rates: Rates) -> dict[Bound, float]:
        """Return the seconds of each kind of work on its own."""
        return {
            "products": self.flop / (rates.products * (1 if self.fused else rates.share)),
            "memory": self.memory / rates.memory,
            "network": self.network / rates.network,
            "host": self.host / rates.host,
            "launches": self.kernels * rates.launch,
        }

    def seconds(self, rates: Rates) -> float:
        """Return the time of all of it; the module says what runs beside what."""
        part = self.parts(rates)
        together = max if self.fused and rates.hides_launches else lambda *own: sum(own)
        device = together(part["products"], part["memory"])
        if rates.hides_launches:
            return max(device, part["network"], part["launches"]) + part["host"]
        return max(device, part["network"]) + part["launches"] + part["host"]

    def bound(self, rates: Rates) -> Bound:
        """Return what takes most of the time."""
        part = self.parts(rates)
        return max(part, key=part.__getitem__)


def forward(shape: Shape, rows: float, length: float, b: int, *, entropy: bool = False, head: bool = True) -> Work:
    """Return a forward pass over ``rows`` of ``length`` tokens, all of them scored.

    Args:
        shape: Of the model.
        rows: How many.
        length: Tokens of each.
        b: Bytes of a number of the passes.
        entropy: Whether entropies are computed too.
        head: Whether logits are computed.
    """
    tokens, h, q, k, i, V = rows * length, shape.hidden, shape.query, shape.key_value, shape.intermediate, 0
    adapters = shape.parameters - shape.base
    if head:
        V = shape.vocabulary
    weights = shape.layers * shape.layer + adapters + V * h
    layer = 2 * h * (4 * b + 28) + 6 * b * h + 10 * b * (q + k) + 2 * b * q + 5 * b * i
    if adapters:
        layer += 6 * b * (q + 2 * k + 2 * h + 2 * i)
    return Work(
        flop=tokens * (2 * weights + 2 * shape.layers * q * length),
        memory=tokens * (shape.layers * layer + V * (b + HEAD + (ENTROPY if entropy else 0))),
        kernels=shape.layers * LAYER_KERNELS + STEP_KERNELS,
    )


def backward(shape: Shape, rows: float, length: float, b: int) -> Work:
    """Return a backward pass; arguments as of :func:`forward`."""
    once = forward(shape, rows, length, b)
    if shape.trained == shape.parameters:
        return once * 2
    attention = rows * length * 2 * shape.layers * shape.query * length  # has two factors, both of which need gradients
    return replace(once * 2, flop=once.flop + attention + 2 * rows * length * shape.trained)


def decode_step(shape: Shape, rows: float, context: float, b: int) -> Work:
    """Return one token for each of ``rows``, with ``context`` tokens of keys and values each.

    ``rows / seconds`` of it is the engine's ceiling in tokens per second: sampling and scheduling are not in it.
    """
    return Work(
        flop=2 * shape.base * rows,
        memory=b * shape.base + kv_cache(shape, 1, b) * rows * context,
        kernels=shape.layers * LAYER_KERNELS + STEP_KERNELS,
        fused=True,
    )


def step_work(
    config: TrainConfig,
    shape: Shape,
    *,
    processes: int,
    dtype: str,
    divided: bool,
    prompt: float = 0,
    response: float | None = None,
    rows_at_once: int = ROWS,
    optimizer_leaves: bool = False,
) -> dict[str, Work]:
    """Return the work of one process in one step, by phase, as the run's metrics name them.

    Args:
        config: The run.
        shape: Of its model.
        processes: How many train together.
        dtype: Of the passes.
        divided: Whether the weights are sharded.
        prompt: Mean tokens of a prompt.
        response: Mean tokens of a response; None: every one as long as ``max_length`` lets it be.
        rows_at_once: Rows that the engine samples at a time.
        optimizer_leaves: Whether AdamW's moments go to the machine's memory before the rollout, and come back after it.
    """
    answer = config.max_length - prompt if response is None else response
    each = _Process(config, shape, processes if divided else 1, BYTES[dtype], prompt, answer, rows_at_once)
    G = config.samples_per_prompt
    rows = -(-config.prompts_per_step // processes) * G
    rounds = config.learner.dynamic_rounds if config.learner.learner.resamples else 1
    kept = not divided and rounds == 1 and rows * each.length <= graph_tokens(config, lambda: shape, dtype)
    # As llm/passes/policy.py has it; the padding of groups is not known here.
    wanted = config.one_pass == "always" or config.device != "cpu"
    at_once = not kept and wanted and config.may_learn_by_group and G * each.length <= config.tokens_per_microbatch
    moments = Work(host=config.optimizer.state_bytes * shape.trained / each.W if optimizer_leaves else 0.0)
    return {
        "rollout": each.rollout(rows) * rounds + moments,
        "logprobs": each.scoring(rows, policy=not at_once) * rounds,
        "update": each.update(rows, kept=kept, scores=at_once) + moments,
        "push": each.push(),
    }


def step_seconds(work: Mapping[str, Work], rates: Rates, *, ahead: bool = False) -> float:
    """Return the time of a step.

    Args:
        work: By phase, as :func:`step_work` returns it.
        rates: Of the one device that does all of it.
        ahead: Whether the rollout, the next step's, runs beside the phases before the push. These take at least as long
            as either alone, and as all their products, or all their bytes: a device has one rate for both.
    """
    alone = {name: each.seconds(rates) for name, each in work.items()}
    if not ahead:
        return sum(alone.values())
    beside = [name for name in work if name != "push"]
    shared = [sum(work[name].parts(rates)[kind] for name in beside) for kind in ("products", "memory", "host")]
    return overlapped(alone, least=max(shared))


def overlapped(seconds: Mapping[str, float], least: float = 0.0) -> float:
    """Return the time of a step whose rollout runs beside the other phases but the push, and the push after them.

    Args:
        seconds: Of each phase alone.
        least: Of rollout and others together.

    Example:
        >>> overlapped({"rollout": 3.0, "logprobs": 1.0, "update": 4.0, "push": 0.5})
        5.5
    """
    others = sum(each for name, each in seconds.items() if name not in ("rollout", "push"))
    return max(seconds["rollout"], others, least) + seconds.get("push", 0.0)


@dataclass(frozen=True)
class _Process:
    config: TrainConfig
    shape: Shape
    W: int
    b: int
    prompt: float
    response: float
    rows_at_once: int

    @property
    def length(self) -> float:
        return self.prompt + self.response

    def rollout(self, rows: int) -> Work:
        at_once = min(rows, self.rows_at_once)
        step = decode_step(self.shape, at_once, self.prompt + self.response / 2, self.b)
        if self.config.engine != "transformers":
            step = replace(step, kernels=0.0)  # vLLM replays a graph of them
        else:  # joins each step's keys to the cache: it is read and written again
            cache = kv_cache(self.shape, 1, self.b) * at_once * (self.prompt + self.response / 2)
            step += Work(memory=2 * cache + SAMPLER * at_once * self.shape.vocabulary)
        read = forward(self.shape, rows / self.config.samples_per_prompt, self.prompt, self.b, head=False)
        return step * (self.response * rows / at_once) + read + self._asleep()

    def scoring(self, rows: int, *, policy: bool) -> Work:
        """Return the passes before the update; ``policy``: that of the policy is one of them."""
        config = self.config
        one = self._passes(rows, forward(self.shape, rows, self.length, self.b))
        work = self._passes(rows, forward(self.shape, rows, self.length, self.b, entropy=True)) if policy else Work()
        if config.temperature != 1:
            work += one
        if config.objective.reference != "policy":
            often = 1 if config.objective.reads_reference else 1 / config.reference_every
            work += one * often
            if config.reference_offload and config.lora is None:
                work += Work(host=self.b * self.shape.base / self.W) * often
        return work

    def _optimizer(self, forward: Work) -> Work:
        """Return the optimizer's step, and a forward pass where it is measured."""
        settings = self.config.optimizer
        bytes_each = ADAM if settings.kind == "adamw" else 32 if settings.momentum else 12
        step = Work(memory=bytes_each * self.shape.trained / self.W, kernels=12 * 9 * self.shape.layers)
        return step + forward + Work(memory=32 * self.shape.trained / self.W) if settings.measures else step

    def update(self, rows: int, *, kept: bool, scores: bool) -> Work:
        """Return all updates of a batch; scoring has ``kept`` the graph of the first, or the first ``scores`` too."""
        config, shape = self.config, self.shape
        own = (shape, rows, self.length, self.b)
        back, again = backward(*own), forward(*own)
        if config.gradient_checkpointing:
            back += forward(*own, head=False)
        count = self._microbatches(rows)
        back = replace(back, kernels=3 * count * again.kernels)
        optimizer = self._optimizer(self._passes(rows, again))
        reduced = self._reduced() * count + self._gathered() * count
        first = back + reduced + optimizer
        if not kept:
            first += self._passes(rows, forward(*own, entropy=scores))
        later = back + reduced + optimizer + self._passes(rows, again)
        if config.learner.learner.follows_policy:
            later += self._passes(rows, again)
        return first + later * (config.learner.epochs - 1)

    def push(self) -> Work:
        apart = self.W > 1 or self.config.lora is not None or self.config.sample_ahead > 0
        if self.config.engine == "transformers" and not apart:
            return Work()  # the engine reads the policy's own weights
        return Work(memory=2 * self.b * self.shape.base) + self._asleep()

    def _asleep(self) -> Work:
        config = self.config
        moves = config.engine_sleep and config.engine != "transformers" and not config.sample_ahead
        return Work(host=self.b * self.shape.base / self.config.tensor_parallel) if moves else Work()

    def _microbatches(self, rows: int) -> int:
        each = max(1, int(self.config.tokens_per_microbatch // self.length))
        return -(-rows // each)

    def _passes(self, rows: int, work: Work) -> Work:
        count = self._microbatches(rows)
        return replace(work, kernels=work.kernels * count) + self._gathered() * count

    def _gathered(self) -> Work:
        if self.b == 4 and self.W == 1:
            return Work()
        N, W = self.shape.base, self.W
        return Work(memory=4 * N / W + self.b * N, network=self.b * N * (W - 1) / W)

    def _reduced(self) -> Work:
        if self.b == 4 and self.W == 1:
            return Work()
        N, W = self.shape.trained, self.W
        return Work(memory=(self.b + 20) * N, network=4 * N * (W - 1) / W)
