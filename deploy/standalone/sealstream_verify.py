#!/usr/bin/env python3
"""Checks a Sealstream proof file with Python 3.11 and the package `cryptography`: no network, and nothing else.

    python sealstream_verify.py FILE --policy POLICY [--rotations RECORDS] [--extract DIRECTORY]

Exit code 0: what is printed is proven. 1: the file contradicts itself, or is signed wrongly. 2: it could not be judged.
Numbers in brackets are sections of SPEC.md. Timestamps are judged by another program: README.md says how.
"""

# fmt: off
# ruff: noqa: D102, D103, D204, E401, I001, T201 - one file that prints, kept short enough to be read as a whole
import argparse, base64, hashlib, re, sys, time
from pathlib import Path
from typing import NamedTuple

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

FORGED, UNJUDGED, LARGEST, SKEW_SECONDS = 1, 2, 2**63 - 1, 300
KINDS = ("genesis", "event", "imported", "duplicate", "quarantined", "conflict", "control", "gap", "epoch")
STATEMENT = b"sealstream/statement1\n"
ROTATION = re.compile(rb"sealstream/rotation1\nold (.+)\nnew (.+)\nold-not-after (\d+)\nnew-not-before (\d+)\n")

class UnprovenError(Exception):
    """Why a proof is not believed, and the exit code."""

def refuse(when: object, why: str, code: int = UNJUDGED) -> None:
    if when:
        raise UnprovenError(why, code)
def sha256(*data: bytes) -> bytes:
    return hashlib.sha256(b"".join(data)).digest()
def unbase64(text: bytes) -> bytes:
    data = base64.b64decode(text, validate=True)
    refuse(base64.b64encode(data) != text, "a base64 is not in its one form")
    return data

class Reading:
    """Bytes that are read from their begin; numbers are big-endian."""
    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0
    def take(self, size: int) -> bytes:
        self.at += size
        refuse(self.at > len(self.data), "the file is cut")
        return self.data[self.at - size : self.at]
    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "big")
    def leb(self, place: int = 0) -> int:  # LEB128 in its shortest form [22.1]
        byte = self.number(1)
        refuse(place > 56 or (place and not byte), "a number is not in its one form")
        return byte if byte < 128 else byte - 128 + (self.leb(place + 7) << 7)
    def sized(self, most: int, width: int = 0) -> bytes:
        refuse((size := self.number(width) if width else self.leb()) > most, "a field of the file is too large")
        return self.take(size)
    def path(self, known: bytes = b"") -> list[bytes]:  # a hash that stands there already is not repeated
        found = [known] if (count := self.leb()) > 64 and known else []
        found += [self.take(32) for _ in range(min(count - 65 * len(found), 64))]
        refuse(len(found) > 63 or (known and count < 64 and known in found[:1]), "a path is not in its one form")
        return found

def climb(path: list[bytes], place: int, last: int, *values: bytes) -> list[bytes]:
    """Return the roots that a path leads to: of a tree [12.1], or of an older one and the newer one [12.2]."""
    *older, newer = values
    for sibling in path:
        refuse(not last, "a path goes on behind the root", FORGED)
        if place & 1 or place == last:
            older, newer = [sha256(b"\x01", sibling, one) for one in older], sha256(b"\x01", sibling, newer)
            while place and not place & 1:
                place, last = place >> 1, last >> 1
        else:
            newer = sha256(b"\x01", newer, sibling)
        place, last = place >> 1, last >> 1
    refuse(last, "a path ends below the root", FORGED)
    return [*older, newer]

class Key(NamedTuple):
    """A key of Ed25519 [17.1]: a log's (type 1) or a witness's (type 4)."""
    name: str
    type: int
    public: bytes
    def id(self, label: bytes = b"") -> bytes:
        return sha256(self.name.encode(), b"\n", label, bytes((self.type,)), self.public)[:4]
    def has_signed(self, text: bytes, signature: bytes) -> bool:
        at = int.from_bytes(signature[:8], "big") if self.type == 4 else 0
        if self.type == 4:  # a witness signs the time as well [18.1]
            text, signature = b"cosignature/v1\ntime %d\n%b" % (at, text), signature[8:]
        try:
            Ed25519PublicKey.from_public_bytes(self.public).verify(signature, text)
        except InvalidSignature:
            return False
        return at <= LARGEST

def key_of(vkey: str, types: bytes = b"\1\4") -> Key:
    name, number, material = vkey.split("+", 2)
    data = unbase64(material.encode())
    sound = len(data) == 33 and data[0] in types and Key(name, data[0], data[1:]).id().hex() == number
    refuse(not sound, f"{name} has no sound key of Ed25519; by others judges `sealstream verify-proof`")
    return Key(name, data[0], data[1:])

def note_of(data: bytes) -> tuple[bytes, list[tuple[tuple[str, bytes], bytes]]]:
    """Return a note's text, and of each signature the key's name and id, and the signature itself [17]."""
    text, found, rest = data.rpartition(b"\n\n")
    *lines, end = rest.split(b"\n")
    wrong = re.search("[\x00-\x09\x0b-\x1f]", data.decode()) or not found or end or not 0 < len(lines) <= 100
    refuse(wrong, "a note is malformed")
    signatures = []
    for line in lines:
        mark, name, content = line.decode().split(" ", 2)
        signature = unbase64(content.encode())
        refuse(mark != "—" or not name or re.search(r"[\s+\x00-\x1f]", name) or len(signature) < 5, "no signature")
        signatures.append(((name, signature[:4]), signature[4:]))
    return text + b"\n", signatures

class Way:
    """The way from a chain's leaf in the map up to a root checkpoint [22.1]."""
    def __init__(self, file: Reading) -> None:
        self.index, self.round, self.map_path = file.leb(), file.leb(), file.path()
        previous, length, coverage, self.chains = file.take(32), file.leb(), file.take(32), file.leb()
        self.root_path, origin, self.size, root = file.path(previous), file.sized(400_000), file.leb(), file.take(32)
        signed = [(file.sized(400_000), file.sized(400_000)) for _ in range(min(file.leb(), 101))]
        self.timestamps, self.origin, self.root = [file.sized(65_536) for _ in range(file.leb())], origin.decode(), root
        self.text = b"%b\n%d\n%b\n" % (origin, self.size, base64.b64encode(root))  # a checkpoint [18]
        lines = [b"\xe2\x80\x94 %b %b\n" % (name or origin, base64.b64encode(one)) for name, one in signed]
        self.note = self.text + b"\n" + b"".join(lines)
        text, self.signatures = note_of(self.note)
        wrong = (text, len(self.signatures)) != (self.text, len(signed)) or origin in [b"", *dict(signed)]
        refuse(wrong or b"\n" in origin or len(self.note) > 400_000 or not all(self.timestamps), "a note is malformed")
        wrong = self.index >= self.chains or self.round >= self.size or (self.round == 0) != (previous == bytes(32))
        refuse(wrong or not 25 <= length <= 4_194_304 or len(self.timestamps) > 8, "a place or round is none [15.1]")
        self.rest = previous + length.to_bytes(4, "big") + coverage + self.chains.to_bytes(8, "big")

    def check(self, key: bytes, size: int, root: bytes) -> None:
        """Climb from the chain's size and root to the root that the checkpoint says [14, 15]."""
        leaf = sha256(b"\0sealstream/map1\n", key, size.to_bytes(8, "big"), root)
        (map_root,) = climb(self.map_path, self.index, self.chains - 1, leaf)
        leaf = sha256(b"\0sealstream/round1\n", self.round.to_bytes(8, "big"), self.rest, map_root)
        refuse(climb(self.root_path, self.round, self.size - 1, leaf) != [self.root], "the way leads elsewhere", FORGED)

class Entry:
    """The entry [5]."""
    def __init__(self, data: bytes) -> None:
        file, self.hash = Reading(data), sha256(b"\0", data)
        label, self.kind, _, self.tenant = file.take(13), file.number(1), file.number(1), file.sized(64, 1)
        self.seq, self.prev, self.received, _ = file.number(8), file.take(32), file.number(8), file.take(16)
        _, self.offset, _, self.id = file.number(4), file.number(8), file.number(8), file.sized(128, 1)
        self.length, self.payload = file.number(4), file.take(32)
        refuse(label != b"sealstream1\n\x01" or self.kind >= len(KINDS) or file.at != len(data), "it has no entry")

    def check(self, payload: bytes, instance: str) -> None:
        """Refuse bytes that the entry does not commit to [6], or that say something else than it does [4.2, 7]."""
        digest = sha256(b"sealstream/payload1\n", payload)
        refuse((len(payload), digest) != (self.length, self.payload), "the payload is another one", FORGED)
        begin = b"first %d\n" % self.offset if self.kind == 7 else b"instance %b\n" % instance.encode()
        if self.kind in (1, 2, 5, 6):
            begin = payload[: {b"\0": 5, b"\xc3": 10}.get(payload[:1], 0)] or b"no frame"
            for one in (self.id, self.tenant):
                size = 2 * len(one)
                begin += (bytes((size,)) if size < 128 else bytes((size & 127 | 128, size >> 7))) + one
            begin += {1: b"\0", 2: b"\2", 6: b"\4"}.get(self.kind, payload[len(begin) :][:1])
        same = payload.startswith(begin) and (self.kind in (0, 7, 8) or len(payload) >= len(begin) + 16)
        refuse(self.kind not in (3, 4) and not same, "the payload says something else than its entry", FORGED)

class Policy:
    """Whom the reader believes [20], and which keys followed one another [21]."""
    def __init__(self, text: str, records: bytes) -> None:
        self.logs, self.names, self.rotations, self.quorum = [], {}, [], ""  # a name is a key, or (k, members)
        for line in text.splitlines():
            match line.split():
                case ["log", vkey, *_]:
                    self.logs.append(key_of(vkey, b"\1"))
                case ["witness", name, vkey, *_] if name not in {*self.names, "none"}:
                    self.names[name] = key_of(vkey, b"\4")
                case ["group", name, k, *names] if name not in {*self.names, "none"} and {*names} <= self.names.keys():
                    self.names[name] = ({"any": 1, "all": len(names)}.get(k) or int(k), names)
                    refuse(not 0 < self.names[name][0] <= len(names), f"the policy's group {name} has no sound number")
                case ["quorum", name] if not self.quorum and name in {*self.names, "none"}:
                    self.quorum = name
                case words:
                    refuse(words and not words[0].startswith("#"), f"the policy's line {line[:80]!r} is malformed")
        counted = [name for one in self.names.values() for name in ([one.public] if isinstance(one, Key) else one[1])]
        refuse(not self.quorum or len({*counted}) < len(counted), "the policy has no quorum, or counts a witness twice")
        for record in re.split(rb"^(?=sealstream/rotation1\n)", records, flags=re.MULTILINE)[1:]:
            self.add_rotation(*note_of(record))

    def add_rotation(self, text: bytes, signatures: list[tuple[tuple[str, bytes], bytes]]) -> None:
        found = ROTATION.fullmatch(text)
        refuse(not found or len(signatures) != 2, "a record of a rotation is malformed")
        old, new = key_of(found[1].decode()), key_of(found[2].decode())
        for key, (by, signature) in zip((old, new), signatures, strict=True):
            holds = Key(key.name, 1, key.public).has_signed(STATEMENT + text, signature)
            refuse(by != (key.name, key.id(b"\xff" + STATEMENT)) or not holds, "a record of a rotation is not signed")
        forked = old[:2] != new[:2] or any(old == one[0] or new == one[1] for one in self.rotations)
        refuse(forked or old == new, "two records of rotations contradict each other: one may be a thief's")
        self.rotations.append((old, new, int(found[3]), int(found[4])))

    def lineage(self, key: Key) -> dict[Key, list[int]]:
        used = {key: [0, LARGEST]}  # the keys before and behind one, each with the time in which it was in use
        for old, new, until, since in self.rotations * len(self.rotations):
            if old in used or new in used:
                used.setdefault(old, [0, LARGEST])[1] = until
                used.setdefault(new, [0, LARGEST])[0] = since
        refuse(used.keys() <= {one[0] for one in self.rotations}, "the records of rotations come back to a key")
        return used

    def reached(self, seen: set[str], name: str) -> bool:
        one = self.names[name]
        return name in seen if isinstance(one, Key) else sum(self.reached(seen, each) for each in one[1]) >= one[0]

    def believe(self, way: Way, now: int, existed_by: int | None) -> list[tuple[int, str]]:
        """Return time and name of the cosignatures that count, if a root checkpoint is to be believed [20]."""
        known = {(one.name, one.id()): (one, used, "") for log in self.logs for one, used in self.lineage(log).items()}
        for name, key in ((name, key) for name, key in self.names.items() if isinstance(key, Key)):
            known |= {(one.name, one.id()): (one, used, name) for one, used in self.lineage(key).items()}
        signed, seen, latest = [], [], now + SKEW_SECONDS
        refuse(existed_by is not None and existed_by > latest, "the timestamp is in the future")
        shown = min(now, now if existed_by is None else existed_by)  # it was there by then, and not by a signer's word
        for place, signature in {one: signature for one, signature in reversed(way.signatures) if one in known}.items():
            key, (since, until), witness = known[place]
            refuse(not key.has_signed(way.text, signature), f"the signature of {key.name} does not verify", FORGED)
            at = int.from_bytes(signature[:8], "big")
            if witness and 0 < at <= latest and since <= at <= until and shown <= until:
                seen.append((at, witness))
            elif not witness and key.name == way.origin and since <= latest:
                signed.append(until)
        refuse(not signed, f"no known key of the log {way.origin} has signed")
        witnesses = [{name for at, name in seen if at <= until} for until in (*signed, LARGEST)]
        quorums = [self.quorum != "none" and self.reached(each, self.quorum) for each in witnesses]
        timely = any(shown <= until or quorum for until, quorum in zip(signed, quorums, strict=False))
        refuse(not timely, "the log's key is not in use, and nothing shows that it was when it signed")
        refuse(self.quorum != "none" and not quorums[-1], "too few witnesses have cosigned")
        return sorted(seen)

class Proof:
    """A proof file that holds [22]."""
    def __init__(self, data: bytes, policy: Policy, now: int, given: bytes, times: list, out: object = None) -> None:
        refuse(len(data) > 4_194_304 or not data.startswith(b"sealproof1\n"), "it is no proof file")
        refuse(sha256(data[:-8])[:8] != data[-8:], "the file is damaged")
        file = Reading(data[11:-8])
        self.entry = entry = Entry(file.sized(1024))
        self.payload, self.schema, nonce = file.sized(1_000_000), file.sized(262_144), file.take(32)
        self.size, path, self.way, more = file.leb(), file.path(entry.prev), Way(file), file.leb()
        was, root, before, growth = (file.leb(), file.take(32), Way(file), file.path()) if more else (0, b"", None, [])
        self.earlier, way, key = before, self.way, sha256(nonce, entry.tenant)
        refuse(before and (not 0 < was <= entry.seq or before.round != before.size - 1), "the earlier state is none")
        refuse(file.at != len(file.data) or more > 1 or entry.seq >= self.size, "the file is malformed")
        wrong = (self.payload and entry.kind in (3, 4)) or (self.schema.decode() and entry.kind not in (1, 2, 5, 6))
        refuse(wrong, "an entry of this kind has no payload, or no schema")
        for payload in filter(None, (given, self.payload)):
            entry.check(payload, way.origin)
        way.check(key, self.size, climb(path, entry.seq, self.size - 1, entry.hash)[0])
        if before:
            before.check(key, was, root)
            wrong = before.origin != way.origin or way.round < before.size or not growth
            refuse(wrong, "the earlier checkpoint is none of this log before", FORGED)
            place, last = before.size - 1, way.size - 1
            growth = growth if place & (place + 1) else [before.root, *growth]
            while place & 1:
                place, last = place >> 1, last >> 1
            roots = climb(growth[1:], place, last, growth[0], growth[0])
            refuse(roots != [before.root, way.root], "the later log did not grow out of the earlier one", FORGED)
        for name, part in self.parts().items() if out else ():  # also where its signatures are not believed yet
            Path(str(out), name).write_bytes(part)
        self.seen = policy.believe(way, now, times[0])
        self.absent = policy.believe(before, now, times[1]) if before else []

    def parts(self) -> dict[str, bytes]:
        found = {"payload": self.payload, "schema.avsc": self.schema}
        for name, way in (("checkpoint", self.way), ("earlier-checkpoint", self.earlier or self.way)):
            found |= {name: way.note} | {f"{name}-{n}.tsr": token for n, token in enumerate(way.timestamps)}
        return {name: data for name, data in found.items() if data}

def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--policy", type=Path, required=True, help="whom you believe")
    parser.add_argument("--rotations", type=Path, help="records by which keys followed one another")
    parser.add_argument("--payload", type=Path, help="the payload, where it is not in the file")
    parser.add_argument("--at", type=int, default=int(time.time()), help="judge as of then, in seconds since 1970")
    parser.add_argument("--existed-by", type=int, nargs="+", help="a timestamp's time (and the earlier one's)")
    parser.add_argument("--extract", type=Path, help="a directory for checkpoints, timestamps, payload and schema")
    asked = parser.parse_args()
    try:
        policy = Policy(asked.policy.read_text("utf-8"), asked.rotations.read_bytes() if asked.rotations else b"")
        given, times = asked.payload.read_bytes() if asked.payload else b"", [*(asked.existed_by or []), None, None]
        proof = Proof(asked.file.read_bytes(), policy, asked.at, given, times, asked.extract)
    except (UnprovenError, OSError, ValueError) as error:
        print(f"not proven: {error.args[0] if isinstance(error, UnprovenError) else error}")
        return error.args[1] if isinstance(error, UnprovenError) else UNJUDGED
    entry, way = proof.entry, proof.way
    level = "checkpoint" if policy.quorum == "none" else "anchored" if asked.existed_by else "witnessed"
    print(f"holds, {level}: seq {entry.seq} of {proof.size} of {entry.tenant.decode()}, {KINDS[entry.kind]} "
          f"{entry.id.decode()}, hash {entry.hash.hex()}, in round {way.round} of {way.origin}",
          f"received {entry.received / 1e6}: the broker's word; payload {'matches' if given or proof.payload else '-'}",
          *(f"in the log by {at}: the word of {name}" for at, name in proof.seen),
          *(f"not in the log before {at}: the word of {name}" for at, name in proof.absent),
          f"timestamps in the file, which this program does not judge: {len(way.timestamps)}", sep="\n")
    return 0

if __name__ == "__main__":
    sys.exit(main())
