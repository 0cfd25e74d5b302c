"""``python -m sealstream.processors``: the processor, with its settings from the environment."""

import sys

from sealstream.processors.app import run
from sealstream.schemas.errors import ConfigError
from sealstream.worker.settings import load_settings

try:
    sys.exit(run(load_settings()))
except ConfigError as error:
    sys.exit(str(error))
