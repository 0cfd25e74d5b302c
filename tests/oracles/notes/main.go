// Command notes answers questions about signed notes with the modules that others use for them: it is what the tests
// hold our own code against. It reads one JSON object a line from standard input and writes one a line.
package main

import (
	"bufio"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/transparency-dev/formats/log"
	fnote "github.com/transparency-dev/formats/note"
	"github.com/transparency-dev/formats/proof"
	"github.com/transparency-dev/formats/witness"
	"golang.org/x/mod/sumdb/note"
)

// lineBytesMax is more than any question of the tests has.
const lineBytesMax = 16 << 20

type question struct {
	Do     string   `json:"do"`
	Note   []byte   `json:"note,omitempty"`
	Text   string   `json:"text,omitempty"`
	Keys   []string `json:"keys,omitempty"`
	Origin string   `json:"origin,omitempty"`
	Index  uint64   `json:"index,omitempty"`
	Hashes [][]byte `json:"hashes,omitempty"`
}

type signature struct {
	Name string `json:"name"`
	Hash string `json:"hash"`
	Time int64  `json:"time"`
}

type answer struct {
	Kind       string      `json:"kind"` // "ok", or what went wrong
	Error      string      `json:"error,omitempty"`
	Text       string      `json:"text,omitempty"`
	Note       []byte      `json:"note,omitempty"`
	Verified   []signature `json:"verified,omitempty"`
	Unverified []signature `json:"unverified,omitempty"`
	Origin     string      `json:"origin,omitempty"`
	Size       uint64      `json:"size,omitempty"`
	Root       []byte      `json:"root,omitempty"`
	Index      uint64      `json:"index,omitempty"`
	Hashes     [][]byte    `json:"hashes,omitempty"`
	Keys       []string    `json:"keys,omitempty"`
	Satisfied  bool        `json:"satisfied,omitempty"`
}

func main() {
	in := bufio.NewScanner(os.Stdin)
	in.Buffer(make([]byte, 1<<20), lineBytesMax)
	out := json.NewEncoder(os.Stdout)
	for in.Scan() {
		var q question
		var a answer
		if err := json.Unmarshal(in.Bytes(), &q); err != nil {
			a = failed("question", err)
		} else {
			a = reply(q)
		}
		if err := out.Encode(a); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	if err := in.Err(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func reply(q question) answer {
	switch q.Do {
	case "open":
		return open(q)
	case "sign":
		return sign(q)
	case "checkpoint":
		return checkpoint(q)
	case "proof":
		return readProof(q)
	case "policy":
		return policy(q)
	case "generate":
		return generate(q)
	}
	return failed("question", fmt.Errorf("nothing to do for %q", q.Do))
}

// open reads a note as golang.org/x/mod/sumdb/note does, with the keys given as vkeys.
func open(q question) answer {
	verifiers, err := verifiers(q.Keys)
	if err != nil {
		return failed("key", err)
	}
	n, err := note.Open(q.Note, note.VerifierList(verifiers...))
	var invalid *note.InvalidSignatureError
	var unverified *note.UnverifiedNoteError
	switch {
	case errors.As(err, &invalid):
		return failed("invalid", err)
	case errors.As(err, &unverified):
		return failed("unverified", err)
	case err != nil:
		return failed("malformed", err)
	}
	a := answer{Kind: "ok", Text: n.Text}
	timed := map[string]bool{}
	for i, v := range verifiers {
		timed[fmt.Sprintf("%s+%08x", v.Name(), v.KeyHash())] = isTimed(q.Keys[i])
	}
	for _, s := range n.Sigs {
		one := line(s)
		if timed[one.Name+"+"+one.Hash] {
			t, err := fnote.CoSigV1Timestamp(s)
			if err != nil {
				return failed("time", err)
			}
			one.Time = t.Unix()
		}
		a.Verified = append(a.Verified, one)
	}
	for _, s := range n.UnverifiedSigs {
		a.Unverified = append(a.Unverified, line(s))
	}
	return a
}

// sign makes a note with the signer keys given.
func sign(q question) answer {
	var signers []note.Signer
	for _, skey := range q.Keys {
		var s note.Signer
		var err error
		if keyType(skey) == 1 {
			s, err = note.NewSigner(skey)
		} else {
			s, err = fnote.NewSignerForCosignatureV1(skey)
		}
		if err != nil {
			return failed("key", err)
		}
		signers = append(signers, s)
	}
	made, err := note.Sign(&note.Note{Text: q.Text}, signers...)
	if err != nil {
		return failed("malformed", err)
	}
	return answer{Kind: "ok", Note: made}
}

// checkpoint reads a checkpoint that the first key's log signed.
func checkpoint(q question) answer {
	verifiers, err := verifiers(q.Keys)
	if err != nil {
		return failed("key", err)
	}
	c, rest, _, err := log.ParseCheckpoint(q.Note, q.Origin, verifiers[0], verifiers[1:]...)
	if err != nil {
		return failed("checkpoint", err)
	}
	return answer{Kind: "ok", Origin: c.Origin, Size: c.Size, Root: c.Hash, Text: string(rest)}
}

// readProof reads a tlog-proof; with hashes it makes one.
func readProof(q question) answer {
	if q.Text != "" {
		p := proof.TLogProof{Index: q.Index, Checkpoint: []byte(q.Text)}
		for _, h := range q.Hashes {
			p.Hashes = append(p.Hashes, [sha256.Size]byte(h))
		}
		return answer{Kind: "ok", Note: p.Marshal()}
	}
	var p proof.TLogProof
	if err := p.Unmarshal(q.Note); err != nil {
		return failed("proof", err)
	}
	a := answer{Kind: "ok", Index: p.Index, Note: p.Checkpoint}
	for _, h := range p.Hashes {
		a.Hashes = append(a.Hashes, h[:])
	}
	return a
}

// policy says whether a checkpoint satisfies the policy in the text.
func policy(q question) answer {
	group, err := witness.ParsePolicy([]byte(q.Text))
	if err != nil {
		return failed("policy", err)
	}
	return answer{Kind: "ok", Satisfied: group.Satisfied(q.Note)}
}

// generate makes a key pair of each kind: Ed25519 and ML-DSA-44.
func generate(q question) answer {
	skey, vkey, err := note.GenerateKey(nil, q.Origin)
	if err != nil {
		return failed("key", err)
	}
	mskey, mvkey, err := fnote.GenerateMLDSAKey(q.Origin)
	if err != nil {
		return failed("key", err)
	}
	cvkey, err := fnote.VKeyToCosignatureV1(vkey)
	if err != nil {
		return failed("key", err)
	}
	return answer{Kind: "ok", Keys: []string{skey, vkey, mskey, mvkey, cvkey}}
}

func verifiers(vkeys []string) ([]note.Verifier, error) {
	var found []note.Verifier
	for _, vkey := range vkeys {
		v, err := fnote.NewVerifier(vkey)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", vkey, err)
		}
		found = append(found, v)
	}
	return found, nil
}

// keyType returns the type byte of an encoded key; 0 if there is none.
func keyType(encoded string) byte {
	parts := strings.Split(strings.TrimPrefix(encoded, "PRIVATE+KEY+"), "+")
	if len(parts) < 3 {
		return 0
	}
	material, err := base64.StdEncoding.DecodeString(strings.Join(parts[2:], "+"))
	if err != nil || len(material) == 0 {
		return 0
	}
	return material[0]
}

func isTimed(vkey string) bool { return keyType(vkey) == 4 || keyType(vkey) == 6 }

func line(s note.Signature) signature {
	return signature{Name: s.Name, Hash: fmt.Sprintf("%08x", s.Hash)}
}

func failed(kind string, err error) answer { return answer{Kind: kind, Error: err.Error()} }
