"""The example of the schemas' README runs as it stands."""

from __future__ import annotations

import re
from pathlib import Path

README = Path(__file__).parents[2] / "schemas" / "README.md"


def test_examples_run() -> None:
    """Whoever copies the example gets what it asserts."""
    examples = re.findall(r"^```python\n(.*?)^```$", README.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    assert examples
    for example in examples:
        exec(compile(example, str(README), "exec"), {})


def test_links_lead_somewhere() -> None:
    """Each file that the page points to is there."""
    links = re.findall(r"\]\(([^)#]+)\)", README.read_text(encoding="utf-8"))
    assert links
    assert [link for link in links if not (README.parent / link).exists()] == []
