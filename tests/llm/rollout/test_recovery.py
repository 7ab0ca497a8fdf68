"""An engine that dies in the middle of a run: the run goes on as if it had not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from sharpen.llm.configs.train import resolve
from sharpen.llm.distributed.world import World
from sharpen.llm.rollout import Rollout, Sampling, WeightSyncError
from sharpen.llm.rollout.recovery import EngineDiedError, ResilientEngine
from sharpen.llm.rollout.shared import SharedEngine
from sharpen.llm.rollout.transformers_engine import TransformersEngine
from sharpen.llm.training import metrics
from sharpen.llm.training.run import train
from sharpen.objective import InputError, preset

SMALL: dict[str, Any] = {
    "steps": 3,
    "prompts_per_step": 2,
    "max_length": 32,
    "samples_per_prompt": 4,
    "optimizer": {"learning_rate": 1e-3, "warmup_steps": 0},
    "evaluation": {"problems": 2, "samples": 2, "alpha_prompts": 2},
    "objective": preset("tempered").to_dict(),
}


def assert_same_run(a: Path, b: Path) -> None:
    first, second = (load_file(out / "checkpoints" / "last" / "model.safetensors") for out in (a, b))
    assert all(torch.equal(first[name], second[name]) for name in first)
    records = [metrics.read(out / "metrics.jsonl") for out in (a, b)]
    for x, y in zip(*records, strict=True):
        assert {k: v for k, v in x.items() if k != "seconds"} == {k: v for k, v in y.items() if k != "seconds"}
    assert json.loads((a / "evaluation.json").read_text()) == json.loads((b / "evaluation.json").read_text())


@pytest.mark.parametrize("changes", [{}, {"lora": {"rank": 2}}], ids=["plain", "lora"])
def test_a_run_survives_its_engine(
    changes: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, logged: list[str]
) -> None:
    config = resolve({**SMALL, "engine": "transformers", **changes})
    train(config, tmp_path / "whole")
    calls = 0
    generate = TransformersEngine.generate

    def mortal(self: TransformersEngine, *arguments: Any, **options: Any) -> Rollout:
        nonlocal calls
        calls += 1
        if calls in (2, 5):  # in the second step and in the evaluation
            raise RuntimeError("out of memory")
        return generate(self, *arguments, **options)

    monkeypatch.setattr(TransformersEngine, "generate", mortal)
    train(config, tmp_path / "survived")
    assert calls > 5
    assert sum("died (RuntimeError: out of memory)" in message for message in logged) == 2
    assert_same_run(tmp_path / "whole", tmp_path / "survived")


class Stub:
    """An engine that fails as told."""

    name = "stub"

    def __init__(self, errors: list[Exception]) -> None:
        self.errors = errors

    def generate(self, prompts: list[list[int]], samples: int, *_: Any, **__: Any) -> Rollout:
        if self.errors:
            raise self.errors.pop(0)
        rows = [prompt for prompt in prompts for _ in range(samples)]
        return Rollout(
            rows, [[prompt[0], place] for place, prompt in enumerate(rows)], [[0.0]] * len(rows), [True] * len(rows)
        )

    def push_weights(self, model: Any) -> None:
        """Nothing to push."""

    def sleep(self) -> None:
        """Nothing to free."""

    def close(self) -> None:
        """Nothing to close."""


@pytest.mark.parametrize(
    ("errors", "starts", "raised"),
    [
        ([RuntimeError("x")], 2, None),
        ([RuntimeError("x")] * 2, 3, None),
        ([RuntimeError("x")] * 3, 3, EngineDiedError),
        ([InputError("prompts", [], "some")], 1, InputError),
        ([WeightSyncError("stale")], 1, WeightSyncError),
    ],
)
def test_what_is_repeated_and_how_often(errors: list[Exception], starts: int, raised: type[Exception] | None) -> None:
    left, started = list(errors), []

    def start() -> Stub:
        started.append(1)
        return Stub(left)

    engine = ResilientEngine(start, World(), restarts=2)
    if raised is None:
        assert engine.generate([[1]], 2, Sampling(3), 0).response_ids == [[1, 0], [1, 1]]
    else:
        with pytest.raises(raised):
            engine.generate([[1]], 2, Sampling(3), 0)
    assert len(started) == starts


class FakeWorld(World):
    """A world whose other processes ask for these prompts."""

    others: tuple[Any, ...] = ()

    def gather(self, items: list[Any]) -> list[Any]:
        parts = list(self.others)
        parts.insert(self.rank, items[0])
        return parts


def test_a_shared_engine_gives_each_process_its_own_rows() -> None:
    """Ranks 2 and 3 of four share an engine; rank 3 asks for two prompts, rank 2 for one."""
    world = FakeWorld(rank=3, size=4)
    asked = [([[7]], [5], [1, 2]), ([[8]], [5], [3, 4]), ([[9]], [5], [5, 6])]
    object.__setattr__(world, "others", tuple(asked))
    engine = SharedEngine(Stub([]), world, 2)
    got = engine.generate([[4], [5]], 2, Sampling(3), 0)
    assert got.prompt_ids == [[4], [4], [5], [5]]
    assert [row[1] for row in got.response_ids] == [2, 3, 4, 5]  # after rank 2's two rows
    assert engine.generate([], 2, Sampling(3), 0).response_ids == []


@pytest.mark.vllm
@pytest.mark.slow
def test_a_vllm_engine_that_fails_inside_a_forward_pass_is_replaced(tmp_path: Path, logged: list[str]) -> None:
    from sharpen.llm.models.registry import resolve as resolve_model
    from sharpen.llm.training.setup import prepare

    config = resolve({**SMALL, "engine": "vllm"})
    setup = prepare(config, resolve_model("embedded"), World())
    engine: Any = setup.engine
    try:
        with torch.no_grad():
            next(setup.model.parameters()).mul_(1.01)  # the new engine has to get these weights, not the base model's
        engine.push_weights(setup.model)
        prompts = [[3, 4, 5], [6, 7]]
        whole = engine.generate(prompts, 3, Sampling(12), 1)
        calls = 0

        def die(*_: Any) -> None:
            nonlocal calls
            calls += 1
            if calls == 4:  # some tokens have been sampled
                raise RuntimeError("an illegal memory access was encountered")

        engine.inner._llm.apply_model(lambda module: module.register_forward_pre_hook(die))
        first = engine.inner
        again = engine.generate(prompts, 3, Sampling(12), 1)
        assert calls == 4
        assert engine.inner is not first
        assert again == whole
        assert any("illegal memory access" in message for message in logged)
    finally:
        engine.close()
