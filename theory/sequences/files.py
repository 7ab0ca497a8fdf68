"""Sequence models from files: a transition matrix with its stop probabilities."""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy import sparse

from sharpen.objective import InputError
from sharpen.objective.storage import files
from sharpen.objective.storage.parsing import NUMBERS, reason
from sharpen.objective.storage.reading import check_archive, read_json, read_npy, read_text
from sharpen.theory.sequences.model import MarkovModel

FORMS = ".npy, .csv or .json, or .npz for a sparse matrix"


def from_files(transition: str | Path, stop: str | Path | None = None, start: int | ArrayLike = 0) -> MarkovModel:
    """Return the model whose matrix and stop probabilities are in files.

    Args:
        transition: A: a .npy array, a .csv of n rows, a .json list of n lists, or a .npz as ``scipy.sparse.save_npz``
            writes it; shape [n, n].
        stop: e, shape [n], as .npy, .csv or .json; without it the stop takes what each row of A leaves of 1.
        start: See :class:`MarkovModel`.

    Raises:
        InputError: a file cannot be read, or the numbers are no model; the message names the row.
    """
    matrix = _read(transition, "transition")
    if np.ndim(matrix) != 2:
        raise InputError("transition", f"shape {list(np.shape(matrix))}", "a square matrix, shape [n, n]")
    if stop is not None:
        vector = _read(stop, "stop")
        return MarkovModel(matrix, vector if sparse.issparse(vector) else np.ravel(vector), start)
    rows = np.asarray(matrix.sum(axis=1)).ravel()
    if not np.all(np.isfinite(rows)):  # else the stop, which is computed here, would be blamed
        wrong = int(np.flatnonzero(~np.isfinite(rows))[0])
        raise InputError(f"transition row {wrong}", float(rows[wrong]), "probabilities >= 0")
    left = 1.0 - rows
    left[np.abs(left) < 1e-12] = 0.0  # rows that are full but for rounding
    return MarkovModel(matrix, left, start)


def to_files(model: MarkovModel, prefix: str | Path) -> tuple[Path, Path]:
    """Write a model's matrix to PREFIX.npz and its stop probabilities to PREFIX-stop.npy; return both paths.

    :func:`from_files` reads them. The order of states is the model's, a start state is not kept.

    Raises:
        InputError: the files cannot be written.
    """
    base = Path(prefix)
    matrix, stop = base.with_name(base.name + ".npz"), base.with_name(base.name + "-stop.npy")
    with files.replacing(matrix, "policy") as part, part.open("wb") as stream:
        sparse.save_npz(stream, sparse.csr_array(model.transition))
    with files.replacing(stop, "policy") as part, part.open("wb") as stream:
        np.save(stream, model.stop)
    return matrix, stop


def _read(file: str | Path, name: str) -> Any:
    path = Path(file)
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise InputError(name, str(file), f"a file that ends in {FORMS}")
    try:
        return reader(path, name)
    except InputError:
        raise
    except (OSError, ValueError, KeyError, TypeError, OverflowError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise InputError(name, str(file), f"a readable file of numbers ({reason(error)})") from error


def _read_npy(path: Path, name: str) -> Any:
    return np.asarray(read_npy(path, name), dtype=np.float64)


def _read_npz(path: Path, name: str) -> Any:
    check_archive(path, name)
    matrix = sparse.csr_array(sparse.load_npz(path))
    matrix.check_format(full_check=True)  # indices beyond the matrix would be read from whatever memory is there
    return matrix


def _read_csv(path: Path, name: str) -> Any:
    return np.loadtxt(io.StringIO(read_text(path, name, NUMBERS)), delimiter=",", ndmin=2)


def _read_json(path: Path, name: str) -> Any:
    return np.array(read_json(path, name, NUMBERS), dtype=np.float64)


READERS: dict[str, Callable[[Path, str], Any]] = {
    ".npy": _read_npy,
    ".npz": _read_npz,
    ".csv": _read_csv,
    ".json": _read_json,
}
