"""What a command finds missing: all of it at once, before it has written anything, each with what gets it."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sharpen.cli.main import main
from sharpen.llm.configs.train import TrainConfig, resolve
from sharpen.llm.distributed.placement import placement
from sharpen.llm.distributed.world import World
from sharpen.llm.models import hub, store
from sharpen.llm.models.registry import resolve as resolve_model
from sharpen.llm.preflight import checks as preflight
from sharpen.llm.preflight import inventory, machine
from sharpen.llm.tasks import answer_check
from sharpen.llm.tasks.answer_check import Asked, unanswered
from sharpen.llm.tasks.sources import TableSource, load_source
from sharpen.objective import PRESETS, InputError, MissingError, SeveralInputsError

WIDTH = 80


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """A machine without network, caches and GPU, in an empty folder."""
    import datasets
    import torch
    from huggingface_hub import constants

    def refuse(*arguments: object) -> None:
        raise ConnectionError("offline mode is enabled")

    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(hub, "answers", lambda address: False)
    monkeypatch.setattr(inventory, "is_cached", lambda location: False)
    monkeypatch.setattr(datasets, "load_dataset", refuse)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.chdir(tmp_path)
    hub.prefer_cache.cache_clear()
    yield tmp_path
    hub.prefer_cache.cache_clear()


def failed(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """Return what a command that has to end with status 2 writes to stderr."""
    with pytest.raises(SystemExit) as exited:
        main(arguments)
    assert exited.value.code == 2
    return capsys.readouterr().err


def write(file: Path, rows: list[dict[str, Any]]) -> str:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(file)


def sums(count: int, **more: Any) -> list[dict[str, Any]]:
    return [{"problem": f"1{n}+22+33=?", "answer": str(65 + n), **more} for n in range(count)]


def settings(**changes: Any) -> TrainConfig:
    return resolve({"evaluation": {"problems": 2, "samples": 1, "alpha_prompts": 0}, "steps": 1, **changes})


def test_the_users_own_command_names_everything_that_is_missing_at_once(
    alone: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    error = failed(["llm", "train", "--model", "qwen2.5-3b"], capsys)
    first, *lines = error.splitlines()
    assert first == "error: 4 things are missing or wrong"
    assert all(len(line) <= WIDTH for line in lines), error
    text = " ".join(error.replace("\\\n", " ").split())
    for wanted in (
        "hf download Qwen/Qwen2.5-3B-Instruct --local-dir Qwen2.5-3B-Instruct --model Qwen2.5-3B-Instruct",
        "hf download --repo-type dataset DigitalLearningGmbH/MATH-lighteval --local-dir MATH-lighteval "
        "--data MATH-lighteval --eval-selection-data MATH-lighteval",
        "hf download --repo-type dataset HuggingFaceH4/MATH-500 --local-dir MATH-500 --eval-data MATH-500",
        "no GPU was found",
        "--device cpu",
        "does not answer",
    ):
        assert wanted in text
    assert "offline" not in text
    assert list(alone.iterdir()) == []


def test_the_advice_is_what_gets_it(alone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Folders as `hf download` leaves them: the model keeps the settings of its name, data its splits."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    for split, count in (("train", 3), ("test", 5)):
        for number in range(2):
            piece = alone / "MATH-lighteval" / "data" / f"{split}-{number:05d}-of-00002.parquet"
            piece.parent.mkdir(parents=True, exist_ok=True)
            rows = [{"problem": f"{split} {number} {n}", "solution": f"\\boxed{{{n}}}"} for n in range(count)]
            pq.write_table(pa.Table.from_pylist(rows), piece)
    assert len(load_source("MATH-lighteval", "train").prompts().prompts) == 6
    assert list(load_source("MATH-lighteval", "test").answers().values()) == ["0", "1", "2", "3", "4"] * 2
    (alone / "MATH-lighteval" / "data" / "test-00001-of-00002.parquet").unlink()
    with pytest.raises(InputError, match="all 2 pieces of test"):
        load_source("MATH-lighteval", "test")
    assert resolve({"model": "x/Qwen2.5-3B-Instruct"}).evaluation == resolve({"model": "qwen2.5-3b"}).evaluation
    assert resolve({"model": "x/another"}).evaluation != resolve({"model": "qwen2.5-3b"}).evaluation


@pytest.mark.parametrize("command", ["eval", "sample"])
def test_eval_and_sample_look_the_same_way(alone: Path, command: str, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--model", "qwen2.5-3b", "--data", "aime24", "--out", "out", "--engine", "transformers"]
    error = failed(["llm", command, *flags], capsys)
    assert error.startswith("error: 3 things are missing or wrong\n")
    assert "hf download Qwen/Qwen2.5-3B-Instruct" in error
    assert "--data aime_2024\n" in error
    assert "no GPU was found" in " ".join(error.split())
    assert not (alone / "out").exists()


def test_a_plan_says_what_it_assumes_and_what_is_missing(alone: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exited:
        main(["llm", "train", "--model", "qwen2.5-3b", "--dry-run"])
    assert not exited.value.code
    printed = capsys.readouterr().out
    assert "# a GPU is assumed, and this machine has none: torch" in printed
    assert "# 4 things missing or wrong for a start on this machine" in printed
    below = printed.partition("# 4 things")[2].splitlines()
    assert all(len(line) <= WIDTH for line in below)
    with pytest.raises(SystemExit):
        main(["llm", "train", "--model", "qwen2.5-3b", "--dry-run", "--json"])
    told = json.loads(capsys.readouterr().out)
    assert told["device_assumed"]
    assert len(told["missing_here"]) == 4
    assert list(alone.iterdir()) == []


def test_a_plan_for_a_small_model_is_of_the_cpu_that_a_run_would_use(
    alone: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SHARPEN_CACHE", str(alone / "cache"))
    dtype = placement(resolve({"model": "smollm2"}))[1]
    with pytest.raises(SystemExit) as exited:
        main(["llm", "train", "--model", "smollm2", "--dry-run"])
    assert not exited.value.code
    printed = capsys.readouterr().out
    assert f"# memory of each of 1 process(es) on cpu, {dtype} passes, GiB (134.5 M parameters" in printed
    assert "cuda" not in printed
    assert "# 1 thing missing or wrong for a start on this machine" in printed
    assert "sharpen llm fetch smollm2" in printed
    with pytest.raises(SystemExit):
        main(["llm", "train", "--model", "smollm2", "--dry-run", "--json"])
    told = json.loads(capsys.readouterr().out)
    assert (told["device"], told["dtype"], told["device_assumed"]) == ("cpu", dtype, False)


def test_a_wrong_task_and_a_model_to_fetch_are_told_at_once_and_nothing_is_fetched(
    alone: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SHARPEN_CACHE", str(alone / "cache"))
    monkeypatch.setattr(store, "provide", lambda *_, **__: pytest.fail("fetched"))
    for command, more in (("train", ["--wandb", "p"]), ("eval", []), ("sample", [])):
        monkeypatch.setitem(sys.modules, "wandb", None)
        error = failed(["llm", command, "--model", "smollm2", "--task", "antonym", "--out", "out", *more], capsys)
        text = " ".join(error.split())
        assert "sharpen llm fetch smollm2" in text
        assert "got 'antonym'" in text
        assert ("the package wandb is not installed" in text) == bool(more)
    assert list(alone.iterdir()) == []


def test_a_large_model_computes_on_a_cpu_only_if_it_is_told_to(alone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inventory, "LARGE", 1000)
    model = resolve_model("embedded").location
    data = {"data": "embedded", "template": "plain", "max_length": 80, "tokens_per_microbatch": 1024}
    with pytest.raises(InputError, match=r"^device: got 'auto'.*--device cpu.*no GPU was found"):
        preflight.for_training(settings(model=model, **data, evaluation={"data": "embedded"}), World(), alone / "run")
    told = settings(model=model, device="cpu", **data, evaluation={"data": "embedded"})
    assert preflight.for_training(told, World(), alone / "run").prompts.prompts


@pytest.mark.parametrize(
    ("where", "name", "message"),
    [
        (inventory, "machine_memory", "GiB are sure to be held .parameters .*, optimizer"),
        (preflight, "room_on_disk", "a folder with room for the checkpoints.*--checkpoint-every"),
    ],
    ids=["memory", "disk"],
)
def test_what_cannot_fit_is_refused_before_it_is_loaded(
    where: Any, name: str, message: str, alone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(where, name, lambda _: 2**20)
    model = resolve_model("embedded").location
    config = settings(model=model, data="embedded", template="plain", evaluation={"data": "embedded"})
    with pytest.raises(InputError, match=message):
        preflight.for_training(config, World(), alone / "run")


def test_the_machine_says_what_it_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = machine.memory("cpu")
    assert whole is not None
    assert whole > 2**28
    limit = tmp_path / "memory.max"
    limit.write_text("1048576\n")
    monkeypatch.setattr(machine, "CGROUP_LIMITS", (str(limit), str(tmp_path / "none")))
    assert machine.memory("cpu") == 1048576
    limit.write_text("max\n")
    assert (machine.memory("cpu") or 0) >= whole
    assert machine.room_on_disk(tmp_path / "not" / "there") > 0


BAD_DATA = [
    ("eval_data", [{"problem": "1+1=?"}], "eval_data: .*with answers"),
    ("eval_data", [{"problem": "1+1=?", "answer": ""}], "eval_data: .*with answers"),
    ("eval_data", [{"problem": "1+" * 60, "answer": "3"}], r"max_length: .*longest prompt of .*\(--eval-data\)"),
    ("data", [{"problem": "1+" * 60, "answer": "3"}], r"max_length: .*longest prompt of .*\(--data\)"),
    ("data", [{"problem": "1+1=?"}], "data: .*with answers"),
    ("eval_selection_data", [{"problem": "1+3=?"}], "eval_selection_data: .*with answers"),
]


@pytest.mark.parametrize(("flag", "rows", "message"), BAD_DATA)
def test_bad_data_is_found_before_the_first_update(
    flag: str, rows: list[dict[str, Any]], message: str, alone: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import re

    file = write(alone / "bad.jsonl", rows)
    flags = ["--engine", "transformers", "--eval-problems", "2", "--out", "run", f"--{flag.replace('_', '-')}", file]
    error = failed(["llm", "train", *flags], capsys)
    assert re.search(message, " ".join(error.split())), error
    assert not (alone / "run").exists()


def test_several_sets_are_wrong_in_one_message(alone: Path) -> None:
    bad = write(alone / "bad.jsonl", [{"problem": "1+1=?"}])
    long = write(alone / "long.jsonl", [{"problem": "1+" * 60, "answer": "3"}])
    config = settings(data=long, evaluation={"data": bad}, wandb="x" if not _has("wandb") else None)
    with pytest.raises(SeveralInputsError) as refused:
        preflight.for_training(config, World(), alone / "run")
    assert {"max_length", "eval_data"} <= {error.field for error in refused.value.errors}


def _has(package: str) -> bool:
    from importlib.util import find_spec

    return find_spec(package) is not None


def test_some_problems_without_an_answer_are_told_and_no_error(alone: Path) -> None:
    data = write(alone / "some.jsonl", [*sums(1), {"problem": "1+1=?", "answer": ""}])
    ready = preflight.for_training(settings(evaluation={"data": data}), World(), alone / "run")
    assert len(ready.notes) == 1
    assert "1 of 2 problems have no answer" in ready.notes[0]


def test_answers_are_looked_for_by_another_process(alone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The label firewall: the run's own process does not open what it checks, whatever the objective."""
    data = write(alone / "data.jsonl", sums(6))

    def trap(self: TableSource) -> Any:
        raise AssertionError("answers were opened in the run's own process")

    monkeypatch.setattr(TableSource, "answers", trap)
    config = settings(objective=PRESETS["sharpening"].to_dict(), data=data, evaluation={"data": data, "problems": 2})
    ready = preflight.for_training(config, World(), alone / "run")
    assert len(ready.reported.prompts) == 2


def test_ids_of_problems_without_an_answer(tmp_path: Path) -> None:
    rows = [
        {"id": str(n), "problem": f"p {n}", "answer": answer} for n, answer in enumerate(["1", "", " ", "9" * 2000])
    ]
    some = write(tmp_path / "some.jsonl", rows)
    none = write(tmp_path / "none.jsonl", [{"problem": "p"}])
    found = unanswered(
        [Asked(some, "test"), Asked(some, "test", None, ("0", "1")), Asked(some, "test", 1), Asked(none, "test")]
    )
    assert found[:3] == [["1", "2", "3"], ["1"], []]
    assert isinstance(found[3], InputError)
    assert unanswered([]) == []


def test_problems_that_never_change_are_looked_at_once_a_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write(tmp_path / "some.jsonl", [{"problem": "p", "answer": "1"}])
    seen: list[str] = []
    real = answer_check._by_another_process
    monkeypatch.setattr(answer_check, "_known", {})
    monkeypatch.setattr(
        answer_check, "_by_another_process", lambda asked: seen.extend(a.spec for a in asked) or real(asked)
    )
    asked = [Asked("embedded", "test", 7), Asked(file, "test"), Asked("embedded", "test", 8)]
    assert unanswered(asked) == unanswered(asked) == [[], [], []]
    assert seen == ["embedded", file, "embedded", file]


def test_a_gated_model_says_how_to_be_let_in(monkeypatch: pytest.MonkeyPatch) -> None:
    import httpx
    from huggingface_hub import HfApi
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    answer = httpx.Response(403, request=httpx.Request("GET", "https://huggingface.co"))
    monkeypatch.setattr(inventory, "is_cached", lambda location: False)
    monkeypatch.setattr(hub, "prefer_cache", lambda: False)
    for kind, wanted in ((GatedRepoError, "licence has to be accepted"), (RepositoryNotFoundError, "the hub has no")):

        def refuse(self: HfApi, *_: object, kind: Any = kind) -> None:
            raise kind("no", response=answer)

        monkeypatch.setattr(HfApi, "auth_check", refuse)
        with pytest.raises(MissingError, match=wanted):
            inventory.check_weights(resolve_model("llama-3.2-3b"))


def test_many_errors_print_well_at_any_length() -> None:
    errors = [
        InputError("model", "x" * 300, "a shorter name " * 9),
        MissingError("data", "y", "everything " * 12, ["get " + "--flag value " * 12, "--data y"]),
    ]
    lines = SeveralInputsError(errors).lines(WIDTH)
    assert lines[0] == "2 things are missing or wrong"
    for line in lines[1:]:
        assert len(line) <= WIDTH or " " not in line.strip().removesuffix(" \\")
    commands = [line.strip() for line in lines if "--flag" in line]
    assert all(line.endswith("\\") for line in commands[:-1])
    assert " ".join(line.removesuffix("\\").strip() for line in commands) == ("get " + "--flag value " * 12).strip()
