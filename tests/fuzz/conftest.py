"""Property tests run here as in ``tests/unit``: the same examples every time."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("same", derandomize=True, database=None, deadline=None)
settings.register_profile("explore", parent=settings.get_profile("default"), deadline=None, print_blob=True)
if settings.get_current_profile_name() == "default":
    settings.load_profile("same")
