package tendermint

import (
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"kadwire/interop/harness"
	"kadwire/interop/tendermint/comet"
)

// networkSize is the number of real CometBFT switches that are crawled. How fast is benches/versus' question.
const networkSize = 100

// TestCrawlFindsEverySwitchBehindAHub: one switch knows all, the others found each other through it.
func TestCrawlFindsEverySwitchBehindAHub(t *testing.T) { crawlBehindOne(t, false) }

// TestCrawlFindsEverySwitchBehindASeed: the one that all know is in seed mode, and answers once a connection.
func TestCrawlFindsEverySwitchBehindASeed(t *testing.T) { crawlBehindOne(t, true) }

func crawlBehindOne(t *testing.T, seedMode bool) {
	switches, err := comet.StartNetwork(networkSize, network, t.TempDir(), 100, seedMode, time.Second)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(switches.Stop)
	waitForBook(t, switches.Switches[0], networkSize-1, startup)
	waitUntilKnown(t, switches)
	crawl(t, switches, switches.Switches[0])
}

// TestCrawlFindsEverySwitchOfATree: each knew one other when it started; the crawl begins at the last leaf.
func TestCrawlFindsEverySwitchOfATree(t *testing.T) {
	switches, err := comet.StartTree(networkSize, network, t.TempDir(), 100, time.Second)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(switches.Stop)
	waitUntilKnown(t, switches)
	crawl(t, switches, switches.Switches[networkSize-1])
}

// crawl gives `kadwire crawl tendermint` the address of one switch, and wants all of them, with what each says of itself.
func crawl(t *testing.T, switches *comet.Network, start *comet.Switch) {
	t.Helper()
	out := t.TempDir()
	got := harness.Run(t, 3*time.Minute, "crawl tendermint", harness.Kadwire(t), "crawl", "tendermint",
		"--seeds", start.Address.String(), "--chain-id", network, "--out", out)
	if got.Code != 0 {
		t.Fatalf("exit %d: %s", got.Code, got.Stderr)
	}
	want, found := map[string]harness.Event{}, map[string]bool{}
	for i, s := range switches.Switches {
		listen := s.NetAddress().DialString()
		want[string(s.Address.ID)] = harness.Event{
			"address": s.Address.String(), "moniker": fmt.Sprintf("comet%d", i), "version": comet.Version, "network": network,
			"channels": "3000", "listen_addr": listen, "reachable": true,
		}
	}
	for i, line := range harness.Objects(t, filepath.Join(out, "nodes.ndjson")) {
		id := line.Text("id")
		wanted, ours := want[id]
		if !ours || found[id] {
			t.Fatalf("nodes.ndjson:%d: %s is no switch of this network, or there twice", i+1, id)
		}
		found[id] = true
		for field, value := range wanted {
			if line[field] != value {
				t.Fatalf("nodes.ndjson:%d: %s is %v, want %v", i+1, field, line[field], value)
			}
		}
	}
	edges := harness.Objects(t, filepath.Join(out, "edges.ndjson"))
	for i, edge := range edges {
		from, to := edge.Text("from"), edge.Text("to")
		if !found[from] || !found[to] || from == to {
			t.Fatalf("edges.ndjson:%d: from %q to %q: not two different nodes of nodes.ndjson", i+1, from, to)
		}
	}
	summary := harness.Object(t, filepath.Join(out, "crawl.json"))
	for field, n := range map[string]int{"found": len(found), "reachable": networkSize, "edges": len(edges)} {
		if int(summary.Number(field)) != n {
			t.Errorf("crawl.json: %s is %v, want %d", field, summary[field], n)
		}
	}
	t.Logf("found %d of %d real switches in %.1f s, %v of %v requests answered", len(found), networkSize, got.Took.Seconds(),
		summary["answered"], summary["asked"])
	if len(found) != networkSize {
		t.Errorf("found %d of %d", len(found), networkSize)
	}
}

// namers is how many books must have a switch before it counts as one that can be found: an answer is a sample of 32 of some 65 addresses, and
// three samples of each of so many books pass it over once in 10^9 times.
const namers = 10

// waitUntilKnown waits until each switch but the first, whom others may know as their seed only, is in so many of the others' books.
func waitUntilKnown(t *testing.T, switches *comet.Network) {
	t.Helper()
	for i, s := range switches.Switches[1:] {
		waitUntil(t, startup, fmt.Sprintf("switch %d is in %d books", 1+i, namers), func() bool {
			in := 0
			for _, other := range switches.Switches {
				if other.Book.HasAddress(s.Address) {
					in++
				}
			}
			return in >= namers
		})
	}
}

// waitForBook waits until a switch's address book has so many addresses.
func waitForBook(t *testing.T, s *comet.Switch, want int, within time.Duration) {
	t.Helper()
	for start := time.Now(); s.Book.Size() < want; time.Sleep(50 * time.Millisecond) {
		if time.Since(start) > within {
			t.Fatalf("CometBFT's own switch knows %d of %d addresses after %v", s.Book.Size(), want, within)
		}
	}
}
