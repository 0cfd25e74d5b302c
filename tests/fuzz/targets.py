"""All fuzz targets by their names."""

from __future__ import annotations

from typing import Final

from fuzz import evidence, records, signed, trees
from fuzz.target import Target, by_name

TARGETS: Final[dict[str, Target]] = by_name((*signed.TARGETS, *trees.TARGETS, *records.TARGETS, *evidence.TARGETS))
