"""Parts of benchmarks/gpu_check.py: the card's own rates, the trainer at the 3B shape, log-probabilities, kernels."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sharpen.llm.configs.train import TrainConfig

SHAPE = "qwen2.5-3b"


def device_part(tiny: bool) -> dict[str, Any]:
    """The card's own ceilings: a large bf16 product, and a copy (bytes read and written)."""
    import torch

    device, n, times = ("cpu", 256, 2) if tiny else ("cuda", 8192, 10)
    a, b = (torch.randn(n, n, device=device, dtype=torch.bfloat16) for _ in range(2))
    source = torch.randn(2**20 if tiny else 2**30, device=device)
    target = torch.empty_like(source)
    product = seconds_of(lambda: torch.mm(a, b), device, times)
    copy = seconds_of(lambda: target.copy_(source), device, times)
    return {
        "name": torch.cuda.get_device_name() if device == "cuda" else "cpu",
        "memory_gib": torch.cuda.mem_get_info()[1] / 2**30 if device == "cuda" else None,
        "product_flop_per_second": 2 * n**3 / product,
        "copy_bytes_per_second": 2 * source.nbytes / copy,
    }


def seconds_of(work: Callable[[], Any], device: str, times: int) -> float:
    """Return the mean time of one call among ``times``, after three that do not count."""
    import torch

    def wait() -> None:
        if device == "cuda":
            torch.cuda.synchronize()

    for _ in range(3):
        work()
    wait()
    start = time.perf_counter()
    for _ in range(times):
        work()
    wait()
    return (time.perf_counter() - start) / times


def agreement_part(tiny: bool) -> dict[str, Any]:
    """Log-probabilities of the embedded model: policy, reference and fallback engine on the device, float64 on the CPU.

    The reference has to equal the policy to the last bit; engine and float64 tell the size of rounding.
    """
    import torch

    from sharpen.llm.models.logprobs import token_logprobs
    from sharpen.llm.models.registry import load_model, load_tokenizer, resolve
    from sharpen.llm.rollout import Sampling
    from sharpen.llm.rollout.transformers_engine import TransformersEngine
    from sharpen.llm.tasks.templates import encode
    from sharpen.llm.training.reference import make_reference
    from sharpen.objective import Objective

    device, source = "cpu" if tiny else "cuda", resolve("embedded")
    tokenizer: Any = load_tokenizer(source)
    prompts = [encode(tokenizer, f"{a}+{a}+{a}=", "plain") for a in range(10, 14 if tiny else 74)]
    exact = load_model(source, "cpu", "float32").double()
    found: dict[str, Any] = {}
    for name in ("float32", "bfloat16"):
        model = load_model(source, device, name)
        engine = TransformersEngine(model, max_length=64, eos_ids=[tokenizer.eos_token_id])
        rollout = engine.generate(prompts, 8, Sampling(48), seed=0)
        options: dict[str, Any] = {"micro_batch_tokens": 8192}
        policy = token_logprobs(model, rollout.prompt_ids, rollout.response_ids, **options)
        reference = make_reference(Objective(alpha=2.0), model, dtype=getattr(torch, name))
        again = reference.logprobs(rollout, **options)
        truth = token_logprobs(exact, rollout.prompt_ids, rollout.response_ids, **options)
        sampled = torch.tensor([x for row in rollout.logprobs for x in row], dtype=torch.float64)
        mask = policy.mask_BT.cpu()
        scored, wanted = policy.logprobs_BT.cpu().double()[mask], truth.logprobs_BT[mask]
        assert torch.equal(policy.logprobs_BT, again), "the reference differs from the policy at step 0"
        found[name] = {
            "tokens": len(sampled),
            "reference_equals_policy": True,
            "engine_minus_trainer": spread(sampled - scored),
            "trainer_minus_float64": spread(scored - wanted),
        }
    return found


def spread(errors: Any) -> dict[str, float]:
    """Return mean, standard deviation, 99.9 % quantile of the size and largest size of errors, in nats a token."""
    sizes = errors.abs()
    return {
        "mean": float(errors.mean()),
        "sd": float(errors.std()),
        "q999": float(sizes.quantile(0.999)),
        "largest": float(sizes.max()),
    }


def attention_part(tiny: bool) -> dict[str, Any]:
    """Seconds of the embedded model's rollouts with cuDNN's attention allowed and without, and in a thread of its own.

    Every rollout of the first kind has lengths, and so shapes, of its own; those of the second are repeated. What cuDNN
    compiles for a shape is kept in the thread that asked for it.
    """
    from concurrent.futures import ThreadPoolExecutor

    import torch

    from sharpen.llm.models.registry import load_model, load_tokenizer, resolve
    from sharpen.llm.rollout import Sampling
    from sharpen.llm.rollout.transformers_engine import TransformersEngine
    from sharpen.llm.tasks.templates import encode

    device, source = "cpu" if tiny else "cuda", resolve("embedded")
    tokenizer: Any = load_tokenizer(source)
    prompts = [encode(tokenizer, f"{a}+{a}+{a}=", "plain") for a in range(10, 12 if tiny else 18)]
    found: dict[str, Any] = {}
    for allowed in (False, True):
        model = load_model(source, device, "float32" if tiny else "bfloat16")
        torch.backends.cuda.enable_cudnn_sdp(allowed)
        engine = TransformersEngine(model, max_length=40, eos_ids=[tokenizer.eos_token_id])

        def seconds(seed: int, engine: TransformersEngine = engine, *, whole: bool) -> float:
            start = time.perf_counter()
            engine.generate(prompts, 8, Sampling(32, ignore_eos=whole), seed=seed)  # ends with numbers on the CPU
            return time.perf_counter() - start

        for whole in (False, True):
            times = [seconds(seed, whole=whole) for seed in range(1 if tiny else 6)]
            with ThreadPoolExecutor(1) as thread:
                apart = [thread.submit(seconds, seed, whole=whole).result() for seed in range(6, 7 if tiny else 9)]
            name = f"{'cudnn' if allowed else 'others'}, {'one length' if whole else 'lengths of its own'}"
            found[name] = {"seconds": times, "seconds_in_a_new_thread": apart}
    return found


def update_part(tiny: bool) -> dict[str, Any]:
    """Half of the paper's batch, 128 x 2048 tokens, at the 3B shape: full weights with activation checkpointing."""
    return update(tiny, rows=128, steps=2)


def plain_part(tiny: bool) -> dict[str, Any]:
    """The same without activation checkpointing, 32 rows, two to a micro-batch."""
    return update(tiny, rows=32, microbatch=4096, checkpointing=False, steps=2)


def lora_part(tiny: bool) -> dict[str, Any]:
    """The same with adapters of rank 16, 32 rows."""
    return update(tiny, rows=32, lora=16, steps=2)


def one_pass_part(tiny: bool) -> dict[str, Any]:
    """64 rows scored first and then learned from, and both in one pass: the step's seconds beside the model's."""
    import gc

    import torch

    found: dict[str, Any] = {}
    for way in ("never", "always"):
        own = update(tiny, rows=64, steps=2, one_pass=way)
        kept = ("one_pass", "logprob_seconds", "update_seconds", "peak_memory_gib")
        found[way] = {name: own[name] for name in (*kept, "planned_memory_gib")}
        found[way]["seconds"] = own["logprob_seconds"] + own["update_seconds"]
        found[way]["predicted_seconds"] = own["predicted_logprob_seconds"] + own["predicted_update_seconds"]
        gc.collect()
        torch.cuda.empty_cache()
    return found


def update(tiny: bool, rows: int, microbatch: int = 16384, *, steps: int, **options: Any) -> dict[str, Any]:
    import torch
    from llm_gpu import TINY, step_settings
    from llm_gpu import update as measured

    from sharpen.llm.models.registry import REGISTRY

    fields: dict[str, Any] = dict(REGISTRY[SHAPE].architecture)
    device = "cpu" if tiny else "cuda"
    config = step_settings(*((16, 64, 512) if tiny else (rows, 2048, microbatch)), **options)
    fields |= TINY if tiny else {}
    rates = device_part(tiny)  # of this card, at this time
    if not tiny:
        torch.cuda.empty_cache()
    found = measured(fields, device, config, steps=steps)
    return found | against_the_plan(found, fields, rates, config)


def against_the_plan(
    found: dict[str, Any], fields: dict[str, Any], rates: dict[str, Any], config: TrainConfig
) -> dict[str, Any]:
    """Return what ``--dry-run``'s formulas say of a measured update: memory, and time at the card's own rates."""
    from llm_gpu import flop_of_update
    from transformers import AutoConfig

    from sharpen.llm.distributed.memory import estimate, shape_of
    from sharpen.llm.distributed.steptime import Rates, step_work

    architecture = AutoConfig.for_model(**fields)
    shape = shape_of(architecture, config.lora)
    run: dict[str, Any] = {"processes": 1, "dtype": "bfloat16", "divided": True}
    card = Rates(rates["product_flop_per_second"], rates["copy_bytes_per_second"])
    work = step_work(config, shape, **run)
    flop = flop_of_update(architecture, shape.base, found["rows"], found["length"])
    return {
        "rates": rates,
        "predicted_update_seconds": work["update"].seconds(card),
        "predicted_logprob_seconds": work["logprobs"].seconds(card),
        "update_is_bound_by": work["update"].bound(card),
        "share_of_the_cards_product": flop / found["update_seconds"] / rates["product_flop_per_second"],
        "planned_memory_gib": estimate(config, shape, device="cuda", **run).update / 2**30,
    }


def kernels_part(tiny: bool) -> dict[str, Any]:
    """Where the time of a micro-batch goes at the 3B shape in bf16: kernels by their share, forward and backward."""
    import torch
    from llm_gpu import TINY
    from torch.profiler import ProfilerActivity, profile
    from transformers import AutoConfig, AutoModelForCausalLM

    from sharpen.llm.models.logprobs import make_batches, response_logprobs
    from sharpen.llm.models.registry import REGISTRY

    device, rows, length = ("cpu", 2, 64) if tiny else ("cuda", 4, 2048)
    fields: dict[str, Any] = dict(REGISTRY[SHAPE].architecture) | (TINY if tiny else {"num_hidden_layers": 12})
    with torch.device(device):
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**fields), dtype=torch.bfloat16)
    tokens = torch.randint(0, fields["vocab_size"], (rows, length)).tolist()
    pairs = [row[:8] for row in tokens], [row[8:] for row in tokens]
    (batch,) = make_batches(*pairs, micro_batch_tokens=rows * length, device=device)

    def work() -> None:
        response_logprobs(model, batch, with_entropy=True).logprobs_BT.sum().backward()

    work()
    activities = [ProfilerActivity.CPU] + ([] if tiny else [ProfilerActivity.CUDA])
    with profile(activities=activities) as found:
        work()
        if not tiny:
            torch.cuda.synchronize()
    events = found.key_averages()
    time_of: Callable[[Any], float] = lambda e: e.self_cpu_time_total if tiny else e.self_device_time_total  # noqa: E731
    kernels = [e for e in events if tiny or e.device_type.name == "CUDA"]
    total = sum(map(time_of, kernels))
    largest = sorted(kernels, key=time_of, reverse=True)[:25]
    return {
        "microseconds": total,
        "attention": model.config._attn_implementation,
        "kernels": [{"name": e.key[:100], "calls": e.count, "share": time_of(e) / total} for e in largest],
    }


def logprobs_part(tiny: bool) -> dict[str, Any]:
    """Chunked log-probabilities beside those with all logits at once: time and peak memory."""
    from llm_gpu import TINY, logprob_passes

    from sharpen.llm.models.registry import REGISTRY

    fields: dict[str, Any] = dict(REGISTRY[SHAPE].architecture)
    return logprob_passes(fields | TINY, "cpu", 2, 64) if tiny else logprob_passes(fields, "cuda", 8, 2048)
