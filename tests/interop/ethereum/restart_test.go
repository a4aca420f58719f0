package ethereum

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	crand "crypto/rand"

	"github.com/ethereum/go-ethereum/crypto"
	"github.com/ethereum/go-ethereum/p2p/discover/v4wire"
	"github.com/ethereum/go-ethereum/p2p/enode"

	"kadwire/interop/ethereum/gethnet"
	"kadwire/interop/harness"
)

// liveTable is what a node has in its table and relays: of each bucket the 16 closest to a target in it, which is all that it holds.
func (s *stranger) liveTable(id enode.ID) map[enode.ID]bool {
	s.t.Helper()
	table := map[enode.ID]bool{}
	s.bond()
	for distance := 256; distance > 246; distance-- {
		var target v4wire.Pubkey
		for enode.LogDist(id, enode.ID(crypto.Keccak256Hash(target[:]))) != distance {
			crand.Read(target[:])
		}
		named := s.ask(target)
		for try := 0; try < 2 && len(named) < bucketSize && (distance == 256 || len(table) >= bucketSize); try++ {
			s.bond() // a datagram was lost, or it has forgotten us
			named = s.ask(target)
		}
		maps.Copy(table, named)
		if len(table) < bucketSize {
			break // it has no more than these
		}
	}
	return table
}

// restarting is a bootnode of ours that is killed and started again, without bootnodes, in a network of real go-ethereum nodes.
type restarting struct {
	t       *testing.T
	args    []string
	process *harness.Process
	url     *enode.Node
	asker   *stranger
	ids     map[enode.ID]bool
}

const restartingAt = "127.63.30.1"

func (r *restarting) start() {
	r.t.Helper()
	r.process, r.url, _ = startBootnode(r.t, restartingAt, r.args...)
}

// live are the nodes of the network in its table.
func (r *restarting) live() map[enode.ID]bool {
	r.t.Helper()
	table := r.asker.liveTable(r.url.ID())
	maps.DeleteFunc(table, func(id enode.ID, _ bool) bool { return !r.ids[id] })
	return table
}

// proofs is how many nodes it counts as having proven their endpoints: right after a start, those that its database has.
func (r *restarting) proofs() int {
	r.t.Helper()
	answer, err := http.Get("http://" + restartingAt + ":6060/status")
	if err != nil {
		r.t.Fatal(err)
	}
	defer answer.Body.Close()
	var status struct{ Discovery struct{ Bonds int } }
	if err := json.NewDecoder(answer.Body).Decode(&status); err != nil {
		r.t.Fatal(err)
	}
	return status.Discovery.Bonds
}

// backWithin is how long nine tenths of a table may take to be back, where the machine has time for the bootnode.
const backWithin = 10 * time.Second

// isBack starts it and wants the nodes of an earlier table: in its database at once, and live in its table soon. The network would come back
// by itself, but later.
func (r *restarting) isBack(after string, before map[enode.ID]bool) {
	r.t.Helper()
	begin := time.Now()
	r.start()
	stored := r.proofs()
	if stored*10 < len(before)*9 {
		r.t.Errorf("%s: its database has %d nodes, want nine tenths of %d", after, stored, len(before))
	}
	var now map[enode.ID]bool
	again := 0
	eventually(r.t, 2*time.Minute, after+": nine tenths are back", func() (bool, string) {
		now, again = r.live(), 0
		for id := range before {
			if now[id] {
				again++
			}
		}
		return len(now)*10 >= len(before)*9 && again*10 >= len(before)*9, percent(again, len(before))
	})
	took, waited := time.Since(begin), r.process.Waited()
	r.t.Logf("%s: %d live nodes before, %d in the database, %d live after %.1f s, %d of them again; it waited %v for a processor", after,
		len(before), stored, len(now), took.Seconds(), again, waited.Round(time.Millisecond))
	if took > backWithin && waited <= suitePatience {
		r.t.Errorf("%s: nine tenths were back after %v, want %v", after, took, backWithin)
	}
}

// TestKilledBootnodeHasItsTableBack: kill -9 at any moment, then a start without bootnodes. With a torn or corrupt database it starts too,
// says what it set aside, and stores anew.
func TestKilledBootnodeHasItsTableBack(t *testing.T) {
	key, _ := newKey(t)
	dir := t.TempDir()
	r := &restarting{t: t, args: []string{"--nodekey", key, "--datadir", dir, "--status", restartingAt + ":6060"}, ids: map[enode.ID]bool{}}
	r.start()
	const nodes = 110
	network, err := gethnet.StartNetwork(gethnet.NetworkConfig{
		Config: gethnet.Config{Bootnodes: []*enode.Node{r.url}, PingInterval: 500 * time.Millisecond},
		Nodes:  nodes, Base: gethnet.Offset(loopback, 63<<16+31<<8), Port: 30303, PerSecond: 20,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(network.Stop)
	var all []*enode.Node
	for _, node := range network.Nodes {
		all = append(all, node.Self())
		r.ids[node.Self().ID()] = true
	}
	r.asker = newStranger(t, "127.63.30.2", r.url)
	fit := room(r.url.ID(), all)
	var before map[enode.ID]bool
	eventually(t, 3*time.Minute, "our table is filled", func() (bool, string) {
		before = r.live()
		return len(before)*10 >= fit*8, percent(len(before), fit)
	})
	t.Logf("our table has %s go-ethereum nodes that it has room for", percent(len(before), fit))

	seed := time.Now().UnixNano()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(uint64(seed), 0))
	r.process.Kill()
	r.isBack("killed with a full table", before)

	// Right after the start, while it stores whom it finds alive, and later.
	for _, most := range []int{0, 20, 100, 300, 1000, 3000} {
		r.process.Kill()
		r.start()
		time.Sleep(time.Duration(rng.IntN(most+1)) * time.Millisecond)
	}
	r.process.Kill()
	r.isBack("killed six times more within seconds", before)

	for _, damage := range []damage{{"nodes.db-wal", cut}, {"nodes.db-wal", flip}, {"nodes.db", flip}, {"nodes.db", cut}, {"nodes.db", overwrite}} {
		if damage.file == "nodes.db" {
			r.process.Interrupt() // so that everything is in this file
			r.process.Exited(startup)
		} else {
			log := filepath.Join(dir, damage.file)
			eventually(t, startup, "something is in "+log, func() (bool, string) {
				info, err := os.Stat(log)
				return err == nil && info.Size() > 0, fmt.Sprint(err)
			})
			r.process.Kill()
		}
		what := damage.do(t, rng, dir)
		r.start()
		aside, _ := filepath.Glob(filepath.Join(dir, "nodes.db.corrupt-*"))
		t.Logf("%s: it starts, and has set aside %d files", what, len(aside))
		said := func() bool { return strings.Contains(r.process.Stderr(), "set aside") }
		if len(aside) > 0 {
			// It was said before its first line, but by another pipe.
			eventually(t, startup, "it says what it has set aside", func() (bool, string) { return said(), r.process.Stderr() })
		} else if said() {
			t.Errorf("%s: nothing is set aside, but it says so\n%s", what, r.process.Stderr())
		}
		for _, path := range aside {
			os.Remove(path)
		}
		time.Sleep(2 * time.Second) // it stores whom it finds alive
	}
	// The network pings a node it knows, so the table comes back, and is stored.
	eventually(t, 3*time.Minute, "the table is rebuilt after the damage", func() (bool, string) {
		now := r.live()
		return len(now)*10 >= len(before)*8, percent(len(now), len(before))
	})
	rebuilt := r.live()
	r.process.Kill()
	r.isBack("killed after it was rebuilt", rebuilt)
	if strings.Contains(r.process.Stderr(), "set aside") {
		t.Errorf("what it rebuilt was set aside:\n%s", r.process.Stderr())
	}
}

// damage is what happens to a file while nobody has it open.
type damage struct {
	file string
	how  func(rng *rand.Rand, content []byte) (what string, spoiled []byte)
}

func cut(rng *rand.Rand, content []byte) (string, []byte) {
	return "cut", content[:rng.IntN(len(content))]
}

func flip(rng *rand.Rand, content []byte) (string, []byte) {
	for range 20 {
		content[rng.IntN(len(content))] ^= 1 << rng.IntN(8)
	}
	return "flipped", content
}

func overwrite(_ *rand.Rand, content []byte) (string, []byte) {
	copy(content, bytes.Repeat([]byte("spoiled "), 20))
	return "overwritten", content
}

func (d damage) do(t *testing.T, rng *rand.Rand, dir string) string {
	t.Helper()
	path := filepath.Join(dir, d.file)
	content, err := os.ReadFile(path)
	if err != nil || len(content) == 0 {
		t.Fatalf("%s has nothing to damage: %v", d.file, err)
	}
	size := len(content)
	what, spoiled := d.how(rng, content)
	if err := os.WriteFile(path, spoiled, 0o600); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%s %s, %d of %d bytes", d.file, what, len(spoiled), size)
}
