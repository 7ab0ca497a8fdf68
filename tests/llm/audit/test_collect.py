"""Samples of two models, each scored by the other: against plain passes, across kills, and what is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from sharpen.llm.audit.collect import BASE, POLICY, Collected, configs, read, sample
from sharpen.llm.configs.evaluation import EvalConfig
from sharpen.llm.evaluation.run import EvalReport
from sharpen.llm.models.logprobs import token_logprobs
from sharpen.llm.models.registry import ModelSource, load_model, load_tokenizer, resolve
from sharpen.llm.tasks.sources import load_source
from sharpen.llm.tasks.templates import encode
from sharpen.objective import InputError

EMBEDDED = resolve("embedded").location
ASKED = {"problems": 3, "samples": 4, "max_length": 40, "engine": "transformers", "batch": 2}


@pytest.fixture(scope="module")
def changed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The embedded model with other weights: what training may have left."""
    folder = tmp_path_factory.mktemp("changed") / "model"
    model = load_model(resolve("embedded"), "cpu", "float32")
    torch.manual_seed(0)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.05 * weight.std() * torch.randn_like(weight))
    model.save_pretrained(folder)
    load_tokenizer(resolve("embedded")).save_pretrained(folder)
    return folder


def collected(base: str | None, policy: str, out: Path | None, **changes: object) -> Collected:
    return sample(*configs(base, policy, ASKED | changes), out, force=False, report=EvalReport)


@pytest.fixture(scope="module")
def both(changed: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Collected, Path]:
    out = tmp_path_factory.mktemp("audit") / "out"
    return collected("embedded", str(changed), out), out


def test_each_sample_has_both_models_log_probabilities(both: tuple[Collected, Path], changed: Path) -> None:
    found, _ = both
    assert found.unscored is None
    assert (found.base.name, found.policy.name) == (EMBEDDED, str(changed))
    models = {name: load_model(ModelSource(name, name), "cpu", "float32").eval() for name in (EMBEDDED, str(changed))}
    tokenizer = load_tokenizer(resolve("embedded"))
    prompts = {one.id: one.text for one in load_source("embedded", "test").prompts().prompts}
    for side, own, other in ((found.base, EMBEDDED, str(changed)), (found.policy, str(changed), EMBEDDED)):
        for record in side.records or []:
            ids = encode(tokenizer, prompts[record.id], "plain")
            for text, mark, *scores in zip(
                record.responses, record.finished, record.logprob or [], record.base_logprob or [], strict=True
            ):
                response = list(tokenizer(text, add_special_tokens=False)["input_ids"])
                response += [1] * mark  # its EOS token
                for name, score in zip((own, other), scores, strict=True):
                    plain = token_logprobs(models[name], [ids], [response], micro_batch_tokens=4096)
                    assert score == pytest.approx(float(plain.logprobs_BT.double().sum()), abs=1e-3)


def test_the_two_sides_are_asked_the_same_with_different_seeds() -> None:
    before, after = configs("embedded", "embedded", ASKED)
    assert before.seed != after.seed
    same = {name: getattr(before, name) for name in EvalConfig.model_fields if name not in ("model", "base", "seed")}
    assert same == {name: getattr(after, name) for name in same}
    assert (before.model, before.base) == (after.base, after.model)


def test_a_kill_loses_no_batch_and_changes_no_number(
    both: tuple[Collected, Path], changed: Path, tmp_path: Path
) -> None:
    whole, out = both
    again = tmp_path / "again"
    shutil.copytree(out, again)
    records = again / BASE / "records.jsonl"
    lines = records.read_bytes().split(b"\n")
    records.write_bytes(lines[0] + b"\n" + lines[1] + b"\n" + lines[2][:40])
    (again / BASE / "evaluation.json").unlink()
    continued = collected("embedded", str(changed), again)
    assert continued.base.records == whole.base.records
    assert continued.policy.records == whole.policy.records


def test_finished_evaluations_of_both_are_read_as_they_are(both: tuple[Collected, Path], tmp_path: Path) -> None:
    whole, out = both
    found = read(out / BASE, out / POLICY)
    assert found == whole
    turned = tmp_path / "turned"
    shutil.copytree(out / BASE, turned)
    lines = (turned / "records.jsonl").read_bytes().splitlines(keepends=True)
    (turned / "records.jsonl").write_bytes(b"".join(reversed(lines)))
    assert read(turned, out / POLICY) == whole  # in the policy's order
    swapped = read(out / POLICY, out / BASE)  # the roles are the reader's to give
    assert swapped.unscored is None
    with pytest.raises(InputError, match="policy"):
        read(out / BASE, tmp_path)
    alone = read(out / BASE, out / BASE)  # the base's samples twice, each scored by the other model
    assert "--base" in (alone.unscored or "")


def test_evaluations_of_other_questions_are_refused(both: tuple[Collected, Path], tmp_path: Path) -> None:
    _, out = both
    other = tmp_path / "other"
    shutil.copytree(out / POLICY, other)
    text = (other / "config.yaml").read_text()
    (other / "config.yaml").write_text(text.replace("max_length: 40", "max_length: 41"))
    with pytest.raises(InputError, match="max_length 41"):
        read(out / BASE, other)


def test_a_models_base_is_known_of_runs_alone(changed: Path) -> None:
    with pytest.raises(InputError, match="base"):
        configs(None, str(changed), ASKED)
    assert configs(None, "embedded", ASKED)[0].model == EMBEDDED


def _other_vocabulary(folder: Path) -> None:
    file = folder / "tokenizer.json"
    told = json.loads(file.read_text())
    vocabulary = told["model"]["vocab"]
    names = [name for name in vocabulary if len(name) == 1][:2]
    vocabulary[names[0]], vocabulary[names[1]] = vocabulary[names[1]], vocabulary[names[0]]
    file.write_text(json.dumps(told))


def _other_end(folder: Path) -> None:
    told = json.loads((folder / "config.json").read_text())
    ends = json.loads((folder / "generation_config.json").read_text())
    ends["eos_token_id"] = [told["eos_token_id"], told["eos_token_id"] + 1]
    (folder / "generation_config.json").write_text(json.dumps(ends))


@pytest.mark.parametrize(("change", "said"), [(_other_vocabulary, "tokens of"), (_other_end, "responses end")])
def test_models_with_other_tokens_are_refused_unless_nothing_is_scored(
    change: Callable[[Path], None], said: str, changed: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(changed, folder)
    change(folder)
    with pytest.raises(InputError, match=said) as error:
        collected("embedded", str(folder), tmp_path / "out")
    assert "--no-likelihoods" in str(error.value)
    assert not (tmp_path / "out").exists()
    found = collected("embedded", str(folder), None, likelihoods=False, problems=2, samples=2)
    assert "not scored" in (found.unscored or "")
    assert [len(one.right) for one in found.policy.problems] == [2, 2]
