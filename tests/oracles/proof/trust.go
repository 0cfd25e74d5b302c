package main

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

const (
	policyBytesMax = 1_000_000
	logsMax        = 256
	namesMax       = 512
	skewSeconds    = 300
)

type witness struct {
	name string
	key  key
}

type group struct {
	name      string
	threshold int
	members   []string
}

type policy struct {
	logs      []key
	witnesses []witness
	groups    []group
	quorum    string
}

// parsePolicy reads a policy (section 20).
func parsePolicy(data []byte) (policy, error) {
	var found policy
	if len(data) > policyBytesMax || !bytes.HasSuffix(data, []byte("\n")) {
		return found, errors.New("the policy is cut or too large")
	}
	for _, b := range data {
		if b < 0x20 && b != '\t' && b != '\n' || b == 0x7f {
			return found, errors.New("the policy has a control character")
		}
	}
	names, members := map[string]bool{}, map[string]bool{}
	define := func(name string) error {
		if name == "none" || names[name] || len(names) == namesMax {
			return fmt.Errorf("the name %q is taken, or one too many", name)
		}
		names[name] = true
		return nil
	}
	for line := range strings.SplitSeq(strings.TrimSuffix(string(data), "\n"), "\n") {
		words := strings.FieldsFunc(line, func(r rune) bool { return r == ' ' || r == '\t' })
		if len(words) == 0 || strings.HasPrefix(words[0], "#") {
			continue
		}
		var err error
		switch keyword, n := words[0], len(words)-1; {
		case keyword == "log" && (n == 1 || n == 2):
			err = found.addLog(words[1])
		case keyword == "witness" && (n == 2 || n == 3):
			if err = found.addWitness(words[1], words[2]); err == nil {
				err = define(words[1])
			}
		case keyword == "group" && n >= 3:
			if err = found.addGroup(words[1], words[2], words[3:], names, members); err == nil {
				err = define(words[1])
			}
		case keyword == "quorum" && n == 1:
			if found.quorum != "" || words[1] != "none" && !names[words[1]] {
				err = errors.New("a second quorum, or an unknown one")
			}
			found.quorum = words[1]
		default:
			err = errors.New("no definition")
		}
		if err != nil {
			return found, err
		}
	}
	if found.quorum == "" {
		return found, errors.New("the policy has no quorum")
	}
	return found, nil
}

func (p *policy) addLog(vkey string) error {
	k, err := parseKey(vkey)
	if err != nil {
		return err
	}
	twice := slices.ContainsFunc(p.logs, func(other key) bool { return other.public == k.public })
	if k.typ != typeEd25519 && k.typ != typeMLDSA || twice || len(p.logs) == logsMax {
		return errors.New("a log with a key of a wrong type, a key that is there twice, or one log too many")
	}
	p.logs = append(p.logs, k)
	return nil
}

func (p *policy) addWitness(name, vkey string) error {
	k, err := parseKey(vkey)
	if err != nil {
		return err
	}
	twice := slices.ContainsFunc(p.witnesses, func(other witness) bool { return other.key.public == k.public })
	if k.typ != typeCosignature && k.typ != typeMLDSA || twice {
		return errors.New("a witness with a key of a wrong type, or a key that is there twice")
	}
	p.witnesses = append(p.witnesses, witness{name, k})
	return nil
}

var threshold = regexp.MustCompile(`^[1-9][0-9]{0,3}$`)

func (p *policy) addGroup(name, wanted string, of []string, names, members map[string]bool) error {
	made := group{name: name, members: of}
	switch {
	case wanted == "any":
		made.threshold = 1
	case wanted == "all":
		made.threshold = len(of)
	case threshold.MatchString(wanted):
		made.threshold, _ = strconv.Atoi(wanted)
	default:
		return errors.New("no threshold")
	}
	if made.threshold > len(of) {
		return errors.New("a group that asks for more members than it has")
	}
	for _, member := range of {
		if !names[member] || members[member] {
			return errors.New("a member that is unknown, or one twice")
		}
		members[member] = true
	}
	p.groups = append(p.groups, made)
	return nil
}

func (p policy) satisfied(witnesses map[string]bool) bool {
	if p.quorum == "none" {
		return true
	}
	seen := map[string]bool{}
	for name := range witnesses {
		seen[name] = true
	}
	for _, one := range p.groups {
		count := 0
		for _, member := range one.members {
			if seen[member] {
				count++
			}
		}
		if count >= one.threshold {
			seen[one.name] = true
		}
	}
	return seen[p.quorum]
}

// rotation says that a key is followed by another one (section 21).
type rotation struct {
	old, new           key
	notAfter, newStart uint64
}

var rotationText = regexp.MustCompile(
	`^sealstream/rotation1\nold ([^\n]+)\nnew ([^\n]+)\nold-not-after ([^\n]+)\nnew-not-before ([^\n]+)\n$`)

func parseRotation(data []byte) (rotation, error) {
	note, err := parseNote(data)
	if err != nil {
		return rotation{}, err
	}
	fields := rotationText.FindStringSubmatch(note.text)
	if fields == nil || len(note.signatures) != 2 {
		return rotation{}, errors.New("malformed rotation record")
	}
	var found rotation
	var errs [4]error
	found.old, errs[0] = parseKey(fields[1])
	found.new, errs[1] = parseKey(fields[2])
	found.notAfter, errs[2] = decodeDecimal(fields[3])
	found.newStart, errs[3] = decodeDecimal(fields[4])
	if err := errors.Join(errs[:]...); err != nil {
		return rotation{}, err
	}
	sameType := found.new.typ == found.old.typ || found.new.typ == typeMLDSA
	if found.old.name != found.new.name || found.old.public == found.new.public || !sameType {
		return rotation{}, errors.New("a rotation between keys that do not go together")
	}
	for i, k := range []key{found.old, found.new} {
		sig := note.signatures[i]
		if sig.name != k.name || sig.id != k.statementID() {
			return rotation{}, errors.New("a rotation record signed by another key")
		}
		right, err := k.verifyRaw(statementLabel+note.text, sig.data)
		if err != nil {
			return rotation{}, err
		}
		if !right {
			return rotation{}, errors.New("a rotation record with a wrong signature")
		}
	}
	return found, nil
}

func parseRotations(data []byte) ([]rotation, error) {
	const begin = "sealstream/rotation1\n"
	if len(data) == 0 {
		return nil, nil
	}
	var starts []int
	for place := 0; place < len(data); {
		if bytes.HasPrefix(data[place:], []byte(begin)) {
			starts = append(starts, place)
		}
		next := bytes.IndexByte(data[place:], '\n')
		if next < 0 {
			break
		}
		place += next + 1
	}
	if len(starts) == 0 || starts[0] != 0 {
		return nil, errors.New("a file of rotations does not begin with one")
	}
	var found []rotation
	for i, start := range starts {
		end := len(data)
		if i+1 < len(starts) {
			end = starts[i+1]
		}
		one, err := parseRotation(data[start:end])
		if err != nil {
			return nil, err
		}
		found = append(found, one)
	}
	return found, nil
}

// datedKey is a key and the time in which it is in use, both ends included.
type datedKey struct {
	key        key
	start, end uint64
}

func (d datedKey) inUse(time uint64) bool { return d.start <= time && time <= d.end }

type material struct {
	typ    byte
	public string
}

func materialOf(k key) material { return material{k.typ, k.public} }

type history struct{ following, preceding map[material]rotation }

func newHistory(rotations []rotation) (history, error) {
	made := history{map[material]rotation{}, map[material]rotation{}}
	for _, one := range rotations {
		before, known := made.following[materialOf(one.old)]
		after, followed := made.preceding[materialOf(one.new)]
		if known && before != one || followed && after != one {
			return made, errors.New("two records say different things of one key")
		}
		made.following[materialOf(one.old)], made.preceding[materialOf(one.new)] = one, one
	}
	return made, nil
}

// lineage returns a key and all that precede and follow it, under its name.
func (h history) lineage(k key) ([]datedKey, error) {
	holds := func(one rotation) bool {
		return k.name == one.old.name || strings.HasPrefix(k.name, one.old.name+"/")
	}
	named := func(other key) key { return key{k.name, other.typ, other.public} }
	back := errors.New("records come back to a key")
	oldest, seen := k, map[material]bool{materialOf(k): true}
	for {
		one, known := h.preceding[materialOf(oldest)]
		if !known || !holds(one) {
			break
		}
		if oldest = named(one.old); seen[materialOf(oldest)] {
			return nil, back
		}
		seen[materialOf(oldest)] = true
	}
	keys, seen := []datedKey{{oldest, 0, math.MaxInt64}}, map[material]bool{materialOf(oldest): true}
	for {
		last := &keys[len(keys)-1]
		one, known := h.following[materialOf(last.key)]
		if !known || !holds(one) {
			return keys, nil
		}
		last.end = one.notAfter
		next := datedKey{named(one.new), one.newStart, math.MaxInt64}
		if seen[materialOf(next.key)] {
			return nil, back
		}
		seen[materialOf(next.key)] = true
		keys = append(keys, next)
	}
}

type reader struct {
	policy  policy
	history history
	now     uint64
}

type believed struct {
	checkpoint checkpoint
	quorumTime int64 // -1 where no quorum is asked for
}

type cosignature struct {
	witness string
	time    uint64
}

// believe returns a checkpoint if the reader may believe it (section 20).
func (r reader) believe(data []byte, origin string) (believed, error) {
	logKeys, witnessKeys := map[key]datedKey{}, map[key]datedKey{}
	owners := map[key]string{}
	for _, log := range r.policy.logs {
		keys, err := r.history.lineage(log)
		if err != nil {
			return believed{}, err
		}
		for _, dated := range keys {
			logKeys[dated.key] = dated
		}
	}
	holders := map[string]string{}
	for _, one := range r.policy.witnesses {
		keys, err := r.history.lineage(one.key)
		if err != nil {
			return believed{}, err
		}
		for _, dated := range keys {
			if holder, held := holders[dated.key.public]; held && holder != one.name {
				return believed{}, errors.New("one key belongs to two witnesses")
			}
			holders[dated.key.public] = one.name
			witnessKeys[dated.key], owners[dated.key] = dated, one.name
		}
	}
	note, err := parseNote(data)
	if err != nil {
		return believed{}, err
	}
	verified, err := verifySignatures(note, logKeys, witnessKeys)
	if err != nil {
		return believed{}, err
	}
	found, err := parseCheckpoint(note.text)
	if err != nil {
		return believed{}, err
	}
	if found.origin != origin {
		return believed{}, errors.New("the checkpoint is of another log")
	}
	var counted []cosignature
	for k, time := range verified {
		dated, isWitness := witnessKeys[k]
		// A key that has gone out of use counts only if somebody else saw the note before: nobody did here.
		if isWitness && time > 0 && uint64(time) <= r.now+skewSeconds && dated.inUse(uint64(time)) && r.now <= dated.end {
			counted = append(counted, cosignature{owners[k], uint64(time)})
		}
	}
	slices.SortFunc(counted, func(a, b cosignature) int { return int(int64(a.time) - int64(b.time)) })
	if !r.signedByLog(verified, logKeys, origin, counted) {
		return believed{}, errors.New("no key of the log that is in use has signed, or shows that it did then")
	}
	time := r.quorumTime(counted)
	if time < 0 && r.policy.quorum != "none" {
		return believed{}, errors.New("too few witnesses have cosigned")
	}
	return believed{found, time}, nil
}

// verifySignatures returns the known keys that signed, each with the time that it states or -1.
func verifySignatures(note signedNote, known ...map[key]datedKey) (map[key]int64, error) {
	byID := map[string]key{}
	for _, keys := range known {
		for k := range keys {
			id := k.id()
			byID[k.name+"\n"+string(id[:])] = k
		}
	}
	verified := map[key]int64{}
	for _, sig := range note.signatures {
		k, isKnown := byID[sig.name+"\n"+string(sig.id[:])]
		if _, again := verified[k]; !isKnown || again {
			continue
		}
		right, time, err := k.verify(note.text, sig.data)
		if err != nil {
			return nil, err
		}
		if !right {
			return nil, errors.New("a signature by a known key does not verify")
		}
		verified[k] = time
	}
	if len(verified) == 0 {
		return nil, errors.New("no known key has signed")
	}
	return verified, nil
}

func (r reader) signedByLog(verified map[key]int64, logKeys map[key]datedKey, origin string, counted []cosignature) bool {
	for k := range verified {
		dated, isLog := logKeys[k]
		if !isLog || k.name != origin {
			continue
		}
		if dated.start > r.now+skewSeconds {
			continue // not yet in use
		}
		if r.now <= dated.end {
			return true
		}
		var then []cosignature
		for _, one := range counted {
			if one.time <= dated.end {
				then = append(then, one)
			}
		}
		if r.quorumTime(then) >= 0 {
			return true
		}
	}
	return false
}

// quorumTime returns the time by which a quorum had cosigned; -1 for none. The cosignatures are in order.
func (r reader) quorumTime(cosignatures []cosignature) int64 {
	if r.policy.quorum == "none" {
		return -1
	}
	seen := map[string]bool{}
	for _, one := range cosignatures {
		seen[one.witness] = true
		if r.policy.satisfied(seen) {
			return int64(one.time)
		}
	}
	return -1
}
