"""The spec: what it accepts, what it refuses, and that it survives every round trip."""

from __future__ import annotations

import subprocess
import sys

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from sharpen.objective import MODES, PRESETS, InputError, Objective, from_yaml, load, preset, to_yaml


@st.composite
def objectives(draw: st.DrawFn) -> Objective:
    normalization = draw(st.sampled_from(["none", "sum", "mean", "weighted_mean"]))
    fields = {
        "alpha": draw(st.floats(1e-3, 1e4)),
        "beta_inv": draw(st.one_of(st.just(0.0), st.floats(1e-6, 1e6))),
        "mode": draw(st.sampled_from(MODES)),
        "normalization": normalization,
        "weight": draw(st.floats(-3, 3)) if normalization == "weighted_mean" else None,
        "reference": draw(st.sampled_from(["frozen", "policy", "refresh:1", "refresh:250"])),
    }
    if fields["mode"] == "optimization" and normalization == "none":
        fields["beta_inv"] = 1.0
    return Objective.model_validate(fields)


@given(objectives())
def test_yaml_json_flags_and_hash_survive_a_round_trip(objective: Objective) -> None:
    assert from_yaml(to_yaml(objective)) == objective
    assert Objective.model_validate_json(objective.model_dump_json()) == objective
    flags = objective.to_flags()
    fields = {
        flag.removeprefix("--").replace("-", "_"): text for flag, text in zip(flags[::2], flags[1::2], strict=True)
    }
    again = Objective.model_validate(fields)
    assert again == objective
    assert hash(again) == hash(objective)
    assert again.digest() == objective.digest()
    assert len({objective, again}) == 1


def test_digest_differs_with_any_field_and_is_stable_across_processes() -> None:
    objective = Objective(alpha=2.0)
    others = [Objective(alpha=2.5), Objective(alpha=2.0, beta_inv=1.0), Objective(alpha=2.0, reference="policy")]
    assert len({objective.digest(), *(other.digest() for other in others)}) == 4
    code = "from sharpen.objective import Objective; print(Objective(alpha=2.0).digest())"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed.strip() == objective.digest()


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"alpha": float("nan")}, "alpha"),
        ({"alpha": float("inf")}, "alpha"),
        ({"alpha": -0.1}, "alpha"),
        ({"alpha": True}, "alpha"),
        ({"alpha": "much"}, "alpha"),
        ({"beta_inv": -1}, "beta_inv"),
        ({"beta_inv": float("nan")}, "beta_inv"),
        ({"beta_inv": 1e-320, "alpha": 2}, "beta_inv"),
        ({"mode": "tempering"}, "mode"),
        ({"normalization": "median"}, "normalization"),
        ({"weight": 0.5}, "weight"),
        ({"normalization": "weighted_mean"}, "weight"),
        ({"normalization": "weighted_mean", "weight": float("inf")}, "weight"),
        ({"reference": "refresh:0"}, "reference"),
        ({"reference": "refresh:"}, "reference"),
        ({"reference": "refresh:1.5"}, "reference"),
        ({"reference": "moving"}, "reference"),
        ({"temperature": 1.0}, "temperature"),
        ({"mode": "optimization", "alpha": 0}, "alpha"),
        ({"mode": "optimization", "normalization": "none"}, "alpha"),
    ],
)
def test_bad_values_are_refused_and_named(fields: dict[str, object], named: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Objective.model_validate(fields)
    assert isinstance(caught.value, ValueError)
    assert named in str(caught.value)


def test_it_is_frozen() -> None:
    with pytest.raises(ValidationError):
        Objective().__setattr__("alpha", 2.0)


def test_presets_are_the_four_regimes() -> None:
    assert {name: objective.regime for name, objective in PRESETS.items()} == {name: name for name in PRESETS}
    assert [tuple(PRESETS[name].coefficients) for name in ("task-reward", "sharpening", "tempered", "tilted")] == [
        (1, 0, 0),
        (0, 1, 0),
        (0, 2, 1),
        (1, 0.1, 0.1),
    ]
    assert {name for name, objective in PRESETS.items() if objective.needs_reward} == {"task-reward", "tilted"}
    assert preset("tempered", alpha=4.0) == Objective(alpha=4.0)
    with pytest.raises(InputError, match="preset: got 'sharp', allowed: task-reward"):
        preset("sharp")


def test_refresh_every() -> None:
    assert [Objective(reference=r).refresh_every for r in ("frozen", "policy", "refresh:7")] == [None, 1, 7]


def test_load_names_the_file(tmp_path) -> None:
    file = tmp_path / "objective.yaml"
    file.write_text(yaml.safe_dump({"preset": "tilted", "beta_inv": 3}))
    assert load(file).beta_inv == 3.0
    for content, message in (("[1, 2]", "mapping"), ("a: [", r"objective\.yaml.*YAML")):
        file.write_text(content)
        with pytest.raises(InputError, match=message):
            load(file)
    with pytest.raises(InputError, match=r"nowhere\.yaml"):
        load(tmp_path / "nowhere.yaml")


def test_importing_the_spec_imports_nothing_heavy() -> None:
    code = "import sys, sharpen.objective; print([m for m in ('jax', 'torch', 'scipy', 'sympy') if m in sys.modules])"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed.strip() == "[]"
