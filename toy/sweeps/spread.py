"""Batches of a sweep on a Ray cluster."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from sharpen.toy.sweeps.batches import Batch, compute
from sharpen.toy.sweeps.config import SweepConfig


def computed_on_ray(config: SweepConfig, missing: list[Batch], ray: Any) -> Iterator[tuple[Batch, pa.Table]]:
    """Yield the batches with their rows, in the order in which the cluster finishes them.

    Args:
        config: The sweep.
        missing: The batches to compute.
        ray: The module, connected to the cluster.
    """
    remote = ray.remote(num_cpus=1)(compute)
    waiting = {remote.remote(config, batch): batch for batch in missing}
    while waiting:
        (finished, *_), _ = ray.wait(list(waiting), num_returns=1)
        yield waiting.pop(finished), ray.get(finished)
