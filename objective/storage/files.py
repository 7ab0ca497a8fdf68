"""Files and folders that this program makes: there whole or not at all, and deleted only where it made them itself.

A file or folder that is being written has a name that no other process and no user gives
(``.<name>.<12 hexadecimal digits>.part``) and gets its own by a rename, once it is on the disk. A folder that was
written whole holds ``sharpen-files.json``, the size and SHA-256 of each file in it: its mark, by which what was damaged
is found and by which nothing but what was written is deleted.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import shutil
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from sharpen.objective.errors import InputError
from sharpen.objective.storage import lock

LISTING = "sharpen-files.json"
UNFINISHED = ".sharpen-unfinished"  # marks a folder that holds work in progress, and nothing of anybody else
_TEMPORARY = re.compile(r"\..+\.[0-9a-f]{12}\.part")


def why_not(error: BaseException) -> str | None:
    """Return what the operating system said, or None for an error that is not of files.

    Libraries written in Rust (safetensors, tokenizers) have exceptions of their own, whose text ends in the number.

    Example:
        >>> import errno, os
        >>> why_not(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
        'No space left on device'
        >>> why_not(ValueError("I/O error: No space left on device (os error 28)"))
        'No space left on device'
        >>> why_not(ValueError("x"))
    """
    if isinstance(error, OSError):
        return error.strerror or str(error) or type(error).__name__
    found = re.search(r"\(os error (\d+)\)", str(error))
    return os.strerror(int(found[1])) if found else None


@contextmanager
def naming(path: Path, field: str = "file") -> Iterator[None]:
    """Turn an error of the operating system inside (disk full, no permission, …) into one line that names ``path``.

    Raises:
        InputError: a file could not be written.
    """
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        reason = why_not(error)
        if reason is None:
            raise
        raise InputError(field, str(path), f"a place that can be written ({reason})") from error


@contextmanager
def replacing(file: Path, field: str = "file") -> Iterator[Path]:
    """Give a new file's path, to write to inside; at the end it becomes ``file``, durably, and else it is removed.

    The folder of ``file`` is made. A symbolic link stays, and what it points to is replaced.

    Raises:
        InputError: it could not be written; ``file`` is as it was.
    """
    target = Path(os.path.realpath(file))
    part = target.with_name(_temporary(target.name))
    try:
        with naming(file, field):
            target.parent.mkdir(parents=True, exist_ok=True)
            part.touch(exist_ok=False)
            yield part
            _flush(part)
            part.replace(target)
            _flush(target.parent)
    except BaseException:
        with suppress(OSError):
            part.unlink()
        raise


def write(file: Path, content: str | bytes, field: str = "file") -> None:
    """Write a file so that a reader, or a run after a kill, sees all of it or what was there before.

    Raises:
        InputError: it could not be written; ``file`` is as it was.
    """
    with replacing(file, field) as part:
        part.write_bytes(content.encode("utf-8") if isinstance(content, str) else content)


def append(file: Path, lines: Iterable[str]) -> None:
    """Append lines and make them durable: a later kill, or a crash of the machine, keeps them.

    Raises:
        InputError: they could not be written; ``file`` is as it was.
    """
    content = "".join(lines).encode("utf-8")
    with naming(file):
        handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        try:
            before = os.fstat(handle).st_size
            try:
                written = 0
                while written < len(content):
                    written += os.write(handle, content[written:])
                os.fsync(handle)
            except BaseException:
                with suppress(OSError):
                    os.ftruncate(handle, before)
                raise
        finally:
            os.close(handle)


@contextmanager
def new_folder(final: Path, field: str = "out") -> Iterator[Path]:
    """Give a new folder, to fill inside; at the end it becomes ``final``, durably, and else it is removed.

    An earlier folder there that this function made is deleted, its own files only; if it holds others too, it gets
    another name. A symbolic link stays, and what it points to is replaced.

    Raises:
        InputError: it could not be written; ``final`` is as it was.
    """
    target = Path(os.path.realpath(final))
    part = target.with_name(_temporary(target.name))
    try:
        with naming(final, field):
            part.mkdir(parents=True)
            (part / UNFINISHED).touch()
            yield part
            write(part / LISTING, json.dumps(listing(part), indent=1) + "\n")
            (part / UNFINISHED).unlink()  # only now: at every moment the folder has one mark or the other
            for path in (*part.rglob("*"), part):  # a rename may reach the disk before the contents
                _flush(path)
            _make_way(target)
            part.rename(target)
            _flush(target.parent)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise


@contextmanager
def scratch(name: Path, field: str = "out") -> Iterator[Path]:
    """Give an empty folder beside ``name``, deleted at the end, or by the next call after a kill.

    Raises:
        InputError: it could not be made, or another process has one of that name.
    """
    with naming(name, field):
        name.parent.mkdir(parents=True, exist_ok=True)
        own = lock.take(name.with_name(f".{name.name}.lock"))
    if own is None:
        raise InputError(field, str(name), "a folder that no other process is working in")
    part = name.with_name(_temporary(name.name))
    try:
        with naming(name, field):
            remove_leftovers(name.parent, name.name)
            own_folder(part)
        yield part
    finally:
        remove_own(part)
        own.release()


def own_folder(folder: Path) -> None:
    """Make a folder that belongs to this program, and mark it; one that was there before stays as it is.

    Raises:
        InputError: it could not be made.
    """
    with naming(folder):
        if not folder.is_dir():
            folder.mkdir(parents=True)
            (folder / UNFINISHED).touch()


def remove_own(folder: Path) -> None:
    """Delete a folder that :func:`own_folder` made; any other is left alone."""
    if (folder / UNFINISHED).is_file() and not folder.is_symlink():
        shutil.rmtree(folder, ignore_errors=True)


def _make_way(target: Path) -> None:
    if target.is_dir():
        if not foreign(target):
            remove_listed(target)
        with suppress(OSError):
            target.rmdir()
    if os.path.lexists(target):
        target.rename(target.with_name(f"{target.name}.{secrets.token_hex(6)}.aside"))


def listing(folder: Path) -> dict[str, dict[str, Any]]:
    """Return ``bytes`` and ``sha256`` of every file below ``folder``, by its path there."""
    found = sorted(path for path in folder.rglob("*") if path.is_file() and path.name not in (LISTING, UNFINISHED))
    with ThreadPoolExecutor(4) as pool:  # hashing leaves the interpreter to others
        hashes = list(pool.map(sha256, found))
    return {
        path.relative_to(folder).as_posix(): {"bytes": path.stat().st_size, "sha256": digest}
        for path, digest in zip(found, hashes, strict=True)
    }


def sha256(file: Path) -> str:
    """Return the SHA-256 of a file's content, in hexadecimal digits."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def listed(folder: Path) -> dict[str, dict[str, Any]] | None:
    """Return what a folder's :data:`LISTING` says was written there, or None without a readable one."""
    try:
        told = json.loads((folder / LISTING).read_text(encoding="utf-8"))
        known = all(isinstance(entry["bytes"], int) and isinstance(entry["sha256"], str) for entry in told.values())
        inside = all(".." not in Path(name).parts and not Path(name).is_absolute() for name in told)
        return told if known and inside else None
    except (OSError, ValueError, AttributeError, TypeError, KeyError, RecursionError):
        return None


def damage(folder: Path, ignoring: str = "") -> str | None:
    """Return what differs from what was written to a folder, in words; None if nothing does.

    Args:
        folder: One with a listing.
        ignoring: Shell pattern of files that do not matter.
    """
    told = listed(folder)
    if told is None:
        return f"{LISTING} is missing or cannot be read"
    for name, entry in told.items():
        if fnmatchcase(name, ignoring):
            continue
        file = folder / name
        try:
            size = file.stat().st_size
            if size != entry["bytes"]:
                return f"{name} has {size} bytes instead of {entry['bytes']}"
            if sha256(file) != entry["sha256"]:
                return f"{name} is not what was written: its SHA-256 differs"
        except OSError as error:
            return f"{name} cannot be read: {why_not(error)}"
    return None


def foreign(folder: Path) -> list[str]:
    """Return the files below ``folder`` that its listing does not have; all of them without a listing."""
    told = listed(folder)
    if told is None:
        return sorted(os.listdir(folder))
    paths = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_symlink() or path.is_file())
    return sorted(name for name in paths if name not in told and name != LISTING)


def remove_listed(folder: Path, pattern: str = "*") -> None:
    """Delete the files that a folder's listing has, and then the folders that are empty; other files stay.

    The listing goes last, so that after a kill the same call finishes.

    Args:
        folder: One with a listing; one without is left as it is.
        pattern: Of the files to delete; the listing keeps the others.
    """
    told = listed(folder)
    if told is None:
        return
    gone = [name for name in told if fnmatchcase(name, pattern)]
    with naming(folder):
        for name in gone:
            (folder / name).unlink(missing_ok=True)
        for place in sorted({parent for name in gone for parent in Path(name).parents}, reverse=True):
            if place != Path("."):
                with suppress(OSError):
                    (folder / place).rmdir()
        if len(gone) == len(told):
            (folder / LISTING).unlink(missing_ok=True)
            with suppress(OSError):
                folder.rmdir()
        elif gone:
            rest = {name: entry for name, entry in told.items() if name not in gone}
            write(folder / LISTING, json.dumps(rest, indent=1) + "\n")


def remove_made(folder: Path, made: Sequence[str]) -> None:
    """Delete what this program made below ``folder``, and the folders that are empty then; ``folder`` stays.

    Links are deleted, never followed. In folders with a listing only what is listed is deleted.

    Args:
        folder: A run folder whose lock this process holds.
        made: Shell patterns of the files, as paths in ``folder`` (``*`` matches ``/`` too).
    """
    _remove(folder, folder, made)


def _remove(folder: Path, root: Path, made: Sequence[str]) -> bool:
    """Return whether anything was deleted."""
    deleted = False
    for entry in sorted(folder.iterdir()):
        if entry.is_dir() and not entry.is_symlink():
            if _is_unfinished(entry):
                shutil.rmtree(entry)
            elif listed(entry) is not None:
                remove_listed(entry)
            elif _remove(entry, root, made):
                with suppress(OSError):
                    entry.rmdir()
            deleted |= not entry.exists()
        elif _TEMPORARY.fullmatch(entry.name) or _matches(entry.relative_to(root).as_posix(), made):
            entry.unlink()
            deleted = True
    return deleted


def _matches(name: str, made: Sequence[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in made)


def is_leftover(path: Path) -> bool:
    """Return whether ``path`` is a file or folder that a killed process of this program was writing."""
    if path.is_symlink() or not _TEMPORARY.fullmatch(path.name):
        return False
    return path.is_file() or _is_unfinished(path) or (path.is_dir() and not any(path.iterdir()))


def _is_unfinished(path: Path) -> bool:
    known = (path / UNFINISHED).is_file() or listed(path) is not None
    return bool(_TEMPORARY.fullmatch(path.name)) and path.is_dir() and known


def remove_leftovers(folder: Path, name: str | None = None) -> None:
    """Delete what killed processes were writing in ``folder``; nobody else may be writing there now.

    Args:
        folder: Where; one that does not exist has none.
        name: Only what was to become this; None for everything.
    """
    for path in folder.iterdir() if folder.is_dir() else ():
        own = name is None or (path.name.startswith(f".{name}.") and len(path.name) == len(_temporary(name)))
        if own and is_leftover(path):
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()


def _temporary(name: str) -> str:
    return f".{name}.{secrets.token_hex(6)}.part"


def _flush(path: Path) -> None:
    """Make a file's content, or the names in a folder, durable."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
