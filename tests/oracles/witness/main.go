// Command witness keeps a log that somebody else wrote (Tessera, in files) and publishes a checkpoint only when the
// witnesses of a policy have cosigned it, so that our witness can be held against it. It reads one JSON object a line
// from standard input and writes one a line.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"time"

	"github.com/transparency-dev/tessera"
	"github.com/transparency-dev/tessera/storage/posix"
	"golang.org/x/mod/sumdb/note"
	"k8s.io/klog/v2"
)

const (
	lineBytesMax = 1 << 20
	interval     = 100 * time.Millisecond
)

type question struct {
	Do        string   `json:"do"`
	Directory string   `json:"directory"`
	Key       string   `json:"key"`     // the log's signer key
	Policy    string   `json:"policy"`  // the witnesses, with their URLs, and the quorum
	Entries   []string `json:"entries"` // what the log grows by
	Seconds   int      `json:"seconds"` // how long to wait for the witnesses
}

type answer struct {
	Error      string `json:"error"`
	Checkpoint []byte `json:"checkpoint,omitempty"`
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
		var q question
		var a answer
		err := json.Unmarshal(in.Bytes(), &q)
		if err == nil {
			a.Checkpoint, err = grow(q)
		}
		if err != nil {
			a.Error = err.Error()
		}
		if err := out.Encode(a); err != nil {
			fail(err)
		}
	}
	if err := in.Err(); err != nil {
		fail(err)
	}
}

// grow opens the log, adds the entries, waits until a checkpoint over them is published, and closes the log.
func grow(q question) (checkpoint []byte, err error) {
	if q.Do != "grow" {
		return nil, fmt.Errorf("nothing to do for %q", q.Do)
	}
	wait := time.Duration(q.Seconds) * time.Second
	ctx, cancel := context.WithTimeout(context.Background(), wait)
	defer cancel()
	signer, err := note.NewSigner(q.Key)
	if err != nil {
		return nil, fmt.Errorf("key: %w", err)
	}
	witnesses, err := tessera.NewWitnessGroupFromPolicy([]byte(q.Policy))
	if err != nil {
		return nil, fmt.Errorf("policy: %w", err)
	}
	driver, err := posix.New(ctx, posix.Config{Path: q.Directory})
	if err != nil {
		return nil, fmt.Errorf("storage: %w", err)
	}
	options := tessera.NewAppendOptions().
		WithCheckpointSigner(signer).
		WithBatching(uint(len(q.Entries)), interval).
		WithCheckpointInterval(interval).
		WithWitnesses(witnesses, &tessera.WitnessOptions{Timeout: wait})
	appender, shutdown, reader, err := tessera.NewAppender(ctx, driver, options)
	if err != nil {
		return nil, fmt.Errorf("appender: %w", err)
	}
	defer func() {
		if err == nil { // else there is nothing more to wait for
			err = shutdown(ctx)
		}
	}()
	awaiter := tessera.NewPublicationAwaiter(ctx, reader.ReadCheckpoint, interval)
	var added []tessera.IndexFuture
	for _, entry := range q.Entries {
		added = append(added, appender.Add(ctx, tessera.NewEntry([]byte(entry))))
	}
	for _, future := range added {
		_, checkpoint, err = awaiter.Await(ctx, future)
		if err != nil {
			return nil, fmt.Errorf("not published: %w", err)
		}
	}
	return checkpoint, nil
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}
