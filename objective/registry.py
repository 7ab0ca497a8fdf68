"""One door for parts: learners, rewards, samplers, tasks, templates, trackers, built in or a user's own.

A registry holds the parts of one kind. A part is named by its built-in name, by ``module:object`` (a module that can
be imported here, also from the working folder), or by the name of an entry point in the group ``sharpen.<kind>s`` that
an installed package declares. Built-in parts are registered by the same call as a user's.
"""

from __future__ import annotations

import hashlib
import importlib
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from difflib import get_close_matches
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import Any, Generic, TypeVar

from sharpen.objective.errors import InputError

Part = TypeVar("Part")


class Registry(Generic[Part]):
    """The parts of one kind by name.

    Args:
        kind: What a part is called in messages, in the singular: ``learner``; its entry points are in
            ``sharpen.learners``.
        check: Refuses an object that is no such part by raising ``TypeError`` with what is missing; None takes any.

    Example:
        >>> greetings = Registry("greeting")
        >>> @greetings.register("hello")
        ... def hello(name):
        ...     return f"hello {name}"
        >>> greetings.get("hello")("you")
        'hello you'
        >>> greetings.get("math:gcd")(6, 4)
        2
        >>> greetings.get("helo")
        Traceback (most recent call last):
            ...
        sharpen.objective.errors.InputError: greeting: got 'helo', allowed: hello, or module:object (close: hello)
    """

    def __init__(self, kind: str, check: Callable[[object], None] | None = None) -> None:
        self.kind, self._check = kind, check
        self._parts: dict[str, Part | str] = {}
        self._makers: dict[str, str] = {}
        self._found: dict[str, Part] = {}

    def register(self, name: str, place: str | None = None) -> Callable[[Part], Part]:
        """Return a decorator that registers a part under a name.

        Args:
            name: What a configuration calls it; without a colon.
            place: ``module:object`` instead of a decorated object: it is imported when it is first asked for, so call
                the method and use nothing of what it returns.

        Raises:
            ValueError: the name is taken by another part, or holds a colon. The same definition run again, as a
                notebook's cell is, takes the place of the old one.
        """

        def refuse() -> None:
            raise ValueError(f"{self.kind}: got {name!r}, allowed: a name without a colon that is not taken")

        def keep(part: Part) -> Part:
            if name in self._parts and _definition(self._parts[name]) != _definition(part):
                refuse()
            self._parts[name] = part
            self._found.pop(name, None)
            return part

        taken = place is not None and self._parts.get(name, place) != place  # the same place again is the same part
        if ":" in name or not name or taken:
            refuse()

        if place is not None:
            self._parts[name] = place
        return keep

    def register_maker(self, prefix: str, place: str) -> None:
        """Let every name ``prefix:rest`` stand for what a function makes of the rest: parts too many to name each.

        Args:
            prefix: Of the names, before the colon; a module of that name is hidden behind it.
            place: ``module:object`` of the function, which is imported when it is first needed. It gets the rest of the
                name and returns a part, or raises ``InputError``.

        Raises:
            ValueError: the prefix is taken, or holds a colon.
        """
        if ":" in prefix or not prefix or self._makers.get(prefix, place) != place:
            raise ValueError(f"{self.kind}: got {prefix!r}, allowed: a prefix without a colon that is not taken")
        self._makers[prefix] = place

    def names(self) -> list[str]:
        """Return the names of the built-in parts, in the order of registration, and then of entry points, sorted."""
        return [*self._parts, *sorted(self._entry_points().keys() - self._parts.keys())]

    def __iter__(self) -> Iterator[str]:
        return iter(self.names())

    def __contains__(self, name: object) -> bool:
        return name in self._parts or name in self._entry_points()

    def get(self, name: str, field: str | None = None) -> Part:
        """Return the part that a name stands for.

        Args:
            name: Built-in, ``module:object``, or an entry point's.
            field: What a message calls the setting; None for the kind.

        Raises:
            InputError: there is no such part (the message lists those there are), it cannot be imported, or it is not
                of this kind.
        """
        if name in self._found:
            return self._found[name]
        field = field or self.kind
        given = self._given(name)
        if given is None:
            raise InputError(field, name, self._allowed(name))
        part = _load(given, field, name) if isinstance(given, str) else given
        if self._maker(name) is not None:
            part = part(name.partition(":")[2])
        self._refuse_other_kinds(part, field, name)
        self._found[name] = part
        return part

    def where(self, holds: Callable[[str], object]) -> list[str]:
        """Return the names of the parts of which something holds; one that cannot be had is left out.

        That is an entry point of an installed package that is broken, and is told of when it is asked for.

        Args:
            holds: Called with each name; an ``InputError`` is a no.
        """
        found = []
        for name in self.names():
            with suppress(InputError):
                if holds(name):
                    found.append(name)
        return found

    def valid(self, name: str) -> str:
        """Return the name of a part that exists: for ``Annotated[Text, AfterValidator(REGISTRY.valid)]``.

        Raises:
            ValueError: there is no such part; the field is left out, since pydantic's errors have it.
        """
        try:
            self.get(name)
        except InputError as error:
            raise ValueError(f"allowed: {error.allowed}") from error
        return name

    def name_of(self, part: Part | str, field: str | None = None) -> str:
        """Return what a configuration calls a part that is given as an object, or by its name.

        An object that is not registered is ``module:qualified name``, by which this process finds it from now on;
        another process finds it there only if it stands in a module that can be imported.

        Raises:
            InputError: there is no such part, or the object is not of this kind.
        """
        if isinstance(part, str):
            self.get(part, field)
            return part
        known = next((name for name, own in (*self._parts.items(), *self._found.items()) if own is part), None)
        if known is not None:
            return known
        self._refuse_other_kinds(part, field or self.kind, part)
        owner = _owner(part)
        name = f"{owner.__module__}:{owner.__qualname__}"
        self._found[name] = part
        return name

    def origin(self, name: str) -> dict[str, str | None] | None:
        """Return where a part that is not of this package comes from: module, file and the file's SHA-256.

        None for a built-in part; file and hash are None where the module has no file, as in a notebook.

        Raises:
            InputError: there is no such part.
        """
        part, given = self.get(name), self._given(name)
        module = given.partition(":")[0] if isinstance(given, str) else str(getattr(part, "__module__", ""))
        if module.startswith("sharpen."):
            return None
        place = getattr(sys.modules.get(module), "__file__", None)
        file = Path(place) if place is not None and Path(place).is_file() else None
        digest = None if file is None else hashlib.sha256(file.read_bytes()).hexdigest()
        return {"module": module, "file": None if file is None else str(file), "sha256": digest}

    def _given(self, name: str) -> Any:
        """Return what is registered under a name, or the place that it stands for; None: it stands for none."""
        if name in self._parts:
            return self._parts[name]
        maker = self._maker(name)
        if maker is not None:
            return maker
        points = self._entry_points()
        return points[name].value if name in points else name if ":" in name else None

    def _maker(self, name: str) -> str | None:
        """Return the place of the function that makes the part of a name; None: it is named otherwise."""
        prefix, colon, _ = name.partition(":")
        return self._makers.get(prefix) if colon else None

    def _refuse_other_kinds(self, part: object, field: str, value: object) -> None:
        if self._check is not None:
            try:
                self._check(part)
            except TypeError as error:
                raise InputError(field, value, f"a {self.kind}: {error}") from error

    def _allowed(self, name: str) -> str:
        names = self.names()
        close = get_close_matches(name, names, n=1)
        forms = ", ".join([*names, *(f"{prefix}:NAME" for prefix in self._makers)])
        return f"{forms}, or module:object" + (f" (close: {close[0]})" if close else "")

    def _entry_points(self) -> dict[str, metadata.EntryPoint]:
        return _declared(f"sharpen.{self.kind}s", tuple((place, _changed(place)) for place in sys.path))


@lru_cache
def _declared(group: str, places: tuple[tuple[str, int], ...]) -> dict[str, metadata.EntryPoint]:
    """Return the entry points of a group by name, read once for each state of the folders of ``sys.path``.

    To read them opens a file of every installed package, and one configuration asks dozens of times.
    """
    return {point.name: point for point in metadata.entry_points(group=group)}


def _changed(place: str) -> int:
    """Return when something was last installed in a folder or taken from it, in nanoseconds."""
    try:
        return os.stat(place or ".").st_mtime_ns
    except OSError:
        return 0


def _owner(part: object) -> Any:
    """Return what a part's name and module are read from: itself, or its class."""
    return part if hasattr(part, "__qualname__") else type(part)


def _definition(part: object) -> tuple[str, str]:
    """Return what tells a part's definition from others: its name, and the file that it is in."""
    owner = _owner(part)
    code = getattr(part, "__code__", None)
    module = sys.modules.get(owner.__module__)
    file = getattr(code, "co_filename", None) or getattr(module, "__file__", None) or owner.__module__
    return str(owner.__qualname__), str(Path(file).resolve()) if Path(file).is_file() else owner.__module__


def _load(place: str, field: str, name: str) -> Any:
    """Return the object at ``module:object``; the working folder is looked into as ``python -m`` would."""
    module, _, path = place.partition(":")
    if not module or not path:
        raise InputError(field, name, "module:object, the name of a module and of an object in it")
    try:
        here = str(Path.cwd())
        if here not in sys.path:
            sys.path.append(here)  # last: nothing there may hide an installed module
        found: Any = importlib.import_module(module)
        for part in path.split("."):
            found = getattr(found, part)
    except Exception as error:  # whatever a user's module raises is about that module
        reason = str(error).partition("\n")[0]
        raise InputError(field, name, f"an object that can be imported ({type(error).__name__}: {reason})") from error
    return found
