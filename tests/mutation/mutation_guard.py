"""A pytest plugin for runs on a mutated copy: the copy is what was tested, and a failing example is not made smaller.

``MUTATED`` in the environment names the modules that were changed, ``MUTATED_ROOT`` the copy.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from hypothesis import Phase, settings

NOT_TESTED = 90  # exit status of a run that never imported a changed module from the copy


def pytest_configure() -> None:
    """Replace the profile of the conftest, which is loaded by now: the first failure is all that a mutant needs."""
    settings.register_profile("mutants", settings(), phases=[Phase.explicit, Phase.generate], database=None)
    settings.load_profile("mutants")


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Refuse a verdict on code that was not the copy's."""
    root = Path(os.environ["MUTATED_ROOT"]).resolve()
    for name in os.environ["MUTATED"].split():
        file = getattr(sys.modules.get(name), "__file__", None)
        if file is None or not Path(file).resolve().is_relative_to(root):
            print(f"{name}: {file} is not in {root}")
            session.exitstatus = NOT_TESTED
