"""The user's cache of models that were converted from GGUF files: each is converted once and is a local folder then.

The cache is ``$SHARPEN_CACHE``, else ``$XDG_CACHE_HOME/sharpen``, else ``~/.cache/sharpen``. A folder in it is there
whole or not at all: it is made under another name, by one process while others wait, and what a killed process left is
removed by the next. ``sharpen-source.json`` in it says what it was made of.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sharpen.llm.models import conversion, packaged
from sharpen.llm.models.folder import ModelFolderError
from sharpen.llm.models.packaged import PACKAGED
from sharpen.objective import InputError, MissingError
from sharpen.objective.storage import files, lock

SOURCE = "sharpen-source.json"
FORMAT = 1  # of the conversion; folders of another are made again
GGUF = ".gguf"
SHORT = 12  # hexadecimal digits that tell folders apart
Note = Callable[[str], None]


def cache() -> Path:
    """Return the folder of this program's cache, which need not exist."""
    own = os.environ.get("SHARPEN_CACHE")
    if own:
        return Path(own).expanduser()
    general = os.environ.get("XDG_CACHE_HOME")
    return (Path(general) if general else Path.home() / ".cache") / "sharpen"


def is_converted(location: str) -> bool:
    """Return whether a location is of a model that has to be converted before it is read: a package or a GGUF file."""
    return location in PACKAGED or (location.endswith(GGUF) and Path(location).is_file())


def place(location: str) -> Path:
    """Return the folder that the converted model is in, or will be.

    A package's is named by the hash of its file. A user's file may be large, so its path, size and time stand for it:
    when it is replaced, another folder is made.
    """
    if location in PACKAGED:
        model = PACKAGED[location]
        stem, key = model.file.partition(".")[0], model.sha256
    else:
        file, told = Path(location).resolve(), Path(location).stat()
        stem, key = file.stem, hashlib.sha256(f"{file}:{told.st_size}:{told.st_mtime_ns}".encode()).hexdigest()
    return cache() / "models" / f"{stem}-{key[:SHORT]}"


def is_ready(location: str) -> bool:
    """Return whether the model has been converted, by the names and sizes of the folder's files; none is read."""
    folder = place(location)
    told = files.listed(folder)
    if told is None:
        return False
    try:
        form = json.loads((folder / SOURCE).read_text(encoding="utf-8"))["format"]
        return form == FORMAT and all((folder / name).stat().st_size == one["bytes"] for name, one in told.items())
    except (OSError, ValueError, KeyError, TypeError):
        return False


def folder_of(location: str) -> str:
    """Return what ``from_pretrained`` and vLLM take for a location: a GGUF file's folder, made if it has to be.

    Raises:
        InputError: it cannot be had or converted.
    """
    return str(provide(location)) if is_converted(location) else location


def lacking(location: str) -> MissingError | None:
    """Return what keeps a model from being used at once, with the command that mends it; nothing is fetched.

    Raises:
        InputError: a file is no GGUF file.
    """
    if not is_converted(location) or is_ready(location):
        return None
    name = name_of(location)
    try:
        conversion.check_reader(name)
    except MissingError as error:
        return error
    if location in PACKAGED:
        model = PACKAGED[location]
        if _own_file(model) is not None:
            return None
        size = model.size // packaged.MEGABYTE
        return MissingError("model", name, f"weights and tokenizer, {size} MB (not on this machine)", model.commands)
    with _told(name):
        conversion.check_file(Path(location))
    return None


def is_owed(error: InputError, location: str) -> bool:
    """Return whether an error is only that a package's file is to be fetched."""
    return isinstance(error, MissingError) and location in PACKAGED and error.get == PACKAGED[location].commands


def architecture(location: str) -> Any:
    """Return the transformers config of a model that is still to be converted, as its GGUF file's header says.

    Raises:
        InputError: the file is not here, or is none that transformers reads.
    """
    missing = lacking(location)
    if missing is not None:
        raise missing
    with _told(name_of(location)):
        file = _own_file(PACKAGED[location]) if location in PACKAGED else Path(location)
        assert file is not None  # nothing lacks
        return conversion.architecture(file)


def name_of(location: str) -> str:
    """Return what the user calls a model that has to be converted."""
    return PACKAGED[location].name if location in PACKAGED else location


def provide(location: str, note: Note | None = None, *, thorough: bool = False) -> Path:
    """Return the folder of the converted model, after fetching and converting it if it is not there.

    Several processes may ask at once: one works, the others wait for it.

    Args:
        location: Of a package or a GGUF file, see :func:`is_converted`.
        note: Told what is going on; None writes it to stderr.
        thorough: Read every file of a folder that is there and make it again if one is not what was written.

    Raises:
        InputError: it cannot be had, is no whole model, or there is no room for it.
    """
    folder, say = place(location), note or _tell
    if is_ready(location) and not (thorough and files.damage(folder)):
        return folder
    conversion.check_reader(name_of(location))
    with files.naming(folder, "model"):
        folder.parent.mkdir(parents=True, exist_ok=True)
    with _alone(folder, say):
        if is_ready(location) and not (thorough and files.damage(folder)):
            return folder  # another process was faster
        files.remove_leftovers(folder.parent, folder.name)
        file = _gguf_file(location, say)
        say(f"{name_of(location)}: converting {file.name} into {folder}, once")
        with files.new_folder(folder, "model") as part, _told(name_of(location)):
            conversion.convert(file, part)
            _describe(location, file, part)
        if location in PACKAGED:
            _download(PACKAGED[location]).unlink(missing_ok=True)
    return folder


def _gguf_file(location: str, say: Note) -> Path:
    """Return the GGUF file of a location, fetched if it is not here; a package's is checked by its hash."""
    if location not in PACKAGED:
        return Path(location).resolve()
    model = PACKAGED[location]
    file = _own_file(model)
    if file is None:
        packaged.fetch(model, _download(model), say)
        return _download(model)
    packaged.check(model, file)
    return file


def _own_file(model: packaged.Packaged) -> Path | None:
    """Return a package's GGUF file where it is on this machine: fetched before a kill, or installed."""
    fetched = _download(model)
    return fetched if fetched.is_file() and fetched.stat().st_size == model.size else packaged.installed(model)


def _download(model: packaged.Packaged) -> Path:
    return cache() / "downloads" / model.file


def _describe(location: str, file: Path, folder: Path) -> None:
    from importlib.metadata import version

    told = {
        "format": FORMAT,
        "source": location if location in PACKAGED else str(file),
        # A package's file was checked against it.
        "sha256": PACKAGED[location].sha256 if location in PACKAGED else files.sha256(file),
        "gguf": version("gguf"),
        "transformers": version("transformers"),
    }
    files.write(folder / SOURCE, json.dumps(told, indent=1) + "\n")


@contextmanager
def _alone(folder: Path, say: Note) -> Iterator[None]:
    """Hold the folder's lock inside, after waiting for whoever has it."""
    file = folder.with_name(f".{folder.name}.lock")
    with files.naming(folder, "model"):
        own, waited = lock.take(file), False
        while own is None:
            if not waited:
                say(f"waiting for {lock.holder(file)}, who is making {folder}")
            waited = True
            time.sleep(0.2)
            own = lock.take(file)
    try:
        yield
    finally:
        own.release()


@contextmanager
def _told(name: str) -> Iterator[None]:
    try:
        yield
    except ModelFolderError as error:
        raise InputError("model", name, f"a GGUF file of a whole model ({error})") from error


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
