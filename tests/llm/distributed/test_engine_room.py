"""What vLLM gets of a GPU is what the plan prints, fits there, and a run that does not fit is refused by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sharpen.cli.main import main
from sharpen.llm.configs.train import TrainConfig, resolve
from sharpen.llm.distributed.cards import CARDS, card
from sharpen.llm.distributed.engine_room import MOST_ROWS, RESERVE, engine_room
from sharpen.llm.distributed.fit import too_large
from sharpen.llm.distributed.memory import rows_beside
from sharpen.llm.distributed.plan import plan
from sharpen.llm.distributed.world import World
from sharpen.llm.models.registry import resolve as find
from sharpen.llm.training import setup as preparing
from sharpen.llm.training.offload import Away, RoomyEngine
from sharpen.llm.training.run import train
from sharpen.llm.training.state import load_optimizer_state, optimizer_state
from sharpen.objective import InputError, preset

PAPERS = ["qwen2.5-3b", "llama-3.2-3b", "qwen3-4b"]
sizes = st.integers(1, 10**6)


def settings(model: str = "qwen2.5-3b", **changes: Any) -> TrainConfig:
    return resolve({"model": model, "device": "cuda", "objective": preset("tempered").to_dict(), **changes})


@given(sizes, sizes, st.integers(-(10**9), 10**9), st.integers(0, 10**9), st.integers(0, 10**9))
def test_an_engine_never_gets_more_than_there_is(rows: int, row: int, room: int, movable: int, most: int) -> None:
    found = engine_room(rows=rows, row=row, vocabulary=100, read=1, room=room, movable=movable, most=most)
    assert 0 <= found.rows <= min(rows, MOST_ROWS)
    assert found.kv_cache == found.rows * row
    if found.rows:
        assert found.kv_cache + found.work <= min(most, room + (movable if found.offload else 0))
    more = engine_room(rows=rows, row=row, vocabulary=100, read=1, room=room + 1000, movable=movable, most=most)
    assert more.rows >= found.rows


@pytest.mark.parametrize("model", PAPERS)
@pytest.mark.parametrize("gpu", ["h100", "h200", "b200"])
@pytest.mark.parametrize("length", [2048, 8192])
def test_a_run_that_is_not_refused_fits_at_every_moment(model: str, gpu: str, length: int) -> None:
    planned = plan(settings(model, max_length=length, tokens_per_microbatch=16384), gpu=gpu)
    held, room = planned.memory, card(gpu).memory - RESERVE
    fits = max(held.update, held.rollout) <= room and held.engine_rows > 0
    assert fits == (too_large(planned) is None)
    assert held.engine_weights + held.kv_cache + held.engine_work <= 0.6 * card(gpu).memory


def test_the_user_s_command_fits_one_h100_where_60_percent_of_it_did_not() -> None:
    """The finding of 2026: parameters, optimizer and reference stay while vLLM took 60 % of the card back."""
    held = plan(settings(), gpu="h100").memory
    stays = held.parameters + held.optimizer + held.reference
    assert stays + int(0.6 * card("h100").memory) > card("h100").memory  # what was
    assert held.rollout <= card("h100").memory - RESERVE
    assert not held.optimizer_leaves
    assert held.engine_rows == 256
    long = plan(settings(max_length=8192), gpu="h100").memory
    assert long.optimizer_leaves
    assert long.rollout == held.parameters + held.reference + long.engine_weights + long.kv_cache + long.engine_work


def test_a_refusal_names_the_term_and_flags_that_are_enough() -> None:
    refused = too_large(plan(settings("qwen3-4b"), gpu="h100"))
    assert refused is not None
    assert "optimizer 30.0" in refused.allowed
    assert refused.allowed.endswith("it fits with --reference-offload")
    assert too_large(plan(settings("qwen3-4b", reference_offload=True), gpu="h100")) is None
    small = too_large(plan(settings(), gpu="4090"))
    assert small is not None
    assert "--lora-rank 16" in small.allowed
    assert too_large(plan(settings(lora={"rank": 16}), gpu="4090")) is None
    graph = settings(gradient_checkpointing=False, tokens_per_microbatch=65536)
    whole = too_large(plan(graph, gpu="h100"))
    assert whole is not None
    assert "the largest is activations" in whole.allowed
    assert "--activation-checkpointing" in whole.allowed


def test_without_a_gpu_none_is_looked_at() -> None:
    assert too_large(plan(settings("embedded", device="cpu"))) is None
    with pytest.raises(InputError, match=r"gpu: got 'h100', allowed: without --device cpu"):
        plan(settings("embedded", device="cpu"), gpu="h100")
    with pytest.raises(InputError, match=r"gpu: got 'abacus', allowed: b200, h200, h100"):
        plan(settings(), gpu="abacus")


@pytest.mark.skipif(torch.cuda.is_available(), reason="says what is assumed without a GPU")
def test_a_dry_run_says_which_gpu_it_assumes(capsys: pytest.CaptureFixture[str]) -> None:
    for flags, told in (([], "h100 (assumed; --gpu names another)"), (["--gpu", "A100"], "79.100   a100,")):
        with pytest.raises(SystemExit):
            main(["llm", "train", "--model", "qwen2.5-3b", "--dry-run", *flags])
        assert told in capsys.readouterr().out
    with pytest.raises(SystemExit) as refused:
        main(["llm", "train", "--gpu", "h100"])
    assert refused.value.code == 2
    assert "with --dry-run only" in capsys.readouterr().err


def test_a_run_gives_vllm_what_the_plan_prints(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sharpen.llm.preflight.machine.memory", lambda _device: CARDS["h100"].memory)
    monkeypatch.setattr("sharpen.llm.rollout.vllm_available", lambda: True)
    config, source = settings(), find("qwen2.5-3b")
    given_ = preparing._planned(config, source, World(), "cuda", "bfloat16", divided=True)
    assert given_ == plan(config, gpu="h100").memory
    seen: dict[str, Any] = {}

    def record(*_: Any, **options: Any) -> str:
        seen.update(options)
        return "engine"

    monkeypatch.setattr("sharpen.llm.rollout.make_engine", record)
    assert preparing._engine(config, source, None, None, "bfloat16", World(), given_) == "engine"
    assert (seen["rows"], seen["cache_bytes"]) == (256, 18 * 2**30)


def test_sampling_alone_takes_as_many_rows_as_its_share_holds() -> None:
    shape = plan(settings(), gpu="h100").shape
    few, many = (rows_beside(shape, 2048, 2, share * 2**30) for share in (12, 24))
    assert 1 < few < many <= MOST_ROWS
    assert few * 36864 * 2048 + 2 * shape.base < 12 * 2**30  # 36 layers x 2 heads of 128, keys and values, two bytes


def stepped() -> tuple[torch.nn.Linear, torch.optim.AdamW]:
    torch.manual_seed(0)
    model = torch.nn.Linear(5, 3)
    return model, torch.optim.AdamW(model.parameters(), lr=0.1)


def step(model: torch.nn.Linear, optimizer: torch.optim.AdamW, scale: float) -> None:
    model(torch.full((2, 5), scale)).square().sum().backward()
    optimizer.step()
    optimizer.zero_grad()


def moments(optimizer: torch.optim.AdamW) -> list[torch.Tensor]:
    return [entry for state in optimizer.state.values() for entry in state.values() if entry.numel() > 1]


def test_an_optimizer_that_leaves_and_returns_makes_the_same_steps() -> None:
    (still, its), (moves, own) = stepped(), stepped()
    away = Away(own)
    for scale in (0.1, 0.7, 0.3):
        away.leave()
        assert all(tensor.untyped_storage().nbytes() == 0 for tensor in moments(own))
        step(still, its, scale)
        step(moves, own, scale)
    away.leave()
    away.leave()  # once more does nothing
    assert all(map(torch.equal, still.parameters(), moves.parameters()))
    stored = optimizer_state(own, moves, keep=True)  # a checkpoint between steps
    assert all(tensor.untyped_storage().nbytes() == 0 for tensor in moments(own))
    expected = optimizer_state(its, still, keep=True)
    assert stored.keys() == expected.keys()
    assert all(torch.equal(stored[name], expected[name]) for name in stored)
    load_optimizer_state(own, moves, expected, "here")
    away.leave()
    step(still, its, 0.2)
    step(moves, own, 0.2)
    assert all(map(torch.equal, still.parameters(), moves.parameters()))


class Empty:
    name = "empty"

    def __init__(self, optimizer: torch.optim.AdamW) -> None:
        self.optimizer, self.seen = optimizer, []  # type: ignore[var-annotated]

    def generate(self, *_: Any, **__: Any) -> str:
        self.seen.append(sum(tensor.untyped_storage().nbytes() for tensor in moments(self.optimizer)))
        return "rows"

    push_weights = generate

    def sleep(self) -> None: ...

    def close(self) -> None: ...


def test_the_moments_are_gone_whenever_the_engine_may_take_memory() -> None:
    model, optimizer = stepped()
    engine = Empty(optimizer)
    roomy = RoomyEngine(engine, Away(optimizer))  # type: ignore[arg-type]
    step(model, optimizer, 0.5)
    assert roomy.generate([[1]], 1, None, 0) == "rows"  # type: ignore[arg-type, comparison-overlap]
    step(model, optimizer, 0.5)
    assert all(tensor.untyped_storage().nbytes() for tensor in moments(optimizer))
    roomy.push_weights(model)
    assert engine.seen == [0, 0]


def test_a_run_whose_optimizer_leaves_is_the_run_whose_optimizer_stays(tmp_path: Path) -> None:
    small = {"steps": 2, "prompts_per_step": 2, "samples_per_prompt": 2, "checkpoint_every": 1, "max_length": 32}
    evaluation = {"problems": 2, "samples": 2, "alpha_prompts": 0}
    weights = []
    for place in ("never", "always"):
        given_ = {"objective": preset("tempered").to_dict(), "engine": "transformers", "evaluation": evaluation}
        config = resolve({**given_, **small, "optimizer_offload": place, "device": "cpu", "shard": "always"})
        train(config, tmp_path / place)
        stored = sorted((tmp_path / place / "checkpoints").glob("*2/model.safetensors"))
        weights.append([file.read_bytes() for file in stored])
    assert len(weights[0]) == 1
    assert weights[0] == weights[1]
