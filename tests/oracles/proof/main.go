// Command proof verifies proof files. It was written from SPEC.md alone, sections 5, 6, 12, 14, 15, 17, 18 and 20 to
// 22, with nothing but Go's standard library, so that a test can hold our own verifier against it.
//
// It reads one JSON object a line from standard input and writes one a line. Timestamps are not verified, and ML-DSA-44
// is not supported: where it would decide, the verdict is "unsupported".
package main

import (
	"bufio"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
)

const lineBytesMax = 32 << 20

type question struct {
	Do        string `json:"do"`
	File      []byte `json:"file"`
	Policy    []byte `json:"policy"`
	Rotations []byte `json:"rotations"`
	Now       uint64 `json:"now"`    // in seconds since the Unix epoch
	Origin    string `json:"origin"` // of the root log that was asked for
}

type answer struct {
	Verdict     string `json:"verdict"` // "holds", "refused" or "unsupported"
	Error       string `json:"error,omitempty"`
	Tenant      string `json:"tenant,omitempty"`
	Seq         uint64 `json:"seq"`
	Kind        int    `json:"kind"`
	Received    uint64 `json:"received"`
	Round       uint64 `json:"round"`
	Size        uint64 `json:"size"` // of the checkpoint
	Root        string `json:"root,omitempty"`
	QuorumTime  int64  `json:"quorum_time"`  // -1 where no quorum is asked for
	EarlierTime int64  `json:"earlier_time"` // as quorum_time; -2 where the file has no earlier state
	EarlierSize uint64 `json:"earlier_size"` // of the earlier checkpoint
}

func main() {
	in := bufio.NewScanner(os.Stdin)
	in.Buffer(make([]byte, 1<<20), lineBytesMax)
	out := json.NewEncoder(os.Stdout)
	for in.Scan() {
		var asked question
		if err := json.Unmarshal(in.Bytes(), &asked); err != nil {
			fail(err)
		}
		given, err := verify(asked)
		if err != nil {
			given.Verdict, given.Error = "refused", err.Error()
			if errors.Is(err, errUnsupported) {
				given.Verdict = "unsupported"
			}
		}
		if err := out.Encode(given); err != nil {
			fail(err)
		}
	}
	if err := in.Err(); err != nil {
		fail(err)
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

func verify(asked question) (answer, error) {
	trusted, err := parsePolicy(asked.Policy)
	if err != nil {
		return answer{}, fmt.Errorf("the policy: %w", err)
	}
	rotations, err := parseRotations(asked.Rotations)
	if err != nil {
		return answer{}, fmt.Errorf("the rotations: %w", err)
	}
	past, err := newHistory(rotations)
	if err != nil {
		return answer{}, err
	}
	proof, err := parseProof(asked.File)
	if err != nil {
		return answer{}, err
	}
	now, before, err := proof.check(reader{trusted, past, asked.Now}, asked.Origin)
	if err != nil {
		return answer{}, err
	}
	given := answer{
		Verdict: "holds", Tenant: proof.entry.tenant, Seq: proof.entry.seq, Kind: int(proof.entry.kind),
		Received: proof.entry.received, Round: proof.way.round, Size: now.checkpoint.size,
		Root: hex.EncodeToString(now.checkpoint.root[:]), QuorumTime: now.quorumTime, EarlierTime: -2,
	}
	if proof.earlier != nil {
		given.EarlierTime, given.EarlierSize = before.quorumTime, before.checkpoint.size
	}
	return given, nil
}
