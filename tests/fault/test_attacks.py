"""The attack table: what everybody can do who is not trusted with everything, and who must say so.

Each row is performed on the real stack. Everybody who could notice looks, and what they report must be exactly what the
row says: the type, the chain, the place in it, and nothing else.
"""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.fault
