"""Trackers: each step once in every registered one, none of them dear to a run, and a user's own by the same door."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from sharpen.cli.main import main
from sharpen.llm.common.report import Report
from sharpen.llm.configs.train import TrainConfig, resolve
from sharpen.llm.trackers import TRACKERS, Tracking
from sharpen.llm.training import metrics
from sharpen.llm.training.run import train
from sharpen.objective import InputError, preset

SETTINGS: dict[str, Any] = {
    "objective": preset("tempered").to_dict(),
    "steps": 3,
    "prompts_per_step": 2,
    "max_length": 32,
    "samples_per_prompt": 2,
    "checkpoint_every": 1,
    "engine": "transformers",
    "evaluation": {"problems": 2, "samples": 2, "alpha_prompts": 0},
}
OWN = '''
import json


class Lines:
    """One JSON line a step."""

    def __init__(self, name="lines.jsonl"):
        self.name = name

    def start(self, config, folder, resumed_from_step):
        self.file = folder / self.name
        kept = self.file.read_text().splitlines()[:resumed_from_step] if self.file.exists() else []
        self.file.write_text("".join(line + "\\n" for line in kept))
        print("started with", config["steps"])

    def log(self, step, numbers, samples):
        with self.file.open("a") as file:
            file.write(json.dumps({"step": step, **numbers, "samples": len(samples)}) + "\\n")

    def finish(self):
        with self.file.open("a") as file:
            file.write("{}\\n")


class Breaks(Lines):
    def log(self, step, numbers, samples):
        if step == 1:
            raise ConnectionError("no route\\nto host")
        numbers.clear()  # its own copy


class BreaksAtOnce(Lines):
    def start(self, config, folder, resumed_from_step):
        raise PermissionError("not logged in")


class BreaksAtTheEnd(Lines):
    def finish(self):
        raise TimeoutError("still sending")


class Needs(Lines):
    packages = ("no_such_package_for_a_tracker",)


class Half:
    def start(self, config, folder, resumed_from_step):
        pass
'''


class StopError(RuntimeError):
    pass


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return the name of a module of a user's, which lies in the working folder."""
    name = f"own_trackers_{abs(hash(tmp_path)):x}"
    (tmp_path / f"{name}.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    return name


def board(folder: Path) -> dict[int, dict[str, float]]:
    """Return what TensorBoard shows of a run folder, by step; a step that is there twice fails."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder / "tensorboard"))
    events.Reload()
    found: dict[int, dict[str, float]] = defaultdict(dict)
    for name in events.Tags()["scalars"]:
        for event in events.Scalars(name):
            assert name not in found[event.step]
            found[event.step][name] = event.value
    return dict(found)


class Pages:
    """Stands for a package like W&B's or trackio's: pages by name, each a list of (step, numbers) as they came."""

    def __init__(self) -> None:
        self.pages: dict[str, list[tuple[int, dict[str, float]]]] = defaultdict(list)
        self.given: list[dict[str, Any]] = []
        self.page: list[tuple[int, dict[str, float]]] | None = None

    def init(self, **given: Any) -> Any:
        self.given.append(given)
        self.page = self.pages[given.get("id") or given["name"]]
        following = max((step for step, _ in self.page), default=-1) + 1
        return SimpleNamespace(log=self.log, finish=self.finish, _next_step=following)

    def log(self, numbers: dict[str, float], step: int) -> None:
        assert self.page is not None
        self.page.append((step, numbers))

    def finish(self) -> None:
        self.page = None


class DroppingPages(Pages):
    """W&B itself drops a step that is not after the last one."""

    def log(self, numbers: dict[str, float], step: int) -> None:
        if not self.page or step > self.page[-1][0]:
            super().log(numbers, step)


def installed(name: str, pages: Pages, monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType(name)
    module.__spec__ = ModuleSpec(name, None)
    for attribute in ("init", "log", "finish"):
        setattr(module, attribute, getattr(pages, attribute))
    monkeypatch.setitem(sys.modules, name, module)


@pytest.mark.parametrize("name", TRACKERS.names())
def test_every_registered_tracker_shows_each_step_once(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Steps 0 to 2, a kill after the checkpoint of one step, and on from there."""
    pages = DroppingPages() if name == "wandb" else Pages()
    readers: dict[str, Callable[[], dict[int, dict[str, float]]]] = {"tensorboard": lambda: board(tmp_path)}
    if name not in readers:
        installed(name, pages, monkeypatch)
    for first, last in ((0, 3), (1, 5)):
        tracking = Tracking({name: {}}, pytest.fail)
        tracking.start({"steps": 5}, tmp_path, first)
        for step in range(first, last):
            tracking.log({"step": step, "kl_ref": step / 4, "reward": None, "seconds": {"total": 2.0}}, [])
        tracking.finish()
    if name in readers:
        shown = readers[name]()
    else:
        (page,) = pages.pages.values()  # both parts are on one
        shown = dict(page)
        assert len(shown) == len(page)
        assert pages.page is None
        assert all(given["project"] == "sharpen" and given["config"] == {"steps": 5} for given in pages.given)
    assert shown == {step: {"kl_ref": step / 4, "seconds/total": 2.0} for step in range(5)}


def test_options_reach_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pages = Pages()
    installed("trackio", pages, monkeypatch)
    Tracking({"trackio": {"project": "sums", "group": "night"}}, pytest.fail).start({}, tmp_path, 0)
    assert {"project": "sums", "group": "night", "resume": "allow"}.items() <= pages.given[0].items()


def test_a_run_goes_on_without_a_tracker_that_fails(
    own: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken, whole, last = (f"{own}:{name}" for name in ("Breaks", "Lines", "BreaksAtTheEnd"))
    options = {broken: {"name": "b.jsonl"}, last: {"name": "e.jsonl"}}
    notes: list[str] = []
    config = resolve({**SETTINGS, "trackers": [broken, whole, "tensorboard", last], "tracker_options": options})
    train(config, tmp_path / "run", report=Report(note=notes.append))
    told = [note for note in notes if "tracker" in note]
    assert told == [
        f"the tracker {broken} failed at step 1 and is left out from there on (ConnectionError: no route to host)",
        f"the tracker {last} failed in finishing and is left out from there on (TimeoutError: still sending)",
    ]
    train(resolve({**SETTINGS, "trackers": []}), tmp_path / "alone")
    records, alone = (metrics.read(tmp_path / run / "metrics.jsonl") for run in ("run", "alone"))
    for record in (*records, *alone):
        assert record.pop("seconds")["total"] > 0
    assert records == alone
    *lines, end = (tmp_path / "run" / "lines.jsonl").read_text().splitlines()
    assert end == "{}"
    shown = board(tmp_path / "run")
    for record, line in zip(records, map(json.loads, lines), strict=True):
        assert line["kl_ref"] == record["kl_ref"]
        assert line["samples"] > 0
        assert shown[record["step"]]["kl_ref"] == pytest.approx(record["kl_ref"])
    assert not (tmp_path / "alone" / "tensorboard").exists()
    printed = capsys.readouterr()
    assert (printed.out, printed.err.count("started with 3")) == ("", 3)


def test_a_run_that_was_interrupted_leaves_each_step_once(own: str, tmp_path: Path) -> None:
    def stop(record: dict[str, Any]) -> None:
        if record["step"] == 1:
            raise StopError

    config = resolve({**SETTINGS, "trackers": ["tensorboard", f"{own}:Lines"]})
    with pytest.raises(StopError):
        train(config, tmp_path / "run", report=Report(step=stop))
    assert sorted(board(tmp_path / "run")) == [0, 1]  # the newest checkpoint is that after step 0
    train(config, tmp_path / "run")
    records = metrics.read(tmp_path / "run" / "metrics.jsonl")
    assert [record["step"] for record in records] == sorted(board(tmp_path / "run")) == [0, 1, 2]
    lines = [json.loads(line) for line in (tmp_path / "run" / "lines.jsonl").read_text().splitlines()]
    assert [line.get("step") for line in lines] == [0, 1, 2, None]


def test_a_tracker_that_does_not_start_ends_the_run_before_its_first_step(own: str, tmp_path: Path) -> None:
    started = Tracking({f"{own}:Lines": {}, f"{own}:BreaksAtOnce": {}}, pytest.fail)
    with pytest.raises(InputError, match=r"^tracker: got 'own_.*', allowed: one that starts \(PermissionError: not"):
        started.start({"steps": 1}, tmp_path, 0)
    assert (tmp_path / "lines.jsonl").read_text() == "{}\n"  # finished
    with pytest.raises(InputError, match="one that starts"):
        train(resolve({**SETTINGS, "trackers": [f"{own}:BreaksAtOnce"]}), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--tracker", "OWN:Needs"], "missing: the package no_such_package_for_a_tracker is not installed"),
        (["--tracker", "tensorbord"], "tensorboard, wandb, trackio, or module:object (close: tensorboard)"),
        (["--tracker", "OWN:Half"], "a class with start, log and finish (log, finish missing)"),
        (["--tracker", "wandb", "--tracker", "wandb"], "trackers: got ['wandb', 'wandb'], allowed: each tracker once"),
        (["--set", "tracker_options={tensorboard: {x: 1}}"], "tracker_options.tensorboard: got {'x': 1}"),
        (["--set", "tracker_options={trackio: {}}"], "tracker_options: got 'trackio', allowed: options of this run's"),
    ],
)
def test_a_tracker_that_cannot_be_is_refused_before_anything_starts(
    own: str, flags: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [flag.replace("OWN", own) for flag in flags]
    with pytest.raises(SystemExit) as stop:
        main(["llm", "train", *given, "--engine", "transformers", "--steps", "1", "--out", str(tmp_path / "run")])
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_the_flags_and_older_configurations_name_the_same_trackers(own: str) -> None:
    from sharpen.cli.llm.train import nested, resolved
    from sharpen.cli.shared.options import ObjectiveFlags

    def tracked(**flags: Any) -> dict[str, dict[str, Any]]:
        return resolved(ObjectiveFlags(), nested(flags), None, None, []).tracking

    assert tracked() == {"tensorboard": {}}
    assert tracked(wandb="sums") == {"tensorboard": {}, "wandb": {"project": "sums"}}
    assert tracked(tracker=["trackio", f"{own}:Lines"]) == {"trackio": {}, f"{own}:Lines": {}}
    assert tracked(tracker=["wandb"], wandb="sums") == {"wandb": {"project": "sums"}}
    older = TrainConfig(wandb="sums").model_dump(mode="json")
    del older["trackers"], older["tracker_options"]  # as before there was a choice
    assert TrainConfig.model_validate(older).tracking == tracked(wandb="sums")
    with pytest.raises(ValueError, match=r"wandb: got 'sums', allowed: the project of tracker_options, others"):
        TrainConfig(wandb="sums", tracker_options={"wandb": {"project": "others"}})


PART = """
import sys
from pathlib import Path
from sharpen.llm.trackers import Tracking

first, last = map(int, sys.argv[1:])
tracking = Tracking({"trackio": {"project": "sums"}}, sys.exit)
tracking.start({"steps": 4}, Path("."), first)
for step in range(first, last):
    tracking.log({"step": step, "kl_ref": step / 4}, [])
tracking.finish()
"""


def test_trackio_itself_has_each_step_once(tmp_path: Path) -> None:
    pytest.importorskip("trackio", reason="an extra: pip install '.[trackio]'")
    surroundings = os.environ | {"TRACKIO_DIR": str(tmp_path / "store")}
    for span in (("0", "3"), ("1", "4")):
        done = subprocess.run(
            [sys.executable, "-c", PART, *span], cwd=tmp_path, env=surroundings, capture_output=True, text=True
        )
        assert (done.returncode, done.stdout) == (0, ""), done.stderr
    (file,) = (tmp_path / "store").glob("*.db")
    rows = sqlite3.connect(file).execute("SELECT run_name, step, metrics FROM metrics ORDER BY step").fetchall()
    assert len({name for name, _, _ in rows}) == 1
    assert [(step, json.loads(kept)) for _, step, kept in rows] == [(step, {"kl_ref": step / 4}) for step in range(4)]
