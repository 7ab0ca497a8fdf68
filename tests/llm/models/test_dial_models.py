"""The models of the dial: how they are made, found and measured."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from sharpen.figures.llm.dial import dial_table, plot_dial
from sharpen.llm.models import registry
from sharpen.llm.models.registry import DIAL, dial_path, resolve
from sharpen.llm.tasks.dial.kinds import KINDS
from sharpen.llm.tasks.dial.law import MEMBERS, STEP, Member
from sharpen.llm.tasks.dial.problems import problems
from sharpen.llm.tiny.dial import MEASURES, Table, law_tables, make, summary, tables
from sharpen.llm.tiny.pretrain import Settings
from sharpen.objective import InputError


def test_the_models_of_the_law_come_with_the_package_and_are_what_their_measures_say() -> None:
    """Each is measured again, on fewer problems: mass, pass@1 and the signs that the dial sets."""
    measured = json.loads((dial_path() / MEASURES).read_text(encoding="utf-8"))
    assert set(DIAL) == set(MEMBERS) == set(measured)
    for name in DIAL:
        told, member = measured[name], MEMBERS[name]
        assert told["member"] == asdict(member)
        assert told["seen"] > 0.95
        assert 0.35 < told["pass@1"] < 0.48
        assert abs(told["correlation"]) > 0.3 * abs(member.delta)
        assert np.sign(told["covariance"]) == np.sign(member.delta) or member.delta == 0.0
        source = resolve(name)
        assert (source.template, source.default_data) == ("plain", "dial")
        again = summary(list(tables(source.location, member, problems("test", told["problems"])[:2])), member)
        both = summary(list(law_tables(member, problems("test", 2))), member)
        assert again["seen"] > 0.9
        assert again["pass@1"] == pytest.approx(both["pass@1"], abs=0.15)


@pytest.mark.parametrize("name", ["dial+1", "dial-wrong-long"])
def test_the_summary_of_the_law_is_what_the_law_says(name: str) -> None:
    member = MEMBERS[name]
    found = summary(list(law_tables(member, problems("test", 16))), member)
    rate = sum(kind.share * kind.right for kind in KINDS.values()) / 16
    slope = sum(kind.share * kind.right * (1 - kind.right) for kind in KINDS.values()) / 16 * member.delta * STEP
    assert found["seen"] == pytest.approx(1.0)
    assert found["pass@1"] == pytest.approx(rate)
    assert found["covariance"] == pytest.approx(slope)
    assert found["expected_reward"] == pytest.approx(found["expected_reward_of_law"])
    step = 1e-5
    numeric = (member.expected_reward(1 + step) - member.expected_reward(1 - step)) / (2 * step)
    assert found["covariance"] == pytest.approx(numeric, rel=1e-5)  # T4
    with_length = (member.right_short < member.wrong_short) - (member.right_short > member.wrong_short)
    assert np.sign(round(found["length_correlation"], 9)) == with_length


def test_difficulty_and_correlation_by_hand() -> None:
    one = Table("easy", np.log([0.5, 0.25, 0.25]), np.array([True, False, False]), np.array([True] * 3), np.full(3, 10))
    other = one._replace(logprob_N=np.log([1e-9, 0.5, 0.5]))
    mixed = one._replace(length_N=np.array([10, 22, 22]))
    found = summary([one, other, mixed], Member(0.0))
    assert found["difficulty"] == {"0 of 256": 1, "below 1 %": 0, "1 to 10 %": 0, "10 to 60 %": 2, "above 60 %": 0}
    assert found["mode_accuracy"] == pytest.approx(2 / 3)
    assert found["correlation"] == pytest.approx(1.0, abs=1e-3)


def test_a_made_model_is_found_and_its_weights_are_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "dial_path", lambda: tmp_path / "dial")
    settings = Settings(hidden=32, layers=1, steps=3, batch=4, micro_batch=4, warmup=1)
    members = {"dial+1": MEMBERS["dial+1"]}
    found = make(members, tmp_path / "dial", settings)["dial+1"]
    assert make(members, tmp_path / "dial", settings)["dial+1"] == found
    source = resolve("dial+1")
    assert (source.template, source.default_data) == ("plain", "dial")
    weights = tmp_path / "dial" / "dial+1" / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(bytes(content))
    with pytest.raises(InputError, match=r"model: got 'dial\+1', allowed: its weights as they were made"):
        resolve("dial+1")


def test_the_table_and_the_figure_show_each_model(tmp_path: Path) -> None:
    measures = {}
    for name in ("dial-1", "dial+1", "dial-right-short"):
        member = MEMBERS[name]
        found = summary(list(law_tables(member, problems("test", 16))), member)
        measures[name] = {"member": {"delta": member.delta}, **found}
    rows = dial_table(measures).splitlines()[2:]
    assert [row.split(" | ")[0] for row in rows] == [f"| `{name}`" for name in measures]
    assert "| 0.415 | -0.194 | -0.53 | 0.00 |" in rows[0]
    plot_dial(measures, tmp_path / "dial.png")
    assert (tmp_path / "dial.png").stat().st_size > 10_000
