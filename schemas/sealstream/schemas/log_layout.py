"""Where the files of an instance's logs are, below the place that they are published at; ``SPEC.md`` says the same.

The root log and each chain are C2SP tlog-tiles logs with a prefix of their own.
"""

from __future__ import annotations

from typing import Final

from sealstream.schemas.errors import TreeInvalid
from sealstream.schemas.merkle import SIZE_MAX
from sealstream.schemas.tenant_name import encode_tenant
from sealstream.schemas.tiles import index_path

ROOT_PREFIX: Final = "root/"
"""Of the root log's files."""

ROOT_CHECKPOINT: Final = "root/checkpoint"
"""The latest root checkpoint that its quorum has cosigned."""

ROOT_UNWITNESSED: Final = "root/unwitnessed"
"""The latest root checkpoint, signed by the log alone: what witnesses are asked about, and no evidence by itself."""

CHAINS_PREFIX: Final = "chains/"


def coverage_path(round_number: int) -> str:
    """Return where the coverage of a round is.

    Raises:
        TreeInvalid: There is no such round.
    """
    return f"root/coverage/{_number(round_number)}"


def root_checkpoint_path(size: int) -> str:
    """Return where the cosigned root checkpoint of a size is.

    Raises:
        TreeInvalid: There is no such size.
    """
    return f"root/checkpoints/{_number(size)}"


def timestamp_path(size: int) -> str:
    """Return where the RFC 3161 response over the cosigned root checkpoint of a size is.

    Raises:
        TreeInvalid: There is no such size.
    """
    return f"root/timestamps/{_number(size)}"


def chain_prefix(chain: str) -> str:
    """Return what all paths of a chain's log begin with.

    Arguments:
        chain: The chain's name: a tenant, or ``!partition-<n>``.

    Raises:
        NameInvalid: The name is none of a chain.
    """
    return f"{CHAINS_PREFIX}{encode_tenant(chain)}/"


def _number(number: int) -> str:
    if not 0 <= number <= SIZE_MAX:
        raise TreeInvalid(f"{number} is no round and no size")
    return index_path(number)
