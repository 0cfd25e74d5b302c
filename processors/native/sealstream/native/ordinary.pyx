# cython: language_level=3
"""Chains ordinary records in C.

The same as ``chain_ordinary`` in ``sealstream.processors.ordinary``, which says what an ordinary record is, and which a
test holds this equal to. Whatever is not plainly so is left to Python: no error is judged here.

Every byte that is read from a record is first shown to lie within it. Indexes into lists and types are checked by
Cython; where a pointer is used instead, the sizes are compared right before.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy

from sealstream.processors.ordinary import LOG_APPEND_TIME, traceparent
from sealstream.schemas.codec import CONFLUENT_MAGIC, SALT_BYTES, SINGLE_OBJECT_MAGIC
from sealstream.schemas.entry import EVENT_ID_BYTES, PAYLOAD_PREFIX, VALUE_BYTES_MAX

cdef extern from "openssl/evp.h":
    ctypedef struct EVP_MD
    ctypedef struct EVP_MD_CTX
    EVP_MD_CTX* EVP_MD_CTX_new()
    EVP_MD* EVP_MD_fetch(void* library, const char* algorithm, const char* properties)
    int EVP_DigestInit_ex2(EVP_MD_CTX* context, const EVP_MD* kind, void* parameters)
    int EVP_DigestUpdate(EVP_MD_CTX* context, const void* data, size_t size)
    int EVP_DigestFinal_ex(EVP_MD_CTX* context, unsigned char* digest, unsigned int* size)

cdef enum:
    HASH_BYTES = 32
    TOPIC_ID_BYTES = 16
    MIDDLE_BYTES = 85  # of an entry, between the tenant and the id: seq to the size of the id
    TAIL_BYTES = 36  # of an entry, behind the id: length and payload
    REMEMBERED_BYTES = 56  # of a record in the duplicate window

cdef int64_t MILLISECONDS_MAX = 2**63 // 1000 - 1
cdef int64_t LOG_APPEND = LOG_APPEND_TIME
cdef Py_ssize_t SIZE_MAX_ = VALUE_BYTES_MAX
cdef Py_ssize_t SALT = SALT_BYTES
cdef bytes PREFIX = PAYLOAD_PREFIX
cdef bytes LEAF = b"\x00"
cdef unsigned char CONFLUENT = CONFLUENT_MAGIC
cdef unsigned char SINGLE_0 = SINGLE_OBJECT_MAGIC[0]
cdef unsigned char SINGLE_1 = SINGLE_OBJECT_MAGIC[1]
cdef unsigned char VALID[256]
cdef int _byte
for _byte in range(256):
    VALID[_byte] = bytes((_byte,)) in EVENT_ID_BYTES

# One context for all: it is used under the interpreter's lock, and by no call that gives the lock away in between.
cdef EVP_MD_CTX* CONTEXT = EVP_MD_CTX_new()
cdef EVP_MD* SHA256 = EVP_MD_fetch(NULL, b"SHA256", NULL)
if CONTEXT == NULL or SHA256 == NULL:
    raise ImportError("OpenSSL has no SHA-256")


cdef int hash_two(bytes first, bytes second, unsigned char* digest) except -1:
    """Write the SHA-256 of two byte strings, one behind the other."""
    if (
        EVP_DigestInit_ex2(CONTEXT, SHA256, NULL) != 1
        or EVP_DigestUpdate(CONTEXT, PyBytes_AS_STRING(first), PyBytes_GET_SIZE(first)) != 1
        or EVP_DigestUpdate(CONTEXT, PyBytes_AS_STRING(second), PyBytes_GET_SIZE(second)) != 1
        or EVP_DigestFinal_ex(CONTEXT, digest, NULL) != 1
    ):
        raise RuntimeError("OpenSSL failed to hash")
    return 0


cdef void put_u32(char* place, uint32_t number) noexcept:
    cdef int n
    for n in range(4):
        place[n] = <char>(number >> (24 - 8 * n) & 0xFF)


cdef void put_u64(char* place, uint64_t number) noexcept:
    cdef int n
    for n in range(8):
        place[n] = <char>(number >> (56 - 8 * n) & 0xFF)


cdef Py_ssize_t id_start(bytes value, bytes mark, Py_ssize_t* id_size) noexcept:
    """Return where an ordinary event's id begins, and its size; 0 if the value may be something else."""
    cdef const unsigned char* data = <const unsigned char*>PyBytes_AS_STRING(value)
    cdef Py_ssize_t size = PyBytes_GET_SIZE(value), mark_size = PyBytes_GET_SIZE(mark), start, end, n
    if size < 2 or size > SIZE_MAX_:
        return 0
    if data[0] == CONFLUENT:
        start = 6
    elif data[0] == SINGLE_0 and data[1] == SINGLE_1:
        start = 11
    else:
        return 0
    if size <= start or data[start - 1] & 0x81 or data[start - 1] == 0:  # more than one byte, negative, or no id
        return 0
    end = start + (data[start - 1] >> 1)
    if size < end + mark_size + SALT or memcmp(data + end, PyBytes_AS_STRING(mark), mark_size) != 0:
        return 0
    for n in range(start, end):
        if not VALID[data[n]]:
            return 0
    id_size[0] = end - start
    return start


cdef bytes pack_entry(
    bytes head, uint64_t seq, bytes prev, int64_t received, bytes topic_id, uint32_t partition, int64_t offset,
    const char* event_id, Py_ssize_t id_size, Py_ssize_t length, const unsigned char* digest,
):
    """Return an ordinary entry, as ``packer`` packs it."""
    if prev is None or len(prev) != HASH_BYTES or topic_id is None or len(topic_id) != TOPIC_ID_BYTES:
        raise ValueError("a hash or a topic's UUID has another size")
    cdef Py_ssize_t head_size = PyBytes_GET_SIZE(head)
    cdef bytes entry = PyBytes_FromStringAndSize(NULL, head_size + MIDDLE_BYTES + id_size + TAIL_BYTES)
    cdef char* place = PyBytes_AS_STRING(entry)
    memcpy(place, PyBytes_AS_STRING(head), head_size)
    place += head_size
    put_u64(place, seq)
    memcpy(place + 8, PyBytes_AS_STRING(prev), HASH_BYTES)
    put_u64(place + 40, <uint64_t>received)
    memcpy(place + 48, PyBytes_AS_STRING(topic_id), TOPIC_ID_BYTES)
    put_u32(place + 64, partition)
    put_u64(place + 68, <uint64_t>offset)
    put_u64(place + 76, 0)
    place[84] = <char>id_size
    memcpy(place + MIDDLE_BYTES, event_id, id_size)
    place += MIDDLE_BYTES + id_size
    put_u32(place, <uint32_t>length)
    memcpy(place + 4, digest, HASH_BYTES)
    return entry


cdef bytes pack_remembered(int64_t offset, int64_t received, uint64_t seq, const unsigned char* digest):
    """Return a record as the duplicate window remembers it."""
    cdef bytes packed = PyBytes_FromStringAndSize(NULL, REMEMBERED_BYTES)
    cdef char* place = PyBytes_AS_STRING(packed)
    put_u64(place, <uint64_t>offset)
    put_u64(place + 8, <uint64_t>received)
    put_u64(place + 16, seq)
    memcpy(place + 24, digest, HASH_BYTES)
    return packed


def chain_ordinary(object run not None):
    """Chain records up to the first one that is not ordinary, or that may not be."""
    cdef list records = run.records, sealed = run.sealed
    cdef dict ends = run.ends, current = run.window.current, previous = run.window.previous
    cdef bytes topic_id = run.topic_id, value, mark, namespace, head, name, entry, prev
    cdef tuple timestamp
    cdef object record, key, end, link, offset_of
    cdef int64_t turn = run.window.turn, position = run.position, received = run.received, offset, milliseconds
    cdef uint32_t partition = run.partition
    cdef uint64_t seq
    cdef Py_ssize_t index = run.index, start, id_size = 0
    cdef unsigned char digest[HASH_BYTES]
    cdef unsigned char leaf[HASH_BYTES]
    while index < len(records):
        record = records[index]
        key, value, offset_of, timestamp = record.key(), record.value(), record.offset(), record.timestamp()
        end = ends.get(key)
        if end is None:
            end = run.enter(key)
        head, mark, namespace = end.head, end.mark, end.namespace
        if not head or not mark or namespace is None or value is None or offset_of is None:
            break
        offset, milliseconds = offset_of, timestamp[1]
        if offset < position or offset >= turn or <int64_t>timestamp[0] != LOG_APPEND:
            break
        if milliseconds < 0 or milliseconds > MILLISECONDS_MAX:
            break
        start = id_start(value, mark, &id_size)
        if start == 0:
            break
        name = namespace + PyBytes_FromStringAndSize(PyBytes_AS_STRING(value) + start, id_size)
        if name in current or name in previous:
            break
        link = end.link
        seq, prev, received = link.seq, link.hash, milliseconds * 1000
        hash_two(PREFIX, value, digest)
        current[name] = pack_remembered(offset, received, seq, digest)
        entry = pack_entry(
            head, seq, prev, received, topic_id, partition, offset, PyBytes_AS_STRING(value) + start, id_size,
            PyBytes_GET_SIZE(value), digest,
        )
        hash_two(LEAF, entry, leaf)
        link.seq, link.hash = seq + 1, PyBytes_FromStringAndSize(<char*>leaf, HASH_BYTES)
        sealed.append((link.name, value, entry, traceparent(record)))
        position, index = offset + 1, index + 1
    run.position, run.received, run.index = position, received, index
