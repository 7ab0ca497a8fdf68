"""Files and folders that this program makes: whole or not at all, and nothing else is ever deleted."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from sharpen.objective import InputError
from sharpen.objective.storage import files

FullDisk = Callable[[int], AbstractContextManager[None]]
LIMIT = 50_000  # bytes of a file, for a disk that is full


def tree(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def test_a_full_disk_is_one_line_that_names_the_file_and_leaves_what_was_there(
    tmp_path: Path, full_disk: FullDisk
) -> None:
    file = tmp_path / "result.json"
    files.write(file, "old")
    with full_disk(LIMIT), pytest.raises(InputError, match=r"^file: got '.*result\.json'.*File too large") as refused:
        files.write(file, "x" * 2 * LIMIT)
    assert "\n" not in str(refused.value)
    assert file.read_text() == "old"
    assert tree(tmp_path) == ["result.json"]


def test_lines_that_do_not_fit_are_taken_back(tmp_path: Path, full_disk: FullDisk) -> None:
    file = tmp_path / "records.jsonl"
    files.append(file, ["one\n", "two\n"])
    with full_disk(LIMIT), pytest.raises(InputError, match=r"records\.jsonl"):
        files.append(file, ["three\n", "x" * 2 * LIMIT])
    assert file.read_text() == "one\ntwo\n"
    files.append(file, ["three\n"])
    assert file.read_text() == "one\ntwo\nthree\n"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_no_space_left(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"/dev/full.*No space left on device"):
        files.append(Path("/dev/full"), ["x\n"])


def test_errors_of_libraries_in_rust_are_known_too(tmp_path: Path, full_disk: FullDisk) -> None:
    from safetensors.numpy import save_file

    numpy = pytest.importorskip("numpy")
    file = tmp_path / "model.safetensors"
    with full_disk(LIMIT), pytest.raises(InputError, match=r"model\.safetensors.*File too large"):  # noqa: SIM117
        with files.replacing(file) as part:
            save_file({"x": numpy.zeros(LIMIT)}, part)
    assert tree(tmp_path) == []


def test_what_is_no_matter_of_files_passes_unchanged(tmp_path: Path) -> None:
    with pytest.raises(KeyError), files.replacing(tmp_path / "x"):
        raise KeyError
    assert tree(tmp_path) == []


@pytest.mark.parametrize("name", ["n" * 5000, "file/below", "/proc/nowhere/x"])
def test_places_that_cannot_be_written(name: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(InputError, match=r"^out: got .*a place that can be written"):
        files.write(tmp_path / name, "x", "out")
    with pytest.raises(InputError, match=r"^out: got .*a place that can be written"), files.new_folder(tmp_path / name):
        pass
    assert tree(tmp_path) == ["file"]


def test_a_link_stays_and_its_target_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "link.json").symlink_to("disk/real.json")
    files.write(tmp_path / "link.json", "1")
    assert (tmp_path / "link.json").is_symlink()
    assert (tmp_path / "disk" / "real.json").read_text() == "1"


def make(folder: Path, content: str = "a") -> None:
    with files.new_folder(folder) as part:
        (part / "inner").mkdir()
        (part / "inner" / "a.txt").write_text(content)
        (part / "b.txt").write_text("b")


def test_a_folder_is_there_whole_with_the_hashes_of_its_files(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(ZeroDivisionError), files.new_folder(out) as part:
        (part / "b.txt").write_text(str(1 / len(list(part.glob("none")))))
    assert tree(tmp_path) == []
    make(out)
    assert tree(out) == ["b.txt", "inner", "inner/a.txt", files.LISTING]
    assert files.damage(out) is None
    (out / "inner" / "a.txt").write_text("z")  # of the same size
    assert files.damage(out) == "inner/a.txt is not what was written: its SHA-256 differs"
    assert files.damage(out, ignoring="inner/*") is None
    (out / "inner" / "a.txt").write_text("zz")
    assert files.damage(out) == "inner/a.txt has 2 bytes instead of 1"
    (out / "inner" / "a.txt").unlink()
    assert "cannot be read" in str(files.damage(out))
    (out / files.LISTING).write_text('{"../x": {"bytes": 1, "sha256": ""}}')
    assert files.listed(out) is None  # a listing cannot name what is elsewhere


def test_a_folder_is_replaced_only_as_far_as_it_was_written_here(tmp_path: Path) -> None:
    out = tmp_path / "out"
    make(out, "first")
    make(out, "second")
    assert (out / "inner" / "a.txt").read_text() == "second"
    assert tree(tmp_path) == ["out", *(f"out/{name}" for name in tree(out))]
    (out / "notes.txt").write_text("mine")
    make(out, "third")
    assert (out / "inner" / "a.txt").read_text() == "third"
    (aside,) = tmp_path.glob("out.*.aside")
    assert (aside / "notes.txt").read_text() == "mine"
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "thesis.tex").write_text("years")
    make(tmp_path / "theirs")
    (aside,) = tmp_path.glob("theirs.*.aside")
    assert tree(aside) == ["thesis.tex"]


def test_deleting_leaves_what_others_put_there(tmp_path: Path) -> None:
    out, elsewhere = tmp_path / "run", tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "metrics.jsonl").write_text("not here")
    make(out / "checkpoints" / "step_000002")
    (out / "checkpoints" / "step_000002" / "inner" / "mine.txt").write_text("mine")
    make(out / "checkpoints" / "step_000004")
    (out / "tensorboard").mkdir()
    for name in ("metrics.jsonl", "notes.md", "tensorboard/events.1", ".x.0123456789ab.part"):
        (out / name).write_text(name)
    (out / "checkpoints" / "last").symlink_to("step_000004")
    (out / "tensorboard" / "linked").symlink_to(elsewhere)
    files.remove_made(out, ["metrics.jsonl", "tensorboard/events.*", "checkpoints/last"])
    assert tree(out) == [
        "checkpoints",
        "checkpoints/step_000002",
        "checkpoints/step_000002/inner",
        "checkpoints/step_000002/inner/mine.txt",
        "notes.md",
        "tensorboard",
        "tensorboard/linked",
    ]
    assert tree(elsewhere) == ["metrics.jsonl"]


def test_only_marked_folders_are_leftovers(tmp_path: Path) -> None:
    mine, ours = tmp_path / ".out.0123456789ab.part", tmp_path / ".out.ba9876543210.part"
    mine.mkdir()
    (mine / "f").write_text("p")
    ours.mkdir()
    (ours / files.UNFINISHED).touch()
    (ours / "half").write_text("x")
    (tmp_path / "out.part").mkdir()
    (tmp_path / ".outer.0123456789ab.part").write_text("of another target")
    files.remove_leftovers(tmp_path, "out")
    assert tree(tmp_path) == [mine.name, f"{mine.name}/f", ".outer.0123456789ab.part", "out.part"]


def test_scratch_and_work_folders(tmp_path: Path) -> None:
    with files.scratch(tmp_path / "verify-x") as folder:
        assert tree(folder) == [files.UNFINISHED]
        with pytest.raises(InputError, match="no other process"), files.scratch(tmp_path / "verify-x"):
            pass
    assert tree(tmp_path) == []
    theirs = tmp_path / "work"
    theirs.mkdir()
    (theirs / "f").write_text("p")
    files.own_folder(theirs)
    files.remove_own(theirs)
    assert tree(theirs) == ["f"]
    files.own_folder(tmp_path / "ours")
    files.remove_own(tmp_path / "ours")
    assert tree(tmp_path) == ["work", "work/f"]


def test_what_the_system_said() -> None:
    assert files.why_not(OSError("Cannot call rmtree on a symbolic link")) == "Cannot call rmtree on a symbolic link"
    assert files.why_not(OSError(errno.EROFS, os.strerror(errno.EROFS))) == "Read-only file system"
    assert files.why_not(KeyError("x")) is None
