package main

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

const (
	noteBytesMax  = 1_000_000
	signaturesMax = 100
	nameBytesMax  = 255
	numberMax     = 1<<63 - 1

	typeEd25519     = 0x01
	typeCosignature = 0x04
	typeMLDSA       = 0x06
	typeStatement   = 0xff
	statementLabel  = "sealstream/statement1\n"
)

// errUnsupported is what this verifier says where ML-DSA-44 would decide.
var errUnsupported = errors.New("ML-DSA-44 is not supported")

// decodeBase64 reads base64 in its one form (section 17).
func decodeBase64(text string) ([]byte, error) {
	data, err := base64.StdEncoding.Strict().DecodeString(text)
	if err != nil || base64.StdEncoding.EncodeToString(data) != text {
		return nil, errors.New("no base64 in its one form")
	}
	return data, nil
}

var decimal = regexp.MustCompile(`^(?:0|[1-9][0-9]{0,18})$`)

func decodeDecimal(text string) (uint64, error) {
	if !decimal.MatchString(text) {
		return 0, errors.New("no decimal")
	}
	number, err := strconv.ParseUint(text, 10, 64)
	if err != nil || number > numberMax {
		return 0, errors.New("a number that is too large")
	}
	return number, nil
}

type signature struct {
	name string
	id   [4]byte
	data []byte
}

type signedNote struct {
	text       string
	signatures []signature
}

func isKeyName(name string) bool {
	if name == "" || !utf8.ValidString(name) {
		return false
	}
	for _, r := range name {
		if unicode.IsSpace(r) || r == '+' || r < 0x20 {
			return false
		}
	}
	return true
}

// parseNote reads a note without verifying it (section 17).
func parseNote(data []byte) (signedNote, error) {
	if len(data) > noteBytesMax {
		return signedNote{}, errors.New("the note is too large")
	}
	if !utf8.Valid(data) {
		return signedNote{}, errors.New("the note is no UTF-8")
	}
	for _, b := range data {
		if b < 0x20 && b != '\n' {
			return signedNote{}, errors.New("the note has a control character")
		}
	}
	split := bytes.LastIndex(data, []byte("\n\n"))
	if split < 0 || !bytes.HasSuffix(data, []byte("\n")) {
		return signedNote{}, errors.New("the note has no text and signatures")
	}
	note := signedNote{text: string(data[:split+1])}
	rest := string(data[split+2:])
	if rest == "" {
		return signedNote{}, errors.New("the note has no signature")
	}
	for _, line := range strings.Split(strings.TrimSuffix(rest, "\n"), "\n") {
		words, found := strings.CutPrefix(line, "— ")
		name, encoded, two := strings.Cut(words, " ")
		content, err := decodeBase64(encoded)
		if !found || !two || err != nil || !isKeyName(name) || len(content) < 5 {
			return signedNote{}, errors.New("the note has a malformed signature line")
		}
		note.signatures = append(note.signatures, signature{name, [4]byte(content[:4]), content[4:]})
	}
	if len(note.signatures) > signaturesMax {
		return signedNote{}, errors.New("the note has too many signatures")
	}
	return note, nil
}

// key is a public key (section 17.1); it is comparable.
type key struct {
	name   string
	typ    byte
	public string
}

func (k key) id() [4]byte {
	return firstFour(k.name + "\n" + string([]byte{k.typ}) + k.public)
}

func (k key) statementID() [4]byte {
	return firstFour(k.name + "\n\xff" + statementLabel + string([]byte{k.typ}) + k.public)
}

func firstFour(text string) [4]byte {
	sum := sha256.Sum256([]byte(text))
	return [4]byte(sum[:4])
}

var keyID = regexp.MustCompile(`^[0-9a-f]{8}$`)

func parseKey(vkey string) (key, error) {
	name, rest, _ := strings.Cut(vkey, "+")
	id, encoded, _ := strings.Cut(rest, "+")
	material, err := decodeBase64(encoded)
	if err != nil || !isKeyName(name) || len(name) > nameBytesMax || !keyID.MatchString(id) || len(material) < 1 {
		return key{}, errors.New("malformed key")
	}
	found := key{name, material[0], string(material[1:])}
	sizes := map[byte]int{typeEd25519: 32, typeCosignature: 32, typeMLDSA: 1312}
	if size, known := sizes[found.typ]; !known || size != len(found.public) {
		return key{}, errors.New("key of an unknown type or size")
	}
	own := found.id()
	if hex.EncodeToString(own[:]) != id {
		return key{}, errors.New("key with another key's id")
	}
	return found, nil
}

func (k key) verifyRaw(message string, raw []byte) (bool, error) {
	if k.typ == typeMLDSA {
		return false, errUnsupported
	}
	return len(raw) == ed25519.SignatureSize &&
		ed25519.Verify(ed25519.PublicKey(k.public), []byte(message), raw), nil
}

// verify says whether a signature of a note is right, and what time it states; -1 for none.
func (k key) verify(text string, sig []byte) (bool, int64, error) {
	if k.typ == typeEd25519 {
		right, err := k.verifyRaw(text, sig)
		return right, -1, err
	}
	if k.typ == typeMLDSA {
		return false, -1, errUnsupported
	}
	if _, err := parseCheckpoint(text); err != nil || len(sig) < 8 {
		return false, -1, nil
	}
	time := binary.BigEndian.Uint64(sig)
	if time > numberMax {
		return false, -1, nil
	}
	right, err := k.verifyRaw(fmt.Sprintf("cosignature/v1\ntime %d\n%s", time, text), sig[8:])
	return right, int64(time), err
}

type checkpoint struct {
	origin     string
	size       uint64
	root       hash
	extensions int
}

// parseCheckpoint reads the text of a checkpoint (section 18).
func parseCheckpoint(text string) (checkpoint, error) {
	malformed := errors.New("the text is no checkpoint")
	if !strings.HasSuffix(text, "\n") || !utf8.ValidString(text) {
		return checkpoint{}, malformed
	}
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	if len(lines) < 3 {
		return checkpoint{}, malformed
	}
	for _, line := range lines {
		if line == "" || strings.ContainsFunc(line, func(r rune) bool { return r < 0x20 }) {
			return checkpoint{}, malformed
		}
	}
	size, err := decodeDecimal(lines[1])
	if err != nil {
		return checkpoint{}, err
	}
	root, err := decodeBase64(lines[2])
	if err != nil || len(root) != sha256.Size {
		return checkpoint{}, malformed
	}
	return checkpoint{lines[0], size, hash(root), len(lines) - 3}, nil
}
