"""Weights & Biases in its offline mode: what is in its log is what is in ``metrics.jsonl``."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sharpen.llm.configs.train import resolve
from sharpen.llm.training import metrics
from sharpen.llm.training.run import Report, train
from sharpen.objective import preset

pytest.importorskip("wandb", reason="an extra: pip install '.[wandb]'")
SETTINGS: dict[str, Any] = {
    "objective": preset("tempered").to_dict(),
    "prompts_per_step": 2,
    "max_length": 32,
    "samples_per_prompt": 2,
    "checkpoint_every": 1,
    "engine": "transformers",
    "evaluation": {"problems": 2, "samples": 2, "alpha_prompts": 0},
    "wandb": "sharpening",
}


class StopError(RuntimeError):
    pass


def messages(log: bytes) -> Iterator[bytes]:
    """Yield the messages of a log file: LevelDB's format after 7 bytes of the package's own.

    A message is a record, or several: a header (checksum 4 bytes, length 2, kind 1: whole, first, middle, last) before
    each part, none of which crosses a block of 32 KiB.
    """
    block, place, message = 32768, 7, b""
    while place + 7 <= len(log):
        if block - place % block < 7:  # no room for a header: padding
            place += block - place % block
            continue
        length, kind = struct.unpack_from("<HB", log, place + 4)
        part = log[place + 7 : place + 7 + length]
        message = part if kind in (1, 2) else message + part
        if kind in (1, 4):
            yield message
        place += 7 + length


def logged(out: Path) -> dict[int, dict[str, float]]:
    """Return what the offline logs of a run folder hold, by step."""
    from wandb.proto.wandb_internal_pb2 import Record  # type: ignore[import-not-found]  # an extra

    found: dict[int, dict[str, float]] = {}
    for file in sorted(out.glob("wandb/offline-run-*/*.wandb")):
        for message in messages(file.read_bytes()):
            record = Record()
            record.ParseFromString(message)
            items = {"/".join(item.nested_key) or item.key: json.loads(item.value_json) for item in record.history.item}
            if items:
                found[record.history.step.num] = items
    return found


def test_the_log_has_every_step_also_of_a_run_that_was_interrupted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    out = tmp_path / "run"

    def stop(record: dict[str, Any]) -> None:
        if record["step"] == 1:
            raise StopError

    config = resolve({**SETTINGS, "steps": 3})
    with pytest.raises(StopError):
        train(config, out, report=Report(step=stop))
    train(config, out)
    records = metrics.read(out / "metrics.jsonl")
    log = logged(out)
    assert sorted(log) == [record["step"] for record in records] == [0, 1, 2]
    for record in records:
        for name in ("kl_ref", "pseudo_reward", "entropy", "gradient_norm"):
            assert log[record["step"]][name] == pytest.approx(record[name], rel=1e-6)
    ids = {file.name for file in out.glob("wandb/offline-run-*/*.wandb")}
    assert ids == {f"run-{(out / 'wandb-id').read_text()}.wandb"}  # both parts belong to one page
