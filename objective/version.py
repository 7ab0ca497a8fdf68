"""Which version of this program runs."""

from __future__ import annotations

from importlib import metadata

DISTRIBUTION = "sharpen-rl"
try:
    VERSION = metadata.version(DISTRIBUTION)
except metadata.PackageNotFoundError:  # a checkout on the path that nobody installed
    VERSION = "0+unknown"
