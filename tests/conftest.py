"""Settings that every test shares."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

# CI machines are shared and slow at times: a deadline would measure them, not the code. The same examples on every
# run, so that a red run can be repeated.
settings.register_profile(
    "sharpen", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)
settings.load_profile("sharpen")
