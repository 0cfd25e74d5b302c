"""Runs the sink by itself: ``python -m sealstream.sinks.store``. ``sealstream sink`` is the same."""

import sys

from sealstream.sinks.store.sink import main

if __name__ == "__main__":
    sys.exit(main())
