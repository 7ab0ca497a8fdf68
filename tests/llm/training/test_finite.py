"""NaN is said as such, where it arises, with what to lower; a run never keeps it, and earlier checkpoints stay."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from sharpen.llm.configs.train import resolve
from sharpen.llm.models.finite import NonFiniteError, non_finite, require_finite
from sharpen.llm.models.logprobs import token_logprobs
from sharpen.llm.models.registry import load_model
from sharpen.llm.models.registry import resolve as find
from sharpen.llm.rollout import Sampling, make_engine
from sharpen.llm.samplers.requests import Next
from sharpen.llm.sampling.language_model import LanguageModel
from sharpen.llm.training.run import Report, train
from sharpen.objective import PRESETS

SMALL: dict[str, Any] = {
    "objective": PRESETS["tilted"].to_dict(),
    "steps": 4,
    "problems": 64,
    "prompts_per_step": 2,
    "max_length": 32,
    "samples_per_prompt": 2,
    "checkpoint_every": 2,
    "engine": "transformers",
    "optimizer": {"learning_rate": 1e-3, "warmup_steps": 0},
    "evaluation": {"problems": 1, "samples": 1, "alpha_prompts": 0},
}
NAN = float("nan")


def broken_model(value: float = NAN) -> Any:
    """The embedded model with a final norm that makes every logit NaN."""
    model: Any = load_model(find("embedded"), "cpu", "float32")
    with torch.no_grad():
        model.model.norm.weight.fill_(value)
    return model


@pytest.mark.parametrize("sampling", [Sampling(4), Sampling(4, temperature=0.0), Sampling(4, top_p=0.5)])
@pytest.mark.parametrize("value", [NAN, float("inf"), 3e38])  # the last is finite, and the logits overflow
def test_sampling_says_that_the_logits_are_nan(sampling: Sampling, value: float) -> None:
    engine = make_engine("transformers", model=broken_model(value), location="", max_length=16, seed=0)
    with pytest.raises(NonFiniteError, match=r"^logits: got 'NaN or infinity at response token 1 of 4 of 4 rows'"):
        engine.generate([[5], [6, 7]], 2, sampling, 0)


def test_scoring_says_which_responses() -> None:
    rows = [[5, 6]] * 3
    with pytest.raises(NonFiniteError, match=r"^log-probabilities: .* in 3 of 3 responses under Qwen2ForCausalLM"):
        token_logprobs(broken_model(), rows, rows, micro_batch_tokens=8)


def test_search_says_it_too() -> None:
    model = broken_model()
    engine = make_engine("transformers", model=model, location="", max_length=16, seed=0)
    with pytest.raises(NonFiniteError, match=r"^logits: .* in 1 of 1 prefixes"):
        LanguageModel(engine, model).likeliest([Next((5, 6), 3)])


def test_rows_and_names() -> None:
    rows = torch.tensor([[1.0, 2.0], [NAN, 0.0], [0.0, -math.inf]])
    with pytest.raises(NonFiniteError, match="in 2 of 3 rows"):
        require_finite("x", rows, "rows")
    require_finite("x", rows[:1], "rows")
    require_finite("x", rows[:0], "rows")
    assert non_finite([("a", rows), ("b", rows[0]), ("c", torch.tensor([1]))]) == ["a"]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_sums_that_overflow_are_of_numbers_and_infinities_that_cancel_are_none(dtype: torch.dtype) -> None:
    largest, inf = torch.finfo(dtype).max, float("inf")
    tensors = {
        "large": [largest] * 9,
        "largest and least": [largest, largest, -largest, -largest],
        "both infinities": [1.0, inf, -inf],
        "one": [-inf, largest],
        "nan": [0.0, NAN],
        "none": [],
    }
    found = non_finite([(name, torch.tensor(values, dtype=dtype)) for name, values in tensors.items()])
    assert found == ["both infinities", "one", "nan"]


def spoil(monkeypatch: pytest.MonkeyPatch, step: int, where: Callable[[Any], None]) -> None:
    """Let ``where`` work on the trainer at the beginning of the update of one step (from 1)."""
    from sharpen.llm.training.trainer import Trainer

    update = Trainer._update

    def spoiled(self: Trainer, batch: Any) -> Any:
        if self.step_index + 1 == step:
            where(self)
        return update(self, batch)

    monkeypatch.setattr(Trainer, "_update", spoiled)


def checkpoints(out: Path) -> list[str]:
    return sorted(path.name for path in (out / "checkpoints").iterdir())


def nan_gradient(trainer: Any) -> None:
    trainer.model.model.norm.weight.register_hook(lambda gradient: gradient * NAN)


def nan_weight(trainer: Any) -> None:
    step = trainer.optimizer.step

    def stepped() -> None:
        step()
        with torch.no_grad():
            trainer.model.model.norm.weight[3] = NAN

    trainer.optimizer.step = stepped


def huge_weight(trainer: Any) -> None:
    step = trainer.optimizer.step

    def stepped() -> None:
        step()
        with torch.no_grad():
            trainer.model.model.norm.weight.fill_(3e38)

    trainer.optimizer.step = stepped


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("unbroken") / "run"
    train(resolve(SMALL), out)
    return out


@pytest.mark.parametrize(
    ("step", "where", "told"),
    [
        (3, nan_gradient, r"^gradient: got 'NaN or infinity in 1 tensor \(model\.norm\.weight\), step 3'"),
        (3, nan_weight, r"^logits: got 'NaN or infinity at response token 1 of 4 of 4 rows, step 4'"),
        (4, nan_weight, r"^weights: got 'NaN or infinity in 1 tensor \(.*norm\.weight\), step 4'"),
        (4, huge_weight, r"^log-probabilities: got 'NaN or infinity in 1 of 1 responses .*, step 4'"),
    ],
    ids=["gradient", "weights, seen when sampling", "weights, seen when saving", "overflow, seen when saving"],
)
def test_a_run_stops_and_keeps_what_was_good(
    step: int,
    where: Callable[[Any], None],
    told: str,
    unbroken: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    spoil(monkeypatch, step, where)
    done: list[int] = []
    with pytest.raises(NonFiniteError, match=told) as error:
        train(resolve(SMALL), tmp_path / "run", report=Report(step=lambda record: done.append(record["step"])))
    assert "lower optimizer.learning_rate (0.001)" in str(error.value)
    assert "optimizer.gradient_clip" in str(error.value)
    assert checkpoints(tmp_path / "run") == ["step_000002"]
    monkeypatch.undo()
    result = train(resolve(SMALL), tmp_path / "run")  # without the fault the same command goes on from there
    for name in ("last", "base"):
        assert result[name]["step"] == (4 if name == "last" else 0)
    first, second = (
        load_model(find(str(out / "checkpoints" / "last")), "cpu", "float32") for out in (tmp_path / "run", unbroken)
    )
    assert all(map(torch.equal, first.parameters(), second.parameters()))


def test_an_immense_learning_rate_ends_with_what_to_lower(tmp_path: Path) -> None:
    config = resolve({**SMALL, "optimizer": {"learning_rate": 1e30, "warmup_steps": 0}})
    with pytest.raises(
        NonFiniteError, match=r"step 2', allowed: finite numbers; lower optimizer\.learning_rate \(1e\+30\)"
    ):
        train(config, tmp_path / "run")
    assert not (tmp_path / "run" / "checkpoints").exists()
