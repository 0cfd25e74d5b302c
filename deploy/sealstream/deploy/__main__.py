"""``python -m sealstream.deploy`` is the command ``sealstream``."""

import sys

from sealstream.deploy.cli import main

sys.exit(main())
