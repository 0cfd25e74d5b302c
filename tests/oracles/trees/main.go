// Command trees answers questions about RFC 6962 trees with other people's code, so that ours can be held against it.
//
// Each line of JSON on standard input names an operation ("do") and is answered by one with its results, or with the
// reason for which it is refused ("error").
package main

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/transparency-dev/merkle/compact"
	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"
	"golang.org/x/mod/sumdb/tlog"
)

const tileHeight = 8

type hashes [][]byte

func (h hashes) MarshalJSON() ([]byte, error) {
	texts := make([]string, len(h))
	for i, hash := range h {
		texts[i] = hex.EncodeToString(hash)
	}
	return json.Marshal(texts)
}

func (h *hashes) UnmarshalJSON(data []byte) error {
	var texts []string
	if err := json.Unmarshal(data, &texts); err != nil {
		return err
	}
	*h = make(hashes, len(texts))
	for i, text := range texts {
		hash, err := hex.DecodeString(text)
		if err != nil {
			return err
		}
		(*h)[i] = hash
	}
	return nil
}

type request struct {
	Do        string
	Leaves    hashes // leaf hashes of the tree that proofs are asked for
	Proof     hashes
	Roots     hashes // of the older and the newer tree, or of the one there is
	Index     uint64
	Size      uint64
	First     uint64
	Directory string
	Indices   []int64
}

type answer struct {
	Error  string   `json:"error"`
	Hashes hashes   `json:"hashes"`
	Paths  []string `json:"paths"`
}

func main() {
	requests, answers := json.NewDecoder(os.Stdin), json.NewEncoder(os.Stdout)
	for {
		var one request
		if err := requests.Decode(&one); errors.Is(err, io.EOF) {
			return
		} else if err != nil {
			fail(err)
		}
		found, paths, err := answerTo(one)
		given := answer{Hashes: found, Paths: paths}
		if err != nil {
			given.Error = err.Error()
		}
		if err := answers.Encode(given); err != nil {
			fail(err)
		}
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

func answerTo(one request) (hashes, []string, error) {
	hasher := rfc6962.DefaultHasher
	switch one.Do {
	case "roots":
		return roots(one.Leaves)
	case "range":
		return rangeHashes(one.Leaves, one.First)
	case "inclusion":
		nodes, err := proof.Inclusion(one.Index, one.Size)
		return prove(one.Leaves, nodes, err)
	case "consistency":
		nodes, err := proof.Consistency(one.First, one.Size)
		return prove(one.Leaves, nodes, err)
	case "verify-inclusion":
		return nil, nil, proof.VerifyInclusion(hasher, one.Index, one.Size, one.Leaves[0], one.Proof, one.Roots[0])
	case "verify-consistency":
		return nil, nil, proof.VerifyConsistency(hasher, one.First, one.Size, one.Proof, one.Roots[0], one.Roots[1])
	case "new-tiles":
		return nil, paths(tlog.NewTiles(tileHeight, int64(one.First), int64(one.Size))), nil
	case "read-tiles":
		return readTiles(one)
	}
	return nil, nil, fmt.Errorf("unknown operation %q", one.Do)
}

// roots returns the root for each number of the leaves, from none to all, by a compact range.
func roots(leaves hashes) (hashes, []string, error) {
	grown := (&compact.RangeFactory{Hash: rfc6962.DefaultHasher.HashChildren}).NewEmptyRange(0)
	found := hashes{rfc6962.DefaultHasher.EmptyRoot()}
	for _, leaf := range leaves {
		if err := grown.Append(leaf, nil); err != nil {
			return nil, nil, err
		}
		root, err := grown.GetRootHash(nil)
		if err != nil {
			return nil, nil, err
		}
		found = append(found, root)
	}
	return found, nil, nil
}

// rangeHashes returns the hashes of the compact range over leaves of which the first one has the index begin.
func rangeHashes(leaves hashes, begin uint64) (hashes, []string, error) {
	grown := (&compact.RangeFactory{Hash: rfc6962.DefaultHasher.HashChildren}).NewEmptyRange(begin)
	for _, leaf := range leaves {
		if err := grown.Append(leaf, nil); err != nil {
			return nil, nil, err
		}
	}
	return grown.Hashes(), nil, nil
}

// prove returns the proof that consists of certain nodes of the tree over the leaves.
func prove(leaves hashes, wanted proof.Nodes, err error) (hashes, []string, error) {
	if err != nil {
		return nil, nil, err
	}
	nodes := map[compact.NodeID][]byte{}
	grown := (&compact.RangeFactory{Hash: rfc6962.DefaultHasher.HashChildren}).NewEmptyRange(0)
	for index, leaf := range leaves {
		nodes[compact.NewNodeID(0, uint64(index))] = leaf
		if err := grown.Append(leaf, func(id compact.NodeID, hash []byte) { nodes[id] = hash }); err != nil {
			return nil, nil, err
		}
	}
	found := make([][]byte, len(wanted.IDs))
	for i, id := range wanted.IDs {
		hash, ok := nodes[id]
		if !ok {
			return nil, nil, fmt.Errorf("no node %+v", id)
		}
		found[i] = bytes.Clone(hash)
	}
	found, err = wanted.Rehash(found, rfc6962.DefaultHasher.HashChildren)
	return found, nil, err
}

// directory reads the tiles of a log as C2SP tlog-tiles lays them out: as Go's checksum database, without the height.
type directory string

func (d directory) Height() int { return tileHeight }

func (d directory) ReadTiles(tiles []tlog.Tile) ([][]byte, error) {
	found := make([][]byte, len(tiles))
	for i, path := range paths(tiles) {
		data, err := os.ReadFile(filepath.Join(string(d), path))
		if err != nil {
			return nil, err
		}
		found[i] = data
	}
	return found, nil
}

func (d directory) SaveTiles([]tlog.Tile, [][]byte) {}

func paths(tiles []tlog.Tile) []string {
	found := make([]string, len(tiles))
	for i, tile := range tiles {
		found[i] = strings.Replace(tile.Path(), fmt.Sprintf("tile/%d/", tileHeight), "tile/", 1)
	}
	return found
}

// readTiles returns leaf hashes and proofs out of a directory, each tile of which is verified against the root.
func readTiles(one request) (hashes, []string, error) {
	tree := tlog.Tree{N: int64(one.Size), Hash: tlog.Hash(one.Roots[0])}
	reader := tlog.TileHashReader(tree, directory(one.Directory))
	found := hashes{}
	for _, index := range one.Indices {
		read, err := reader.ReadHashes([]int64{tlog.StoredHashIndex(0, index)})
		if err != nil {
			return nil, nil, err
		}
		proven, err := tlog.ProveRecord(tree.N, index, reader)
		if err != nil {
			return nil, nil, err
		}
		if err := tlog.CheckRecord(proven, tree.N, tree.Hash, index, read[0]); err != nil {
			return nil, nil, err
		}
		found = append(found, read[0][:])
	}
	return found, nil, nil
}
