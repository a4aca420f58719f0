package ethereum

import (
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/p2p/enode"

	"kadwire/interop/ethereum/gethnet"
	"kadwire/interop/harness"
)

var loopback = netip.MustParseAddr("127.0.0.0")

// networkSize is the number of real go-ethereum nodes that are crawled.
const networkSize = 120

func TestCrawlFindsRealGethNodes(t *testing.T) {
	// A node whose first lookup fails, on a busy machine, looks for others again after Refresh, and is named by nobody until then. Checking
	// and looking more often than this keeps a busy machine from ever being done with it.
	network, err := gethnet.StartNetwork(gethnet.NetworkConfig{Config: gethnet.Config{PingInterval: time.Second, Refresh: time.Minute}, Nodes: networkSize, Base: gethnet.Offset(loopback, 32<<16), Port: 30303, Boot: 3, PerSecond: 20})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(network.Stop)
	waitUntilVisible(t, network, 3*time.Minute)

	var boot []string
	ids := map[string]bool{}
	for _, n := range network.Bootnodes {
		boot = append(boot, n.URLv4())
	}
	for _, n := range network.Nodes {
		ids[n.Self().ID().String()] = true
	}
	out := t.TempDir()
	before := network.NamedBy()
	got := harness.Run(t, 3*time.Minute, "crawl eth", harness.Kadwire(t), "crawl", "eth", "--bootnodes", strings.Join(boot, ","), "--out", out)
	after := network.NamedBy()
	if got.Code != 0 {
		t.Fatalf("exit %d: %s", got.Code, got.Stderr)
	}

	found := map[string]bool{}
	for i, line := range harness.Objects(t, filepath.Join(out, "nodes.ndjson")) {
		id := nodeID(t, line)
		if found[id] {
			t.Errorf("nodes.ndjson:%d: %s is there twice", i+1, id)
		}
		found[id] = true
	}
	ours := 0
	for id := range found {
		if ids[id] {
			ours++
		} else {
			t.Errorf("%s is no node of this network", id)
		}
	}
	t.Logf("found %s real go-ethereum nodes in %.1f s", percent(ours, networkSize), got.Took.Seconds())
	if ours*100 < networkSize*99 {
		t.Errorf("found %s, want at least 99 %%", percent(ours, networkSize))
	}

	edges := harness.Objects(t, filepath.Join(out, "edges.ndjson"))
	told, live := map[string]int{}, 0
	for _, edge := range edges {
		told[edge.Text("from")]++
	}
	for _, by := range before {
		live += len(by)
	}
	t.Logf("told of %d entries; %d had been live before the crawl", len(edges), live)
	for i, n := range network.Nodes {
		// Whoever told of it told us less than it knows, or nobody did.
		if id := n.Self().ID(); !found[id.String()] {
			t.Logf("not found: node %d, named by nodes %v before the crawl, %v after it", i, before[id], after[id])
			for _, by := range before[id] {
				_, live := network.Nodes[by].Live()
				t.Logf("node %d knows %d and told us of %d", by, live, told[network.Nodes[by].Self().ID().String()])
			}
		}
	}
	if len(edges) < networkSize {
		t.Errorf("only %d edges", len(edges))
	}
	for i, edge := range edges {
		from, to := edge.Text("from"), edge.Text("to")
		if !found[from] || !found[to] || from == to {
			t.Fatalf("edges.ndjson:%d: from %q to %q: not two different nodes of nodes.ndjson", i+1, from, to)
		}
	}
	checkSummary(t, filepath.Join(out, "crawl.json"), len(found), len(edges))
}

// checkSummary checks the fields of crawl.json against the other two files.
func checkSummary(t *testing.T, path string, found, edges int) {
	t.Helper()
	summary := harness.Object(t, path)
	for field, want := range map[string]int{"found": found, "edges": edges} {
		if int(summary.Number(field)) != want {
			t.Errorf("crawl.json: %s is %v, the file has %d", field, summary[field], want)
		}
	}
	if reachable := int(summary.Number("reachable")); reachable*100 < found*99 || reachable > found {
		t.Errorf("crawl.json: reachable is %v of %d nodes that all run", summary["reachable"], found)
	}
	if summary.Number("seconds") <= 0 {
		t.Errorf("crawl.json: seconds is %v", summary["seconds"])
	}
	if _, ok := summary["errors"].(map[string]any); !ok {
		t.Errorf("crawl.json: errors is %v, want an object of cause and count", summary["errors"])
	}
}

// nodeID is the id of a line of nodes.ndjson, checked against the record when the line has one.
func nodeID(t *testing.T, line harness.Event) string {
	t.Helper()
	id := line.Text("id")
	for _, field := range []string{"enode", "enr", "record"} {
		text := line.Text(field)
		if text == "" {
			continue
		}
		if node, err := enode.Parse(enode.ValidSchemes, text); err != nil {
			t.Errorf("nodes.ndjson: %s %q: %v", field, text, err)
		} else if node.ID().String() != id {
			t.Errorf("nodes.ndjson: %s is of node %s, the id says %s", field, node.ID(), id)
		}
	}
	return id
}

// waitUntilVisible waits until every node can be found by asking.
func waitUntilVisible(t *testing.T, network *gethnet.Network, within time.Duration) {
	t.Helper()
	for start := time.Now(); ; time.Sleep(200 * time.Millisecond) {
		visible := network.Visible()
		if visible == len(network.Nodes) {
			t.Logf("%d go-ethereum nodes are visible after %.1f s", visible, time.Since(start).Seconds())
			return
		}
		if time.Since(start) > within {
			t.Fatalf("go-ethereum's own nodes name only %s of each other after %v", percent(visible, len(network.Nodes)), within)
		}
	}
}
