"""Batches of a sweep on a Ray cluster."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa

from sharpen.objective.cluster import connect
from sharpen.toy.batches import Batch, compute
from sharpen.toy.sweep_config import SweepConfig


def computed_on_ray(config: SweepConfig, missing: list[Batch], address: str) -> Iterator[tuple[Batch, pa.Table]]:
    """Yield the batches with their rows, in the order in which the cluster finishes them.

    Args:
        config: The sweep.
        missing: The batches to compute.
        address: Of the cluster; ``local`` starts one on this machine.

    Raises:
        InputError: Ray is not installed, or there is no cluster at the address.
    """
    ray = connect(address)
    try:
        remote = ray.remote(num_cpus=1)(compute)
        waiting = {remote.remote(config, batch): batch for batch in missing}
        while waiting:
            (finished, *_), _ = ray.wait(list(waiting), num_returns=1)
            yield waiting.pop(finished), ray.get(finished)
    finally:
        ray.shutdown()
