package ethereum

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/p2p/enode"

	"kadwire/interop/ethereum/gethnet"
	"kadwire/interop/harness"
)

// bucketSize is the number of nodes in a bucket, ours and go-ethereum's.
const bucketSize = 16

// room is how many of the nodes fit into the table of the node with this id: 16 of each distance.
func room(id enode.ID, nodes []*enode.Node) (fit int) {
	at := map[int]int{}
	for _, node := range nodes {
		if distance := max(enode.LogDist(id, node.ID()), 240); node.ID() != id && at[distance] < bucketSize {
			at[distance]++
			fit++
		}
	}
	return fit
}

// TestGethNodesFillTheirTablesThroughUs gives real go-ethereum nodes our bootnode and nothing else. Then go-ethereum's own tool crawls the
// network from us on, and resolves a node that only we can name.
func TestGethNodesFillTheirTablesThroughUs(t *testing.T) {
	_, url, record := startBootnode(t, "127.63.10.1")
	const nodes = 40
	begin := time.Now()
	network, err := gethnet.StartNetwork(gethnet.NetworkConfig{
		Config: gethnet.Config{Bootnodes: []*enode.Node{url}, PingInterval: 300 * time.Millisecond},
		Nodes:  nodes, Base: gethnet.Offset(loopback, 63<<16+11<<8), Port: 30303, PerSecond: 20,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(network.Stop)
	all := []*enode.Node{url}
	for _, node := range network.Nodes {
		all = append(all, node.Self())
	}
	state := func() (sparse, known, fit int) {
		for _, node := range network.Nodes {
			has, could := 0, room(node.Self().ID(), all)
			for _, bucket := range node.TableBuckets() {
				has += len(bucket)
			}
			known, fit = known+has, fit+could
			if has*4 < could*3 {
				sparse++
			}
		}
		return sparse, known, fit
	}
	eventually(t, 3*time.Minute, "each go-ethereum node has three quarters of the nodes that its table has room for, and all together 19 of 20", func() (bool, string) {
		sparse, known, fit := state()
		return sparse == 0 && known*20 >= fit*19, percent(known, fit) + " entries; " + percent(nodes-sparse, nodes) + " nodes are content"
	})
	_, known, fit := state()
	t.Logf("%d go-ethereum nodes filled their tables in %.1f s: %s entries", nodes, time.Since(begin).Seconds(), percent(known, fit))

	t.Run("devp2p crawls from us on", func(t *testing.T) {
		t.Parallel()
		file := filepath.Join(t.TempDir(), "nodes.json")
		got := harness.Run(t, time.Minute, "devp2p discv4 crawl", harness.Devp2p(t), "discv4", "crawl",
			"--bootnodes", url.URLv4(), "--addr", "127.63.10.2:0", "--timeout", "8s", file)
		if got.Code != 0 {
			t.Fatalf("exit %d: %s %s", got.Code, got.Stdout, got.Stderr)
		}
		var crawled map[enode.ID]struct{ Record string }
		raw, err := os.ReadFile(file)
		if err == nil {
			err = json.Unmarshal(raw, &crawled)
		}
		if err != nil {
			t.Fatal(err)
		}
		if got := crawled[url.ID()].Record; got != record.String() {
			t.Errorf("our record in its file is %q, we print %s", got, record)
		}
		found := 0
		for _, node := range network.Nodes {
			if _, ok := crawled[node.Self().ID()]; ok {
				found++
			}
		}
		t.Logf("go-ethereum's crawler found us and %s go-ethereum nodes in %.1f s", percent(found, nodes), got.Took.Seconds())
		if found*10 < nodes*8 {
			t.Errorf("it found %s nodes", percent(found, nodes))
		}
	})

	t.Run("devp2p resolves a node through us", func(t *testing.T) {
		t.Parallel()
		for i, node := range []*gethnet.Node{network.Nodes[0], network.Nodes[nodes-1]} {
			want := node.Self()
			nameless, _, _ := strings.Cut(want.URLv4(), "@") // its key, and no address
			got := devp2p(t, "discv4", "resolve",
				"--bootnodes", url.URLv4(), "--addr", gethnet.Offset(loopback, 63<<16+10<<8+3+i).String()+":0", nameless)
			if got.Code != 0 || strings.TrimSpace(got.Stdout) != want.String() {
				t.Errorf("exit %d: got %s, want %s\n%s", got.Code, got.Stdout, want, got.Stderr)
			}
		}
	})
}

// TestANodeWaitsForItsBootnode starts a node whose only bootnode comes up later: it asks again until it is there.
func TestANodeWaitsForItsBootnode(t *testing.T) {
	t.Parallel()
	key, _ := newKey(t)
	boot, bootURL, _ := startBootnode(t, "127.63.20.1", "--nodekey", key)
	boot.Kill() // all that is wanted of it yet is its URL
	_, url, _ := startBootnode(t, "127.63.20.2", "--bootnodes", bootURL.URLv4())
	asker := newStranger(t, "127.63.20.3", url)
	time.Sleep(5 * time.Second)
	if named := asker.liveTable(url.ID()); named[bootURL.ID()] {
		t.Fatal("it names a node that is not there")
	}
	begin := time.Now()
	_, _, _ = startBootnode(t, "127.63.20.1", "--nodekey", key)
	// Usually a few seconds. If our asking makes a refresh think that there is company, the next one is a young node's: within a minute.
	eventually(t, 90*time.Second, "the node has its bootnode in its table", func() (bool, string) {
		named := asker.liveTable(url.ID())
		return named[bootURL.ID()], percent(len(named), 1)
	})
	t.Logf("the bootnode was in the table %.1f s after it had come up", time.Since(begin).Seconds())
}
