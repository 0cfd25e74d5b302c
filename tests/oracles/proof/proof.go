package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"unicode/utf8"
)

const (
	proofBytesMax    = 4_194_304
	payloadBytesMax  = 1_000_000
	schemaBytesMax   = 262_144
	proofNoteMax     = 400_000
	timestampsMax    = 8
	timestampMax     = 65_536
	pathMax          = 63
	coverageBytesMin = 25
	coverageBytesMax = 4_194_304
)

// cutter takes fields from the front of bytes; the first one that is not whole spoils all that follow.
type cutter struct {
	rest []byte
	bad  bool
}

func (c *cutter) bytes(n, max uint64) []byte {
	if c.bad || n > max || n > uint64(len(c.rest)) {
		c.bad = true
		return nil
	}
	found := c.rest[:n]
	c.rest = c.rest[n:]
	return found
}

func (c *cutter) number(width uint64) uint64 {
	var number uint64
	for _, b := range c.bytes(width, width) {
		number = number<<8 | uint64(b)
	}
	return number
}

func (c *cutter) sized(width, max uint64) []byte { return c.bytes(c.number(width), max) }

func (c *cutter) hash() (found hash) {
	copy(found[:], c.bytes(sha256.Size, sha256.Size))
	return found
}

// leb reads a number of a proof file: LEB128 in its shortest form (section 22.1).
func (c *cutter) leb() uint64 {
	var number uint64
	for shift := 0; shift < 63; shift += 7 {
		b := c.number(1)
		number |= b & 0x7f << shift
		if b < 0x80 {
			if b == 0 && shift > 0 {
				break
			}
			return number
		}
	}
	c.bad = true
	return 0
}

// part reads bytes behind their size.
func (c *cutter) part(max uint64) []byte { return c.bytes(c.leb(), max) }

// path reads a path. Of a leaf that names the one before it, known is that one's hash.
func (c *cutter) path(known ...hash) []hash {
	n := c.leb()
	var found []hash
	if len(known) == 1 && n > pathMax+1 {
		n -= pathMax + 2
		found = append(found, known[0])
	}
	if n+uint64(len(found)) > pathMax {
		c.bad = true
		return nil
	}
	for range n {
		one := c.hash()
		if c.bad || len(known) == 1 && len(found) == 0 && one == known[0] {
			c.bad = true
			return nil
		}
		found = append(found, one)
	}
	return found
}

// note reads a checkpoint's fields, and returns the note that they are of.
func (c *cutter) note() []byte {
	origin := c.part(proofNoteMax)
	size, root, count := c.leb(), c.hash(), c.leb()
	if c.bad || count > signaturesMax || bytes.ContainsRune(origin, '\n') {
		c.bad = true
		return nil
	}
	note := fmt.Appendf(nil, "%s\n%d\n%s\n\n", origin, size, base64.StdEncoding.EncodeToString(root[:]))
	for range count {
		name, signed := c.part(proofNoteMax), c.part(proofNoteMax)
		if c.bad || bytes.Equal(name, origin) || len(name) > 0 && !isKeyName(string(name)) {
			c.bad = true
			return nil
		}
		if len(name) == 0 {
			name = origin
		}
		note = fmt.Appendf(note, "— %s %s\n", name, base64.StdEncoding.EncodeToString(signed))
	}
	if len(note) > proofNoteMax {
		c.bad = true
	}
	return note
}

type entry struct {
	kind, reason  byte
	tenant        string
	seq, received uint64
	prev          hash
	topicID       []byte
	partition     uint64
	offset, ref   uint64
	id            string
	length        uint64
	payload       hash
}

var (
	tenantPattern = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$`)
	idPattern     = regexp.MustCompile(`^[A-Za-z0-9._:-]{1,128}$`)
)

// parseEntry reads an entry (section 5).
func parseEntry(data []byte) (entry, error) {
	c := cutter{rest: data}
	var e entry
	label, suite := c.bytes(12, 12), c.number(1)
	e.kind, e.reason = byte(c.number(1)), byte(c.number(1))
	e.tenant = string(c.sized(1, 255))
	e.seq = c.number(8)
	e.prev = c.hash()
	e.received, e.topicID = c.number(8), c.bytes(16, 16)
	e.partition, e.offset, e.ref = c.number(4), c.number(8), c.number(8)
	e.id = string(c.sized(1, 255))
	e.length = c.number(4)
	e.payload = c.hash()
	if c.bad || len(c.rest) != 0 || !bytes.Equal(label, []byte("sealstream1\n")) || suite != 1 || e.kind > 8 {
		return e, errors.New("malformed entry")
	}
	for _, number := range []uint64{e.seq, e.received, e.offset, e.ref} {
		if number > numberMax {
			return e, errors.New("an entry with a number that is too large")
		}
	}
	if e.partition >= 1<<31 || e.length >= 1<<31 {
		return e, errors.New("an entry with a number that is too large")
	}
	return e, e.check()
}

// check refuses fields that do not go together (section 5).
func (e entry) check() error {
	refused := errors.New("an entry with fields that do not go together")
	reasons := map[byte]byte{4: 8, 7: 3}[e.kind]
	if reasons == 0 && e.reason != 0 || reasons != 0 && (e.reason < 1 || e.reason > reasons) {
		return refused
	}
	apart := e.tenant == "!partition-"+strconv.FormatUint(e.partition, 10)
	if !apart && !tenantPattern.MatchString(e.tenant) {
		return refused
	}
	mustBeApart := e.kind == 7 || e.kind == 4 && e.reason <= 3
	if e.kind != 0 && e.kind != 8 && apart != mustBeApart {
		return refused
	}
	if (e.seq == 0) != (e.kind == 0) || e.kind == 0 && e.prev != (hash{}) {
		return refused
	}
	refers := e.kind == 3 || e.kind == 5
	if refers && (e.ref == 0 || e.ref >= e.seq) || !refers && e.ref != 0 {
		return refused
	}
	valid := idPattern.MatchString(e.id)
	switch {
	case e.kind == 1 || e.kind == 2 || e.kind == 3 || e.kind == 5 || e.kind == 6 || e.kind == 4 && e.reason == 8:
		if !valid {
			return refused
		}
	case e.kind == 4 && e.reason == 6:
		if !valid && e.id != "" {
			return refused
		}
	case e.id != "":
		return refused
	}
	if e.kind == 4 && e.reason == 8 && e.received != 0 {
		return refused
	}
	return nil
}

// way leads from the chain's leaf in the map to a checkpoint of the root log (section 22.1).
type way struct {
	index, round       uint64
	mapPath, rootPath  []hash
	previous, coverage hash
	length, chains     uint64
	note               []byte
	timestamps         uint64
	checkpoint         checkpoint
}

func (c *cutter) way() (way, error) {
	w := way{index: c.leb(), round: c.leb(), mapPath: c.path(), previous: c.hash(), length: c.leb()}
	w.coverage, w.chains = c.hash(), c.leb()
	w.rootPath, w.note, w.timestamps = c.path(w.previous), c.note(), c.leb()
	for range min(w.timestamps, timestampsMax) {
		if len(c.part(timestampMax)) == 0 {
			c.bad = true
		}
	}
	if c.bad || w.timestamps > timestampsMax {
		return w, errors.New("a malformed way to the checkpoint")
	}
	note, err := parseNote(w.note)
	if err != nil {
		return w, err
	}
	if w.checkpoint, err = parseCheckpoint(note.text); err != nil {
		return w, err
	}
	if w.checkpoint.extensions != 0 {
		return w, errors.New("a checkpoint with extension lines")
	}
	if w.index >= w.chains || w.chains > numberMax || w.round >= w.checkpoint.size || w.round >= numberMax ||
		(w.round == 0) != (w.previous == hash{}) || w.length < coverageBytesMin || w.length > coverageBytesMax {
		return w, errors.New("a way with fields that do not go together")
	}
	return w, nil
}

// check verifies that the checkpoint has a round whose map has the chain at a size with a root.
func (w way) check(mapKey hash, size uint64, root hash) error {
	leaf := []byte("sealstream/map1\n")
	leaf = append(leaf, mapKey[:]...)
	leaf = binary.BigEndian.AppendUint64(leaf, size)
	leaf = append(leaf, root[:]...)
	mapRoot, err := rootOf(w.mapPath, leafHash(leaf), w.index, w.chains)
	if err != nil {
		return fmt.Errorf("the map: %w", err)
	}
	round := binary.BigEndian.AppendUint64([]byte("sealstream/round1\n"), w.round)
	round = append(round, w.previous[:]...)
	round = binary.BigEndian.AppendUint32(round, uint32(w.length))
	round = append(round, w.coverage[:]...)
	round = binary.BigEndian.AppendUint64(round, w.chains)
	round = append(round, mapRoot[:]...)
	rootLog, err := rootOf(w.rootPath, leafHash(round), w.round, w.checkpoint.size)
	if err != nil {
		return fmt.Errorf("the root log: %w", err)
	}
	if rootLog != w.checkpoint.root {
		return errors.New("the proof leads to another root than the checkpoint's")
	}
	return nil
}

type earlier struct {
	size        uint64
	root        hash
	way         way
	consistency []hash
}

type proofFile struct {
	data    []byte // of the entry
	entry   entry
	payload []byte
	schema  []byte
	nonce   hash
	size    uint64
	path    []hash
	way     way
	earlier *earlier
}

// parseProof reads a proof file without verifying it (section 22.1).
func parseProof(data []byte) (proofFile, error) {
	var p proofFile
	if len(data) > proofBytesMax || len(data) < 8 {
		return p, errors.New("the file is cut or too large")
	}
	sum := sha256.Sum256(data[:len(data)-8])
	if !bytes.Equal(sum[:8], data[len(data)-8:]) {
		return p, errors.New("the file is damaged")
	}
	c := cutter{rest: data[:len(data)-8]}
	if !bytes.Equal(c.bytes(11, 11), []byte("sealproof1\n")) {
		return p, errors.New("no proof file")
	}
	p.data = c.part(1 << 16)
	p.payload, p.schema = c.part(payloadBytesMax), c.part(schemaBytesMax)
	var err error
	if p.entry, err = parseEntry(p.data); err != nil {
		return p, err
	}
	p.nonce, p.size, p.path = c.hash(), c.leb(), c.path(p.entry.prev)
	if p.way, err = c.way(); err != nil {
		return p, err
	}
	switch c.leb() {
	case 0:
	case 1:
		before := &earlier{size: c.leb(), root: c.hash()}
		if before.way, err = c.way(); err != nil {
			return p, err
		}
		before.consistency = c.path()
		if before.size < 1 || before.size > p.entry.seq || before.way.round+1 != before.way.checkpoint.size {
			return p, errors.New("an earlier state that is none")
		}
		p.earlier = before
	default:
		c.bad = true
	}
	kind := p.entry.kind
	bare := kind == 3 || kind == 4
	schemaless := bare || kind == 0 || kind == 7 || kind == 8
	if c.bad || len(c.rest) != 0 || p.size > numberMax || p.entry.seq >= p.size || !utf8.Valid(p.schema) ||
		bare && len(p.payload) > 0 || schemaless && len(p.schema) > 0 {
		return p, errors.New("malformed proof file")
	}
	return p, nil
}

// check verifies all that the file says (section 22.2), and returns what the reader believes of its checkpoints.
func (p proofFile) check(r reader, origin string) (now, before believed, err error) {
	if len(p.payload) > 0 {
		if err = p.entry.checkPayload(p.payload, p.way.checkpoint.origin); err != nil {
			return now, before, err
		}
	}
	root, err := rootOf(p.path, leafHash(p.data), p.entry.seq, p.size)
	if err != nil {
		return now, before, fmt.Errorf("the chain: %w", err)
	}
	mapKey := sha256.Sum256(append(bytes.Clone(p.nonce[:]), p.entry.tenant...))
	if err = p.way.check(mapKey, p.size, root); err != nil {
		return now, before, err
	}
	if now, err = r.believe(p.way.note, origin); err != nil || p.earlier == nil {
		return now, before, err
	}
	if err = p.earlier.way.check(mapKey, p.earlier.size, p.earlier.root); err != nil {
		return now, before, fmt.Errorf("the earlier state: %w", err)
	}
	if before, err = r.believe(p.earlier.way.note, origin); err != nil {
		return now, before, fmt.Errorf("the earlier state: %w", err)
	}
	if p.way.round < before.checkpoint.size {
		return now, before, errors.New("the earlier state is not one of an earlier round")
	}
	return now, before, checkConsistency(p.earlier.consistency, before.checkpoint.size, before.checkpoint.root,
		now.checkpoint.size, now.checkpoint.root)
}
