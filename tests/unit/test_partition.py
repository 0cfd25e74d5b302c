"""The partitioner is Kafka's: the values are those of Kafka's own tests, and what a Kafka client computes."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sealstream.kafka.client import PARTITIONER
from sealstream.kafka.partition import murmur2, partition_of


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        # org.apache.kafka.common.utils.UtilsTest.testMurmur2
        (b"21", -973932308),
        (b"foobar", -790332482),
        (b"a-little-bit-long-string", -985981536),
        (b"a-little-bit-longer-string", -1486304829),
        (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
        (b"abc", 479470107),
    ],
)
def test_kafkas_own_values(key: bytes, expected: int) -> None:
    """Kafka's test suite has these hashes of these keys, as signed numbers."""
    assert murmur2(key) == expected % 2**32


def plain_murmur2(data: bytes) -> int:
    """Return murmur2 as the Java source writes it: byte by byte, with signed shifts made unsigned."""
    mask, m = 0xFFFFFFFF, 0x5BD1E995
    h = 0x9747B28C ^ len(data)
    for group in range(len(data) // 4):
        k = sum(data[4 * group + place] << 8 * place for place in range(4))
        k = k * m & mask
        k ^= k >> 24
        k = k * m & mask
        h = (h * m & mask) ^ k
    rest = data[len(data) & ~3 :]
    if rest:
        for place in reversed(range(len(rest))):
            h ^= rest[place] << 8 * place
        h = h * m & mask
    h ^= h >> 13
    h = h * m & mask
    return h ^ h >> 15


@settings(max_examples=300)
@given(st.binary(max_size=70))
def test_any_key(key: bytes) -> None:
    """The hash of any key is the one that the Java source computes, in the range of 32 bits."""
    assert murmur2(key) == plain_murmur2(key)
    assert 0 <= murmur2(key) < 2**32


@settings(max_examples=200)
@given(st.binary(max_size=70), st.integers(1, 100_000))
def test_partition(key: bytes, partitions: int) -> None:
    """A key belongs into one partition: the hash without its sign, modulo their number."""
    assert partition_of(key, partitions) == (plain_murmur2(key) & 0x7FFFFFFF) % partitions
    assert 0 <= partition_of(key, partitions) < partitions


def test_all_partitions_are_used() -> None:
    """Tenants spread over all partitions."""
    found = {partition_of(b"tenant-%d" % number, 12) for number in range(200)}
    assert found == set(range(12))


def test_clients_are_told() -> None:
    """Our own producers name this partitioner, because librdkafka's default is another one."""
    assert PARTITIONER == "murmur2_random"
