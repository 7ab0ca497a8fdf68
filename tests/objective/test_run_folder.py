"""Run folders of every kind: one process at a time, only what a run made is deleted, nothing half done blocks."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from pydantic import BaseModel

from sharpen.objective import InputError
from sharpen.objective.storage import files, runfolder

MADE = ("metrics.jsonl", "parts/*.npz")


class Config(BaseModel):
    steps: int = 3


def opened(out: Path, steps: int = 3, force: bool = False) -> None:
    with runfolder.opened(out, Config(steps=steps), force, MADE):
        assert (out / runfolder.LOCK).exists()


def names(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def test_force_deletes_what_the_run_made_and_nothing_else(tmp_path: Path) -> None:
    out = tmp_path / "run"
    opened(out)
    (out / "parts").mkdir()
    for name in ("metrics.jsonl", "parts/000.npz", "notes.md", "parts/mine.txt"):
        (out / name).write_text(name)
    with pytest.raises(InputError, match="steps: 3 -> 4"):
        opened(out, 4)
    opened(out, 4, force=True)
    assert names(out) == ["config.yaml", "notes.md", "parts", "parts/mine.txt", "provenance.json"]
    assert runfolder.read_config(out, Config).steps == 4


def test_force_on_a_run_that_does_not_say_what_it_made_deletes_nothing(tmp_path: Path) -> None:
    opened(tmp_path)
    told = json.loads((tmp_path / "provenance.json").read_text())
    del told["made"]
    (tmp_path / "provenance.json").write_text(json.dumps(told))
    (tmp_path / "metrics.jsonl").write_text("x")
    with pytest.raises(InputError, match=r"^force: .*delete it yourself"):
        opened(tmp_path, 4, force=True)
    assert names(tmp_path) == ["config.yaml", "metrics.jsonl", "provenance.json"]


@pytest.mark.parametrize("dangling", [False, True])
def test_a_linked_folder_is_used_and_the_link_stays(dangling: bool, tmp_path: Path) -> None:
    target, link = tmp_path / "disk" / "run", tmp_path / "run"
    if not dangling:
        target.mkdir(parents=True)
    link.symlink_to(target)
    opened(link)
    (target / "metrics.jsonl").write_text("x")
    opened(link, 4, force=True)
    assert link.is_symlink()
    assert names(target) == ["config.yaml", "provenance.json"]


def test_a_loop_of_links_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(InputError, match=r"^out: got"):
        opened(tmp_path / "a")


@pytest.mark.parametrize("out", ["x" * 5000, "d/" * 2500, "a_file/run", "/proc/nowhere/run"])
def test_places_that_cannot_be_written(out: str, tmp_path: Path) -> None:
    (tmp_path / "a_file").write_text("mine")
    with pytest.raises(InputError, match=r"^out: got") as refused:
        opened(tmp_path / out)
    assert "\n" not in str(refused.value)
    assert names(tmp_path) == ["a_file"]


def test_what_a_kill_leaves_blocks_nothing(tmp_path: Path) -> None:
    """A folder, a lock and a provenance.json of which only the beginning was written."""
    for name in (".lock", ".provenance.json.0123456789ab.part"):
        (tmp_path / name).write_text("{")
    opened(tmp_path)
    assert names(tmp_path) == ["config.yaml", "provenance.json"]
    (tmp_path / "config.yaml").unlink()  # killed between the two
    opened(tmp_path)
    assert names(tmp_path) == ["config.yaml", "provenance.json"]


@pytest.mark.parametrize("name", ["provenance.json", "config.yaml"])
def test_a_disk_that_is_full_at_the_start_leaves_no_folder(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Path.write_bytes

    def full(self: Path, content: bytes) -> int:
        if f".{name}." in self.name:
            real(self, content[:5])
            raise OSError(28, os.strerror(28), str(self))
        return real(self, content)

    monkeypatch.setattr(Path, "write_bytes", full)
    out = tmp_path / "new" / "run"
    with pytest.raises(InputError, match=rf"{name}.*No space left on device"):
        opened(out)
    assert names(tmp_path) == ([] if name == "provenance.json" else ["new", "new/run", "new/run/provenance.json"])
    monkeypatch.undo()
    opened(out)
    assert names(out) == ["config.yaml", "provenance.json"]


def test_files_of_a_user_beside_a_runs_are_no_leftovers(tmp_path: Path) -> None:
    opened(tmp_path)
    (tmp_path / "provenance.json.part").write_text("mine")
    opened(tmp_path)
    assert "provenance.json.part" in names(tmp_path)
    assert not files.is_leftover(tmp_path / "provenance.json.part")


@pytest.mark.parametrize("first", [None, "metrics.jsonl"])
def test_ctrl_c_says_how_to_go_on_where_something_is_kept(first: str | None, tmp_path: Path) -> None:
    out = tmp_path / "run"

    def interrupted(write: bool) -> None:
        with runfolder.opened(out, Config(), False, MADE, first=first):
            if write:
                (out / "metrics.jsonl").write_text("1")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as nothing:
        interrupted(write=False)
    assert hasattr(nothing.value, "__notes__") == (first is None)  # else the folder is gone again
    with pytest.raises(KeyboardInterrupt) as something:
        interrupted(write=True)
    assert something.value.__notes__ == [f"{out} keeps what is done; the same command goes on from there"]
