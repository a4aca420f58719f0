// Its two minutes of waiting are spent once: what is tested is ours, whichever version the others have.
//go:build !comet1

package tendermint

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"kadwire/interop/harness"
	"kadwire/interop/tendermint/comet"
)

// TestKilledNodeDialsItsAnchors: a node of ours hears of three CometBFT switches from a fourth, dials them, and is killed after two minutes. Its
// address book is lost, nobody names the fourth again, and it lets nobody in: its anchors have it back in the network.
func TestKilledNodeDialsItsAnchors(t *testing.T) {
	t.Parallel()
	switches, err := comet.StartNetwork(4, network, t.TempDir(), 230, false, ensurePeers)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(switches.Stop)
	hub, others := switches.Switches[0], switches.Switches[1:]
	waitForBook(t, hub, len(others), time.Minute)
	dir := t.TempDir()
	node, _ := startNode(t, "127.230.21.1", network, "--datadir", dir, "--persistent-peers", hub.Address.String())
	becomesPeerOfAll(t, "127.230.21.1", switches.Switches)
	waitUntil(t, 6*time.Minute, "the three are anchors, and the operator's peer is none", func() bool {
		return len(harness.Anchors(t, filepath.Join(dir, "anchors-tendermint.json"))) == len(others)
	})
	node.Kill()
	if err := os.Remove(filepath.Join(dir, "addrbook.json")); err != nil {
		t.Fatal(err)
	}
	waitUntil(t, startup, "the switches notice its end", func() bool {
		return !slices.ContainsFunc(others, func(s *comet.Switch) bool { return hasPeerAt(s, "127.230.21.1") })
	})
	startNode(t, "127.230.21.1", network, "--datadir", dir, "--max-num-inbound-peers", "0")
	becomesPeerOfAll(t, "127.230.21.1", others)
}
