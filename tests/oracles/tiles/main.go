// Command tiles reads logs over HTTP with clients of C2SP tlog-tiles that others wrote, so that what we publish can be
// held against them. It reads one JSON object a line from standard input and writes one a line.
package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net/url"
	"os"
	"strings"
	"time"

	"filippo.io/torchwood"
	"github.com/transparency-dev/merkle/rfc6962"
	"github.com/transparency-dev/tessera/api"
	"github.com/transparency-dev/tessera/client"
	"github.com/transparency-dev/tessera/fsck"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
	"k8s.io/klog/v2"
)

const (
	lineBytesMax     = 1 << 20
	timeout          = 60 * time.Second
	requestsAtOnce   = 8
	succeededMessage = "Successfully fsck'd log"
)

type question struct {
	Do      string  `json:"do"`
	URL     string  `json:"url"`
	Key     string  `json:"key"`     // the log's vkey; its name is the origin
	Known   []byte  `json:"known"`   // the checkpoint that the client has seen before, if any
	Indices []int64 `json:"indices"` // of the entries that are also read one by one, each with its inclusion proof
}

type answer struct {
	Error      string `json:"error"`
	Checkpoint []byte `json:"checkpoint,omitempty"`
	Size       int64  `json:"size"`
	Entries    int64  `json:"entries"`
	Digest     string `json:"digest,omitempty"` // SHA-256 of the hashes of all entries
	Proofs     int    `json:"proofs"`
	Growth     int    `json:"growth"` // hashes of the consistency proof
}

func main() {
	flags := flag.NewFlagSet("klog", flag.ExitOnError)
	klog.InitFlags(flags)
	if err := flags.Parse([]string{"-logtostderr=false", "-alsologtostderr=false", "-stderrthreshold=FATAL"}); err != nil {
		fail(err)
	}
	in := bufio.NewScanner(os.Stdin)
	in.Buffer(make([]byte, 1<<16), lineBytesMax)
	out := json.NewEncoder(os.Stdout)
	for in.Scan() {
		var asked question
		var given answer
		err := json.Unmarshal(in.Bytes(), &asked)
		if err == nil {
			given, err = reply(asked)
		}
		if err != nil {
			given.Error = err.Error()
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

func reply(asked question) (answer, error) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	verifier, err := note.NewVerifier(asked.Key)
	if err != nil {
		return answer{}, err
	}
	switch asked.Do {
	case "read":
		return read(ctx, asked, verifier)
	case "fsck":
		return check(ctx, asked, verifier)
	case "track":
		return track(ctx, asked, verifier)
	}
	return answer{}, fmt.Errorf("nothing to do for %q", asked.Do)
}

// read fetches and verifies a whole log with torchwood's client: the checkpoint, that it continues the one which is
// known, every tile, every entry.
func read(ctx context.Context, asked question, verifier note.Verifier) (answer, error) {
	fetcher, err := torchwood.NewTileFetcher(asked.URL, torchwood.WithConcurrencyLimit(requestsAtOnce))
	if err != nil {
		return answer{}, err
	}
	signed, err := fetcher.ReadEndpoint(ctx, "checkpoint")
	if err != nil {
		return answer{}, err
	}
	checkpoint, err := open(signed, verifier)
	if err != nil {
		return answer{}, err
	}
	given := answer{Checkpoint: signed, Size: checkpoint.N}
	if asked.Known != nil {
		known, err := open(asked.Known, verifier)
		if err != nil {
			return given, fmt.Errorf("the known checkpoint: %w", err)
		}
		if given.Growth, err = continues(ctx, fetcher, known.Tree, checkpoint.Tree); err != nil {
			return given, fmt.Errorf("the checkpoint of size %d does not continue that of size %d: %w",
				checkpoint.N, known.N, err)
		}
	}
	return entries(ctx, asked, fetcher, checkpoint.Tree, given)
}

func open(signed []byte, verifier note.Verifier) (torchwood.Checkpoint, error) {
	opened, err := note.Open(signed, note.VerifierList(verifier))
	if err != nil {
		return torchwood.Checkpoint{}, err
	}
	checkpoint, err := torchwood.ParseCheckpoint(opened.Text)
	if err == nil && checkpoint.Origin != verifier.Name() {
		err = fmt.Errorf("checkpoint of %q, not of %q", checkpoint.Origin, verifier.Name())
	}
	return checkpoint, err
}

func continues(ctx context.Context, fetcher *torchwood.TileFetcher, old, tree tlog.Tree) (int, error) {
	proof, err := tlog.ProveTree(tree.N, old.N, torchwood.TileHashReaderWithContext(ctx, tree, fetcher))
	if err != nil {
		return 0, err
	}
	return len(proof), tlog.CheckTree(proof, tree.N, tree.Hash, old.N, old.Hash)
}

func entries(
	ctx context.Context, asked question, fetcher *torchwood.TileFetcher, tree tlog.Tree, given answer,
) (answer, error) {
	reader, err := torchwood.NewClient(fetcher, torchwood.WithTimeout(timeout))
	if err != nil {
		return given, err
	}
	digest := sha256.New()
	for index, entry := range reader.AllEntries(ctx, tree, 0) {
		if index != given.Entries {
			return given, fmt.Errorf("entry %d came as entry %d", index, given.Entries)
		}
		hash := tlog.RecordHash(entry)
		digest.Write(hash[:])
		given.Entries++
	}
	if err := errors.Join(reader.Err(), ctx.Err()); err != nil {
		return given, err
	}
	given.Digest = hex.EncodeToString(digest.Sum(nil))
	for _, index := range asked.Indices {
		// It verifies the inclusion proof that it has made.
		if _, _, err := reader.Entry(ctx, tree, index); err != nil {
			return given, err
		}
		given.Proofs++
	}
	return given, nil
}

// check verifies every file of a log with Tessera's fsck. Its word counts only with the message of success: it can
// end without an error, or not at all, where a tile is wrong.
func check(ctx context.Context, asked question, verifier note.Verifier) (answer, error) {
	fetcher, err := fetcherOf(asked.URL)
	if err != nil {
		return answer{}, err
	}
	var said bytes.Buffer
	klog.SetOutput(&said)
	checker := fsck.New(verifier.Name(), verifier, fetcher, leafHashes, fsck.Opts{N: requestsAtOnce})
	ended := make(chan error, 1)
	go func() { ended <- checker.Check(ctx) }()
	select {
	case err = <-ended:
	case <-ctx.Done():
		return answer{}, ctx.Err()
	}
	klog.Flush()
	if err == nil && !strings.Contains(said.String(), succeededMessage) {
		err = errors.New("fsck has not said that it succeeded")
	}
	return answer{}, err
}

// track lets Tessera's client, which has seen a checkpoint, look for a newer one, and returns what it believes then.
func track(ctx context.Context, asked question, verifier note.Verifier) (answer, error) {
	fetcher, err := fetcherOf(asked.URL)
	if err != nil {
		return answer{}, err
	}
	consensus := client.UnilateralConsensus(fetcher.ReadCheckpoint)
	tracker, err := client.NewLogStateTracker(
		ctx, fetcher.ReadTile, asked.Known, verifier, verifier.Name(), consensus)
	if err != nil {
		return answer{}, err
	}
	_, proof, latest, err := tracker.Update(ctx)
	if err != nil {
		return answer{}, err
	}
	return answer{Checkpoint: latest, Size: int64(tracker.Latest().Size), Growth: len(proof)}, nil
}

func fetcherOf(address string) (*client.HTTPFetcher, error) {
	parsed, err := url.Parse(address)
	if err != nil {
		return nil, err
	}
	return client.NewHTTPFetcher(parsed, nil)
}

func leafHashes(data []byte) ([][]byte, error) {
	var bundle api.EntryBundle
	if err := bundle.UnmarshalText(data); err != nil {
		return nil, err
	}
	hashes := make([][]byte, len(bundle.Entries))
	for i, entry := range bundle.Entries {
		hashes[i] = rfc6962.DefaultHasher.HashLeaf(entry)
	}
	return hashes, nil
}
