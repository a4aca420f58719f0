package ethereum

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/p2p"
	"github.com/ethereum/go-ethereum/p2p/enode"

	"kadwire/interop/ethereum/gethnet"
	"kadwire/interop/harness"
)

// TestKilledNodeDialsItsAnchors: a node of ours finds three go-ethereum servers by discovery and is killed after two minutes. Its bootnode is gone for
// good. With its anchors and without its node database it has its peers back; what the database gives by itself is measured beside it.
func TestKilledNodeDialsItsAnchors(t *testing.T) {
	t.Parallel()
	bootnode, boot, _ := startBootnode(t, "127.230.20.1")
	kad, _ := demo("kad", 1)
	kad.Run = idle
	var servers []*gethnet.Server
	var addresses []string
	for i := range 3 {
		// They wait to be dialed: who dials us is no anchor.
		server := startServer(t, fmt.Sprintf("127.230.20.%d", 10+i), p2p.Config{
			Protocols: []p2p.Protocol{kad}, DiscoveryV4: true, BootstrapNodes: []*enode.Node{boot}, NoDial: true,
		})
		servers = append(servers, server)
		addresses = append(addresses, fmt.Sprintf("enode://%s@%s:%d", publicKey(server.Self()), server.IP, gethnet.TCPPort))
	}
	slices.Sort(addresses)
	dir := t.TempDir()
	file := filepath.Join(dir, "anchors-rlpx.json")
	node := startRLPx(t, "127.230.20.2", "--datadir", dir, "--bootnodes", boot.URLv4())
	eventually(t, 6*time.Minute, "all three are anchors", func() (bool, string) {
		now := harness.Anchors(t, file)
		slices.Sort(now)
		return slices.Equal(now, addresses), fmt.Sprint(now, node.Said())
	})
	node.Kill()
	bootnode.Kill()

	// Without its bootnode, and with some of its files.
	again := func(what string, files ...string) {
		t.Helper()
		eventually(t, startup, "the servers notice its end", func() (bool, string) {
			return !slices.ContainsFunc(servers, func(s *gethnet.Server) bool { return s.PeerCount() > 0 }), ""
		})
		known := t.TempDir()
		for _, name := range append(files, "nodekey") {
			raw, err := os.ReadFile(filepath.Join(dir, name))
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(known, name), raw, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		begin := time.Now()
		node := startRLPx(t, "127.230.20.2", "--datadir", known)
		eventually(t, time.Minute, "it has its peers back with "+what, func() (bool, string) {
			return !slices.ContainsFunc(servers, func(s *gethnet.Server) bool { return s.PeerCount() == 0 }), fmt.Sprint(node.Said())
		})
		t.Logf("with %s it has its three peers back after %.1f s", what, time.Since(begin).Seconds())
		node.Kill()
	}
	again("its anchors alone", "anchors-rlpx.json")
	again("its node database alone", "nodes.db", "nodes.db-wal")
	again("both", "anchors-rlpx.json", "nodes.db", "nodes.db-wal")
}
