"""The paper's models with all their layers on one of eight ranks that do not exist; see ``test_fake_ranks.py``."""

from __future__ import annotations

import pytest

from tests.llm.distributed.fake_step import architecture, step
from tests.llm.distributed.test_fake_ranks import PAPERS, TOKENS, assert_promised, planned


@pytest.mark.parametrize("model", PAPERS)
def test_at_full_depth_a_step_takes_the_bytes_that_the_dry_run_promises(model: str) -> None:
    config = architecture(model)
    found = step(config, world=8, rank=7, length=2048, tokens=TOKENS)
    assert_promised(found, planned(model, config, world=8, length=2048, lora=None))
    layers = config.num_hidden_layers
    assert sum(kind == "_reduce_scatter_base_" for kind, _ in found.sent) == layers + 1
    assert sum(kind == "_allgather_base_" for kind, _ in found.sent) == 2 * (layers + 1)
