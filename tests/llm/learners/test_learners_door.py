"""The door of learners: one battery for each that is registered, and a user's own through the command."""

from __future__ import annotations

import hashlib
import json
import math
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from pydantic import ValidationError
from safetensors.torch import load_file

import sharpen.llm.learners as public
from sharpen.cli.llm.train import LearnerFlags
from sharpen.cli.main import main
from sharpen.llm.common.report import Report
from sharpen.llm.configs.idle import TRAIN, refuse_idle
from sharpen.llm.configs.train import LearnerSettings, TrainConfig, resolve
from sharpen.llm.learners.experience import Experience
from sharpen.llm.learners.parts.learner import LossInputs
from sharpen.llm.learners.parts.loss import importance_weights
from sharpen.llm.learners.parts.registry import LEARNERS, make
from sharpen.llm.models.logprobs import TokenLogprobs
from sharpen.llm.rollout import Rollout
from sharpen.llm.training import metrics
from sharpen.llm.training.run import train
from sharpen.objective import InputError, Objective, preset

P, G, T, W_H = 3, 4, 5, 0.25
TILTED = Objective(alpha=2.0, beta_inv=4.0)
BUILT_IN = (
    *("rloo", "reinforce", "grpo", "ppo", "dapo", "unlikeliness", "tb", "tb-batch", "best-of-n", "dr-grpo", "gspo"),
    *("cispo", "maxrl", "maxrl-order-g", "pass-k", "nsr", "w-reinforce", "power-distillation", "alpha-divergence"),
    *("f-divergence", "entropy-bonus", "adaptive-entropy"),
)
SMALL: dict[str, Any] = {
    "objective": preset("tempered").to_dict(),
    "steps": 2,
    "prompts_per_step": 2,
    "samples_per_prompt": 4,
    "max_length": 32,
    "engine": "transformers",
    "optimizer": {"learning_rate": 1e-3, "warmup_steps": 0},
    "evaluation": {"problems": 2, "samples": 2, "alpha_prompts": 0},
    "checkpoint_every": 1,
    "trackers": [],
}
OWN = '''
from sharpen.llm.learners import PolicyGradient, leave_one_out


class Mine(PolicyGradient):
    """RLOO, written anew, times a factor."""

    def __init__(self, factor: float = 1.0) -> None:
        if factor <= 0:
            raise ValueError("factor above 0")
        self.factor = factor

    def advantages(self, settings, rewards_PG, w_h):
        others = (rewards_PG.sum(dim=1, keepdim=True) - rewards_PG) / (rewards_PG.shape[1] - 1)
        assert (rewards_PG - others - leave_one_out(rewards_PG)).abs().max() < 1e-3
        return self.factor * leave_one_out(rewards_PG)


class Unfinished(PolicyGradient):
    pass


def broken():
    return 3
'''


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A module in the working folder, under a name that no other test has."""
    name = f"own_{hashlib.sha256(str(tmp_path).encode()).hexdigest()[:12]}"
    (tmp_path / f"{name}.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield name
    sys.modules.pop(name, None)


def batch() -> Experience:
    generator = torch.Generator().manual_seed(0)
    lengths = torch.tensor([T, 1, 2, 3, 4, 5, 1, 2, 3, 3, 4, 2])
    mask = torch.arange(T)[None, :] < lengths[:, None]

    def logprobs() -> torch.Tensor:
        return -torch.rand(P * G, T, generator=generator, dtype=torch.float64).masked_fill(~mask, 0.0)

    policy = TokenLogprobs(logprobs(), logprobs().abs(), mask)
    rows = [[1] * int(n) for n in lengths]
    rollout = Rollout([[0]] * (P * G), rows, [[0.0] * len(row) for row in rows], [True] * (P * G))
    rewards = torch.tensor([1, 0, 0, 1, 1, 1, 1, 1, 0, 1, 0, 0], dtype=torch.float64)
    mismatch = importance_weights(policy.logprobs_BT, policy.logprobs_BT + 0.1, mask, 20.0)
    return Experience(list(range(P)), rollout, ["text"] * (P * G), policy, logprobs(), mismatch, rewards)


@pytest.mark.parametrize("name", LEARNERS.names())
def test_every_registered_learner(name: str) -> None:
    """Shapes, constants, parts that add up, padding that does not count, groups that do not see one another."""
    settings, seen = LearnerSettings(kind=name), batch()
    learner = settings.learner
    assert set(learner.published) <= set(LearnerSettings.model_fields)
    assert learner.takes <= {"clip_low", "clip_high", "rank_penalty"}
    policy_RT, mask = seen.policy.logprobs_BT, seen.policy.mask_BT
    pseudo_R = learner.rewards(settings, TILTED, seen, policy_RT)
    A = learner.advantages(settings, seen.grouped(pseudo_R), W_H)
    assert pseudo_R.shape == (P * G,)
    assert A.shape == (P, G)
    assert not pseudo_R.requires_grad
    assert A.isfinite().all()
    alone = learner.advantages(settings, seen.grouped(pseudo_R)[1:2], W_H)
    torch.testing.assert_close(alone, A[1:2])
    assert learner.by_group == (learner.log_z_rate is None)  # the first batch sets the intercept of log Z
    one = seen.take([1])
    torch.testing.assert_close(
        learner.rewards(settings, TILTED, one, one.policy.logprobs_BT), seen.grouped(pseudo_R)[1]
    )
    keeps = learner.keeps(seen, seen.grouped(pseudo_R))
    assert keeps == ([True, False, True] if learner.resamples else [True] * P)

    inputs = LossInputs(A.flatten(), seen.mismatch.weights_BT, policy_RT, seen.reference_RT, 7.0, W_H)
    now = (policy_RT + 0.05).masked_fill(~mask, 0.0).requires_grad_()
    whole = learner.loss(settings, inputs, list(range(P * G)), now, mask)
    assert whole.shape == ()
    gradient = torch.autograd.grad(whole, now)[0]
    assert gradient.abs().sum() > 0
    assert (gradient[~mask] == 0).all()
    parts = [
        learner.loss(settings, inputs, rows, now[rows], mask[rows]) for rows in ([0, 5], [*range(1, 5), *range(6, 12)])
    ]
    torch.testing.assert_close(torch.stack(parts).sum(), whole, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", LEARNERS.names())
def test_what_a_learner_declares_is_what_a_run_may_ask(name: str) -> None:
    learner = make(name, {})

    own = learner.own_utility == "pass@K"  # then the objective has to have one, and so a reward
    usual = TILTED.model_copy(update={"utility": "pass@2"}) if own else TILTED

    def allowed(**changes: Any) -> bool:
        given = {"objective": usual.to_dict(), **changes}
        try:
            TrainConfig.model_validate({**given, "learner": {"kind": name, **given.pop("learner", {})}})
        except ValidationError:
            return False
        return True

    assert allowed()
    assert allowed(learner={"epochs": 2}) == learner.several_epochs
    assert allowed(temperature=1.2) == learner.off_policy
    task = preset("task-reward").model_copy(update={"utility": usual.utility})
    assert allowed(objective=task.to_dict()) == (not learner.needs_entropy)
    assert allowed(objective=preset("tempered").to_dict()) == (not learner.needs_reward)
    for utility in ("log", "arcsin", "pass@3"):
        own = utility == learner.own_utility or (learner.own_utility == "pass@K" and utility == "pass@3")
        objective = TILTED.model_copy(update={"utility": utility}).to_dict()
        assert allowed(objective=objective) == (learner.takes_utilities or own)
    assert [kl for kl in ("k1-reward", "k2-reward", "k3-loss") if allowed(learner={"kl": kl})] == [
        kl for kl in ("k1-reward", "k2-reward", "k3-loss") if kl in learner.kl_places
    ]
    config = resolve({"learner": {"kind": name}, "objective": usual.to_dict()})
    for field, expected in (("rank_penalty", "rank_penalty" in learner.takes), ("dynamic_rounds", learner.resamples)):
        if expected:
            refuse_idle(config, [f"learner.{field}"], TRAIN)
        else:
            with pytest.raises(InputError, match="it would have no effect here"):
                refuse_idle(config, [f"learner.{field}"], TRAIN)


def test_the_flag_names_every_learner() -> None:
    flag = next(field for field in fields(LearnerFlags) if field.name == "learner")
    assert all(f"{name}," in str(flag.type) for name in LEARNERS.names())
    assert "module:object" in str(flag.type)


def test_public_names_are_there_and_settings_need_no_torch() -> None:
    assert all(getattr(public, name) is not None for name in public.__all__)
    told = (
        "import sys; from sharpen.llm.configs.train import resolve; resolve({'learner': {'kind': 'grpo'}});"
        "from sharpen.llm.learners import PolicyGradient, leave_one_out; print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_an_own_learner_through_the_command_is_rloo_bit_for_bit(
    own: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(SMALL))
    common = ["llm", "train", "--config", "run.yaml"]
    for name, learner in (("own", f"{own}:Mine"), ("rloo", "rloo")):
        with pytest.raises(SystemExit) as exited:
            main([*common, "--learner", learner, "--out", name])
        assert exited.value.code == 0, capfd.readouterr().err
    same_run(tmp_path / "own", tmp_path / "rloo")
    (origin,) = json.loads((tmp_path / "own" / "provenance.json").read_text())["parts"][f"learner {own}:Mine"]
    file = tmp_path / f"{own}.py"
    assert origin == {"module": own, "file": str(file), "sha256": hashlib.sha256(file.read_bytes()).hexdigest()}
    assert "parts" not in json.loads((tmp_path / "rloo" / "provenance.json").read_text())


def same_run(a: Path, b: Path) -> None:
    first, second = (load_file(out / "checkpoints" / "last" / "model.safetensors") for out in (a, b))
    assert all(torch.equal(first[name], second[name]) for name in first)
    told = [
        [{k: v for k, v in record.items() if k != "seconds"} for record in metrics.read(out / "metrics.jsonl")]
        for out in (a, b)
    ]
    assert told[0] == told[1]
    assert len(told[0]) == 2


def test_a_run_with_an_own_learner_goes_on(own: str, tmp_path: Path) -> None:
    class KilledError(RuntimeError):
        pass

    def die(record: dict[str, Any]) -> None:
        if record["step"] == 1:
            raise KilledError

    config = resolve({**SMALL, "learner": {"kind": f"{own}:Mine", "options": {"factor": 2.0}}})
    with pytest.raises(KilledError):
        train(config, tmp_path / "killed", report=Report(step=die))
    stored = TrainConfig.as_written(yaml.safe_load((tmp_path / "killed" / "config.yaml").read_text()))
    assert stored == config
    before = json.loads((tmp_path / "killed" / "provenance.json").read_text())["parts"]
    with (tmp_path / f"{own}.py").open("a") as file:
        file.write("\n# a remark\n")
    notes: list[str] = []
    train(stored, tmp_path / "killed", report=Report(note=notes.append))
    train(config, tmp_path / "whole")
    same_run(tmp_path / "killed", tmp_path / "whole")
    assert any("has changed since this run was started" in note for note in notes)
    (versions,) = json.loads((tmp_path / "killed" / "provenance.json").read_text())["parts"].values()
    assert versions[:1] == next(iter(before.values()))
    assert len(versions) == 2


def test_what_is_no_learner_is_told_in_one_line(own: str) -> None:
    wrong = {
        "sarsa": ", ".join(BUILT_IN) + ", or module:object",
        "grpp": "close: grpo",
        f"{own}:Unfinished": "advantages missing",
        f"{own}:broken": "rewards, advantages, keeps, loss",
        f"{own}:Nothing": "has no attribute 'Nothing'",
    }
    for kind, message in wrong.items():
        with pytest.raises(ValidationError, match=message):
            LearnerSettings(kind=kind)
    for options, message in (({"factr": 1}, "unexpected keyword argument 'factr'"), ({"factor": 0}, "factor above 0")):
        with pytest.raises(ValidationError, match=message):
            LearnerSettings(kind=f"{own}:Mine", options=options)
    with pytest.raises(ValidationError, match="options that rloo takes"):
        LearnerSettings(options={"factor": 1})
    learner = LearnerSettings(kind=f"{own}:Mine", options={"factor": 3.0}).learner
    A = learner.advantages(LearnerSettings(), torch.tensor([[1.0, 0.0]]), 0.0)
    assert math.isclose(float(A[0, 0]), 3.0)
