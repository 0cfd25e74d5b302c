package main

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"regexp"
	"strconv"
)

const saltBytes = 16

// checkPayload refuses a payload that the entry does not commit to, or that says something else (section 22.2).
func (e entry) checkPayload(payload []byte, origin string) error {
	digest := sha256.Sum256(append([]byte("sealstream/payload1\n"), payload...))
	if digest != e.payload || uint64(len(payload)) != e.length {
		return errors.New("the payload is not the one that the entry commits to")
	}
	switch e.kind {
	case 0:
		return checkGenesis(payload, origin)
	case 7:
		return e.checkGap(payload)
	case 8:
		genesis, found := cutPreviousTopic(payload)
		if !found {
			return errors.New("the payload is none of an epoch")
		}
		return checkGenesis(genesis, origin)
	}
	id, tenant, kind, err := readPrefix(payload)
	if err != nil {
		return err
	}
	wanted, fixed := map[byte]byte{1: 0, 2: 1, 6: 2}[e.kind]
	if id != e.id || tenant != e.tenant || fixed && kind != wanted {
		return errors.New("the payload names another event, tenant or kind than the entry")
	}
	return nil
}

// readPrefix reads the first fields of an event (sections 4.1 and 4.2).
func readPrefix(value []byte) (id, tenant string, kind byte, err error) {
	c := cutter{rest: value}
	switch {
	case bytes.HasPrefix(value, []byte{0}):
		c.bytes(5, 5)
	case bytes.HasPrefix(value, []byte{0xc3, 1}):
		c.bytes(10, 10)
	default:
		return "", "", 0, errors.New("the payload has no frame")
	}
	id, tenant = c.text(), c.text()
	coded := c.number(1)
	c.bytes(saltBytes, saltBytes)
	if c.bad || coded > 4 || coded&1 == 1 {
		return "", "", 0, errors.New("the payload has a malformed prefix")
	}
	return id, tenant, byte(coded >> 1), nil
}

// text reads a string of Avro, its length in the shortest form.
func (c *cutter) text() string {
	var coded uint64
	for i := range uint64(5) {
		b := c.number(1)
		coded |= (b & 0x7f) << (7 * i)
		if b&0x80 == 0 {
			if coded&1 == 1 || i > 0 && b == 0 {
				break
			}
			return string(c.bytes(coded>>1, coded>>1))
		}
	}
	c.bad = true
	return ""
}

var (
	genesisPattern = regexp.MustCompile(`^instance ([a-z0-9./-]{1,120})\npartitions ([1-9][0-9]{0,9})\n` +
		`window_offsets ([1-9][0-9]{0,9})\nwindow_seconds ([1-9][0-9]{0,9})\nvalue_bytes_max 1000000\n` +
		`operators (?:none|[0-9a-f]{64})\n$`)
	gapPattern      = regexp.MustCompile(`^first ([0-9]+)\nlast ([0-9]+)\n$`)
	previousPattern = regexp.MustCompile(`previous_topic [0-9a-f]{32}\n$`)
)

// checkGenesis refuses what is no payload of a genesis (section 7.4), or one of another instance.
func checkGenesis(payload []byte, origin string) error {
	fields := genesisPattern.FindStringSubmatch(string(payload))
	if fields == nil {
		return errors.New("the payload is none of a genesis")
	}
	for _, text := range fields[2:] {
		if number, err := strconv.ParseUint(text, 10, 64); err != nil || number >= 1<<31 {
			return errors.New("a genesis with a number that is too large")
		}
	}
	if fields[1] != origin {
		return fmt.Errorf("the entry is of the instance %s", fields[1])
	}
	return nil
}

func cutPreviousTopic(payload []byte) ([]byte, bool) {
	place := previousPattern.FindIndex(payload)
	if place == nil {
		return nil, false
	}
	return payload[:place[0]], true
}

// checkGap refuses what is no payload of a gap (section 7.6), or one that begins elsewhere.
func (e entry) checkGap(payload []byte) error {
	fields := gapPattern.FindStringSubmatch(string(payload))
	if fields == nil {
		return errors.New("the payload is none of a gap")
	}
	first, err := decodeDecimal(fields[1])
	last, err2 := decodeDecimal(fields[2])
	if err := errors.Join(err, err2); err != nil {
		return err
	}
	if first > last || first != e.offset {
		return errors.New("a gap that begins at another offset than its entry's")
	}
	return nil
}
