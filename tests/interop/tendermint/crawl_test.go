package tendermint

import (
	"path/filepath"
	"testing"
	"time"

	"kadwire/interop/harness"
	"kadwire/interop/tendermint/comet"
)

// networkSize is the number of real CometBFT switches that are crawled.
const networkSize = 60

func TestCrawlFindsEverySwitchBehindAHub(t *testing.T)  { crawl(t, false) }
func TestCrawlFindsEverySwitchBehindASeed(t *testing.T) { crawl(t, true) }

// crawl gives `kadwire crawl tendermint` the address of the one switch that all others know.
func crawl(t *testing.T, seedMode bool) {
	switches, err := comet.StartNetwork(networkSize, network, t.TempDir(), 100, seedMode, time.Second)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(switches.Stop)
	waitForBook(t, switches.Switches[0], networkSize-1, time.Minute)

	out := t.TempDir()
	got := harness.Run(t, 3*time.Minute, "crawl tendermint", harness.Kadwire(t), "crawl", "tendermint",
		"--seeds", switches.Switches[0].Address.String(), "--chain-id", network, "--out", out)
	if got.Code != 0 {
		t.Fatalf("exit %d: %s", got.Code, got.Stderr)
	}
	want, found := map[string]bool{}, map[string]bool{}
	for _, s := range switches.Switches {
		want[string(s.Address.ID)] = true
	}
	for i, line := range harness.Objects(t, filepath.Join(out, "nodes.ndjson")) {
		id := line.Text("id")
		if !want[id] || found[id] {
			t.Errorf("nodes.ndjson:%d: %s is no switch of this network, or there twice", i+1, id)
		}
		found[id] = true
	}
	t.Logf("found %d of %d real switches in %.1f s", len(found), networkSize, got.Took.Seconds())
	if len(found) != networkSize {
		t.Errorf("found %d of %d", len(found), networkSize)
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
