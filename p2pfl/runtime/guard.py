"""Blobs that are here without the protocol knowing: they must outlive a collection."""

from __future__ import annotations


class Guard:
    """Blobs that must not be collected although the protocol does not know of them yet."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}

    def add(self, digest: str) -> None:
        """Guard *digest* once more."""
        self._counts[digest] = self._counts.get(digest, 0) + 1

    def release(self, digest: str) -> None:
        """Take one guard of *digest* away."""
        self._counts[digest] -= 1
        if not self._counts[digest]:
            del self._counts[digest]

    def holds(self, digest: str) -> bool:
        """Whether *digest* is guarded; may be asked from any thread."""
        return digest in self._counts
