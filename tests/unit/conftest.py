"""How property tests run: the same examples every time, so that a change and not chance makes a test fail.

``pytest tests/unit --hypothesis-profile=explore`` looks for new ones.
"""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("same", derandomize=True, database=None, deadline=None)
settings.register_profile("explore", parent=settings.get_profile("default"), deadline=None, print_blob=True)
if settings.get_current_profile_name() == "default":
    settings.load_profile("same")
