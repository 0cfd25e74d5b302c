package main

import (
	"crypto/sha256"
	"errors"
)

const sizeMax = 1<<63 - 1

type hash = [sha256.Size]byte

func leafHash(data []byte) hash { return sha256.Sum256(append([]byte{0}, data...)) }

func nodeHash(left, right hash) hash {
	return sha256.Sum256(append(append([]byte{1}, left[:]...), right[:]...))
}

// rootOf returns the root to which an inclusion proof leads (section 12.1).
func rootOf(proof []hash, leaf hash, index, size uint64) (hash, error) {
	if index >= size || size > sizeMax {
		return hash{}, errors.New("the tree has no such leaf")
	}
	place, last, value := index, size-1, leaf
	for _, sibling := range proof {
		if last == 0 {
			return hash{}, errors.New("the inclusion proof is too long")
		}
		if place&1 == 1 || place == last {
			value = nodeHash(sibling, value)
			for place != 0 && place&1 == 0 {
				place, last = place>>1, last>>1
			}
		} else {
			value = nodeHash(value, sibling)
		}
		place, last = place>>1, last>>1
	}
	if last != 0 {
		return hash{}, errors.New("the inclusion proof is too short")
	}
	return value, nil
}

// checkConsistency verifies that a tree begins with the leaves of another one (section 12.2).
func checkConsistency(proof []hash, first uint64, firstRoot hash, second uint64, secondRoot hash) error {
	refused := errors.New("the consistency proof does not hold")
	if first > second || second > sizeMax {
		return refused
	}
	empty := sha256.Sum256(nil)
	if first == 0 && firstRoot != empty || second == 0 && secondRoot != empty {
		return refused
	}
	if first == 0 || first == second {
		if len(proof) != 0 || first != 0 && firstRoot != secondRoot {
			return refused
		}
		return nil
	}
	if len(proof) == 0 {
		return refused
	}
	if first&(first-1) == 0 {
		proof = append([]hash{firstRoot}, proof...)
	}
	place, last := first-1, second-1
	for place&1 == 1 {
		place, last = place>>1, last>>1
	}
	a, b := proof[0], proof[0]
	for _, sibling := range proof[1:] {
		if last == 0 {
			return refused
		}
		if place&1 == 1 || place == last {
			a, b = nodeHash(sibling, a), nodeHash(sibling, b)
			for place != 0 && place&1 == 0 {
				place, last = place>>1, last>>1
			}
		} else {
			b = nodeHash(b, sibling)
		}
		place, last = place>>1, last>>1
	}
	if last != 0 || a != firstRoot || b != secondRoot {
		return refused
	}
	return nil
}
