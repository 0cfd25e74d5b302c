"""Runs the gateway by itself: ``python -m sealstream.producers.gateway``. ``sealstream gateway`` is the same."""

import sys

from sealstream.producers.gateway.service import main

if __name__ == "__main__":
    sys.exit(main())
