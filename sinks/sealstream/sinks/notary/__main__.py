"""Runs the notary by itself: ``python -m sealstream.sinks.notary``. ``sealstream notary`` is the same."""

import sys

from sealstream.sinks.notary.service import main

if __name__ == "__main__":
    sys.exit(main())
