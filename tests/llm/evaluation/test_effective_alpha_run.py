"""The effective alpha of a finished run where it is known: logits times a are p^a for responses of one token."""

from __future__ import annotations

import pytest
import torch

from sharpen.llm.distributed.world import World
from sharpen.llm.evaluation.effective import measure
from sharpen.llm.models.registry import load_model, load_tokenizer, resolve
from sharpen.llm.rollout import Sampling, make_engine
from sharpen.llm.tasks.templates import encode


@pytest.mark.parametrize("alpha", [0.5, 2.0])
def test_a_policy_that_is_p_to_the_alpha_has_slope_alpha_on_both_samples(alpha: float) -> None:
    source = resolve("embedded")
    base, policy = (load_model(source, "cpu", "float32").eval() for _ in range(2))
    with torch.no_grad():
        policy.get_parameter("model.norm.weight").mul_(alpha)
    engine = make_engine("transformers", model=policy, location=source.location, max_length=80, seed=0)
    tokenizer = load_tokenizer(source)
    prompts = [encode(tokenizer, f"{a}+{b}+{a + b}=?", source.template) for a, b in ((12, 31), (45, 20), (33, 18))]
    options = {"micro_batch_tokens": 1000, "world": World()}
    found = measure(engine, policy, base, prompts, Sampling(1), 3, **options)  # type: ignore[arg-type]
    for name in ("policy", "base"):
        assert found[name]["slope"] == pytest.approx(alpha, abs=1e-4)
        assert found[name]["low"] <= found[name]["slope"] <= found[name]["high"]
        assert found[name]["fixed_length"]["slope"] == pytest.approx(alpha, abs=1e-4)
    # Longer responses: token by token is not p^alpha of the sequence, so the slope is another.
    longer = measure(engine, policy, base, prompts, Sampling(40), 3, **options)  # type: ignore[arg-type]
    assert abs(longer["base"]["slope"] - alpha) > 0.01
