"""A storage in memory, for tests that are about what stands in it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from sealstream.schemas.errors import ObjectMissing


@dataclass
class MemoryObjects:
    """A storage in memory; read and written as any other."""

    files: dict[str, bytes] = field(default_factory=dict[str, bytes])
    gets: int = 0

    def get(self, path: str, *, bytes_max: int = 2**25) -> bytes:
        """Return an object."""
        self.gets += 1
        try:
            data = self.files[path]
        except KeyError:
            raise ObjectMissing(f"there is no {path}") from None
        assert len(data) <= bytes_max
        return data

    def get_many(self, paths: Iterable[str], *, bytes_max: int = 2**25) -> Iterator[bytes | None]:
        """Yield objects, ``None`` for each that is missing."""
        yield from (self.get(path, bytes_max=bytes_max) if path in self.files else None for path in paths)

    def put(self, path: str, data: bytes) -> None:
        """Write an object."""
        self.files[path] = data

    def put_many(self, files: Iterable[tuple[str, bytes]], *, write_once: bool = False) -> None:
        """Write objects."""
        del write_once
        self.files.update(files)

    def delete_many(self, paths: Iterable[str]) -> None:
        """Delete objects."""
        for path in paths:
            self.files.pop(path, None)

    def delete_below(self, prefix: str) -> None:
        """Delete the objects below a path."""
        self.delete_many(self.list(f"{prefix}/"))

    def sync(self) -> None:
        """Do nothing: there is no disk."""

    def list(self, prefix: str) -> list[str]:
        """Return the paths below a prefix."""
        return sorted(path for path in self.files if path.startswith(prefix))
