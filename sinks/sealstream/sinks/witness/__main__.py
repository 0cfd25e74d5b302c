"""Runs the witness by itself: ``python -m sealstream.sinks.witness``. ``sealstream witness`` is the same."""

import sys

from sealstream.sinks.witness.service import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
