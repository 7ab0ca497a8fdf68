"""The step-time model against known ceilings, torch's counts of FLOP and bytes, and measured times."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoConfig, AutoModelForCausalLM

from sharpen.cli.main import main
from sharpen.llm.configs.train import TrainConfig, resolve
from sharpen.llm.distributed.memory import Shape, shape_of
from sharpen.llm.distributed.steptime import Rates, Work, backward, decode_step, forward, step_seconds, step_work
from sharpen.llm.models.registry import load_architecture
from sharpen.llm.models.registry import resolve as resolve_model
from sharpen.objective import preset

RESULTS = Path(__file__).parents[3] / "benchmarks" / "results" / "gpu"
H100, H200 = Rates(989e12, 3.35e12), Rates(989e12, 4.8e12)
SMALL = {
    "model_type": "qwen2",
    "hidden_size": 64,
    "intermediate_size": 344,
    "num_hidden_layers": 6,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 512,
    "tie_word_embeddings": True,
}


@pytest.fixture(scope="module")
def qwen() -> Shape:
    return shape_of(load_architecture(resolve_model("qwen2.5-3b")))


@pytest.mark.parametrize(
    ("rates", "rows", "ceiling"),
    [(H100, 256, 72e3), (H200, 256, 104e3), (H100, 1024, 119e3), (H200, 1024, 160e3)],
)
def test_the_ceiling_of_decoding(qwen: Shape, rates: Rates, rows: int, ceiling: float) -> None:
    assert rows / decode_step(qwen, rows, 600, 2).seconds(rates) == pytest.approx(ceiling, rel=0.01)


def test_what_bounds_decoding(qwen: Shape) -> None:
    assert decode_step(qwen, 1024, 600, 2).bound(H100) == "memory"
    assert decode_step(qwen, 1024, 600, 2).bound(H200) == "products"


def test_an_update_at_half_of_the_measured_rate(qwen: Shape) -> None:
    half = Rates(790e12, float("inf"), share=0.5)
    update = forward(qwen, 256, 2048, 2) + backward(qwen, 256, 2048, 2)
    assert update.seconds(half) == pytest.approx(25.8, abs=0.1)
    assert (update + forward(qwen, 256, 2048, 2) * 2).seconds(half) == pytest.approx(43, abs=0.2)


def case(measured: dict[str, Any]) -> tuple[TrainConfig, Shape]:
    rows, rank = measured["rows"], measured["lora_rank"]
    config = resolve(
        {
            "engine": "transformers",
            "objective": preset("sharpening").to_dict() | {"reference": "policy"},
            "prompts_per_step": rows // 8,
            "max_length": measured["length"],
            "tokens_per_microbatch": measured["tokens_per_microbatch"],
            "gradient_checkpointing": measured["activation_checkpointing"],
            "one_pass": "never",
            **({} if rank is None else {"lora": {"rank": rank}}),
        }
    )
    return config, shape_of(load_architecture(resolve_model("qwen2.5-3b")), config.lora)


@pytest.mark.parametrize("name", ["update", "h100/update", "plain", "lora"])
def test_phases_measured_on_gpus_are_predicted(name: str) -> None:
    """Within 20 %; the only fitted number, SHARE, was chosen with these times in sight."""
    measured = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))
    device = json.loads((RESULTS / name).with_name("device.json").read_text(encoding="utf-8"))
    rates = Rates(device["product_flop_per_second"], device["copy_bytes_per_second"])
    config, shape = case(measured)
    work = step_work(config, shape, processes=1, dtype="bfloat16", divided=True)
    assert work["update"].seconds(rates) == pytest.approx(measured["update_seconds"], rel=0.2)
    assert work["logprobs"].seconds(rates) == pytest.approx(measured["logprob_seconds"], rel=0.2)


def small() -> tuple[Any, Shape]:
    config = AutoConfig.for_model(**SMALL)
    return AutoModelForCausalLM.from_config(config, attn_implementation="eager"), shape_of(config)


@pytest.mark.parametrize("length", [16, 128])
def test_flop_are_those_that_torch_counts(length: int) -> None:
    model, shape = small()
    with FlopCounterMode(display=False) as counter:
        model(input_ids=torch.zeros(3, length, dtype=torch.long), use_cache=False).logits.sum().backward()
    whole = forward(shape, 3, length, 4) + backward(shape, 3, length, 4)
    # Eager attention multiplies the masked half too.
    masked = 3 * 3 * length * 2 * shape.layers * shape.query * length
    assert counter.get_total_flops() == pytest.approx(whole.flop + masked, rel=0.03)


class Traffic(TorchDispatchMode):
    """Counts the bytes that every kernel but the products reads and writes."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        views = any(hasattr(out, "data_ptr") and t.data_ptr() == out.data_ptr() for t in tensors(args))
        if not views and name not in ("mm", "addmm", "bmm", "embedding", "detach") and "attention" not in name:
            # What is broadcast, or stands still between calls, is read once.
            self.bytes += sum(min(t.untyped_storage().nbytes(), t.nbytes) for t in tensors((args, out)))
        return out


def tensors(tree: Any) -> list[torch.Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, torch.Tensor)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_bytes_beside_the_products_are_those_that_torch_moves(dtype: torch.dtype) -> None:
    shape = small()[1]
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**SMALL), attn_implementation="sdpa", dtype=dtype)
    with torch.no_grad(), Traffic() as seen:
        model.model(input_ids=torch.zeros(4, 64, dtype=torch.long), use_cache=False)
    counted = forward(shape, 4, 64, dtype.itemsize, head=False).memory
    assert seen.bytes == pytest.approx(counted, rel=0.15)


def test_what_a_flag_costs(qwen: Shape) -> None:
    base: dict[str, Any] = {"objective": preset("tempered").to_dict(), "max_length": 1024, "prompts_per_step": 8}
    base |= {"tokens_per_microbatch": 16384, "one_pass": "never"}
    rates = replace(H100, network=50e9, host=50e9)

    def seconds(processes: int = 1, shape: Shape = qwen, **changes: Any) -> dict[str, float]:
        work = step_work(resolve(base | changes), shape, processes=processes, dtype="bfloat16", divided=True)
        return {phase: found.seconds(rates) for phase, found in work.items()}

    plain = seconds()
    again = seconds(gradient_checkpointing=True)
    assert 1.1 < again["update"] / plain["update"] < 4 / 3  # one forward pass in three more, the head apart
    assert seconds(engine_sleep=False)["push"] < plain["push"]
    alone = seconds(objective=preset("sharpening").to_dict() | {"reference": "policy"})
    assert alone["logprobs"] == pytest.approx(plain["logprobs"] / 2, rel=0.05)  # no pass of a reference
    at_once = seconds(one_pass="auto")
    assert at_once["logprobs"] == pytest.approx(plain["logprobs"] / 2, rel=0.05)  # the reference's
    assert at_once["update"] == pytest.approx(plain["update"], rel=0.05)  # entropies are all that is more
    too_long: dict[str, Any] = {"one_pass": "auto", "tokens_per_microbatch": 8 * 1024 - 1}
    twice: dict[str, Any] = too_long | {"one_pass": "never"}
    assert seconds(**too_long) == seconds(**twice)
    four = seconds(processes=4)
    assert four["update"] < plain["update"]
    assert four["rollout"] < plain["rollout"]
    leaves = step_work(resolve(base), qwen, processes=1, dtype="bfloat16", divided=True, optimizer_leaves=True)
    moved = 8 * qwen.trained / 50e9
    assert leaves["rollout"].parts(rates)["host"] == pytest.approx(moved + 2 * qwen.base / 50e9)
    short = step_work(resolve(base), qwen, processes=1, dtype="bfloat16", divided=True, prompt=100, response=200)
    assert short["update"].seconds(rates) < 0.5 * plain["update"]


def test_a_slow_network_is_what_bounds_the_update(qwen: Shape) -> None:
    config = resolve({"objective": preset("tempered").to_dict(), "max_length": 256, "prompts_per_step": 64})
    work = step_work(config, qwen, processes=64, dtype="bfloat16", divided=True)["update"]
    assert work.bound(replace(H100, network=1e9)) == "network"
    assert work.bound(replace(H100, network=1e15)) != "network"


def test_work_adds_up() -> None:
    rates = Rates(10.0, 5.0, host=1.0, share=0.5)
    assert Work(flop=10, memory=10).seconds(rates) == 2 + 2  # products at half their rate, then bytes
    assert Work(flop=10, memory=10, fused=True).seconds(rates) == 2  # bytes read inside the products
    assert Work(flop=10, memory=10, host=9).seconds(rates) == 2 + 2 + 9
    assert Work(flop=10, memory=10, network=9).seconds(replace(rates, network=1.0)) == 9  # beside them
    assert (Work(flop=1, kernels=2) + Work(flop=1) * 3) == Work(flop=4, kernels=2)


def dry_run(capsys: pytest.CaptureFixture[str], *flags: str) -> str:
    with pytest.raises(SystemExit) as ended:
        main(["llm", "train", "--dry-run", *flags])
    assert ended.value.code == 0
    return capsys.readouterr().out


def test_the_dry_run_tells_times_of_the_card_that_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    run = ("--recipe", "qwen2.5-3b/tempered-2-0", "--processes", "4", "--gpu")
    found = {card: json.loads(dry_run(capsys, *run, card, "--json"))["times"] for card in ("h100", "h200")}
    rollout = {card: times["seconds"]["rollout"]["least"] for card, times in found.items()}
    assert rollout["h200"] < rollout["h100"]  # their bandwidths differ, their products do not
    assert found["h200"]["hours"]["least"] < found["h100"]["hours"]["least"]
    for times in found.values():
        assert times["hours"]["least"] < times["hours"]["expected"]
        assert times["seconds"]["update"]["bound_by"] == "products"
    text = dry_run(capsys, *run, "h100")
    assert "# seconds of a step on 4 x h100" in text
    update = next(line for line in text.splitlines() if line.startswith("#   update") and line.endswith("products"))
    assert float(update.split()[3]) == pytest.approx(found["h100"]["seconds"]["update"]["expected"], abs=0.01)


def test_a_plan_for_a_cpu_tells_no_times(capsys: pytest.CaptureFixture[str]) -> None:
    assert json.loads(dry_run(capsys, "--device", "cpu", "--json"))["times"] is None


def test_the_dry_run_of_a_run_that_samples_ahead(capsys: pytest.CaptureFixture[str]) -> None:
    """Its engine samples during the update, so it sleeps never; a step takes what the longer of the two takes."""
    run = ("--recipe", "qwen2.5-3b/task-reward-0-1", "--processes", "8", "--gpu", "h200")
    apart, ahead = (json.loads(dry_run(capsys, *run, *more, "--json")) for more in ((), ("--set", "sample_ahead=1")))
    memory = ahead["memory"]
    assert (apart["memory"]["engine_sleeps"], memory["engine_sleeps"]) == (True, False)
    engine = memory["engine_weights"] + memory["kv_cache"] + memory["engine_work"]
    assert memory["update"] == apart["memory"]["update"] + engine
    phases = {name: each["expected"] for name, each in ahead["times"]["seconds"].items()}
    longer = max(phases["rollout"], phases["logprobs"] + phases["update"]) + phases["push"]
    text = dry_run(capsys, *run, "--set", "sample_ahead=1")
    step = next(float(line.split()[3]) for line in text.splitlines() if line.startswith("#   step "))
    assert longer - 0.01 <= step < phases["rollout"] + phases["logprobs"] + phases["update"] + phases["push"]
    assert "max(rollout, logprobs + update) + push" in text


def test_what_runs_beside_shares_one_device() -> None:
    rates = Rates(products=2.0, memory=1.0, share=1.0)
    decoding, passes = Work(flop=2.0, memory=6.0, fused=True), Work(flop=10.0, memory=2.0)
    work = {"rollout": decoding, "update": passes, "push": Work(memory=0.5)}
    assert [work[name].seconds(rates) for name in work] == [6.0, 7.0, 0.5]
    assert step_seconds(work, rates) == 13.5
    assert step_seconds(work, rates, ahead=True) == 8.0 + 0.5  # bytes of both, 8, take longer than either
