"""The epochs whose rounds are recomputed: that of the settings, and the one before as long as rounds of it are left.

Stores and notaries come to an epoch's end chain by chain. So rounds of the new epoch may stand before the last ones of
the old one, though never in one round. The topics of the old one are opened only once a round needs them.
"""

from __future__ import annotations

from collections.abc import Callable

from sealstream.sinks.witness.recomputing.sources import Sources


class Epochs:
    """What is read of each epoch.

    Arguments:
        newest: The epoch of the settings.
        open_older: Opens the one before; returns ``None`` if there is none, or its topics are not there.
    """

    def __init__(self, newest: Sources, open_older: Callable[[], Sources | None]) -> None:
        self.newest = newest
        self.needed = False
        """Whether the one before was asked for since this was cleared."""
        self._open_older = open_older
        self._older: Sources | None = None

    def older(self) -> Sources | None:
        """Return the epoch before, opened if it is not.

        Raises:
            InstanceDiffers: Its topics do not fit together.
            Unreachable: Kafka does not answer.
        """
        self.needed = True
        if self._older is None:
            self._older = self._open_older()
        return self._older

    def let_go(self) -> None:
        """Close the epoch before; it is opened again if it is needed again."""
        older, self._older = self._older, None
        if older is not None:
            older.close()

    def close(self) -> None:
        """Close all connections."""
        self.let_go()
        self.newest.close()
        self.newest.violations.close()  # one topic for all epochs
