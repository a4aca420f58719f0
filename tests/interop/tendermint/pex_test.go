package tendermint

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"kadwire/interop/tendermint/comet"
)

// ensurePeers is the PEX period of CometBFT peers of ours: shorter, but long enough not to ask too soon.
const ensurePeers = 12 * time.Second

// TestCometBFTNodesFindEachOtherThroughOurs gives CometBFT switches our node as their only seed: they tell it where they listen, ask it
// for addresses (CometBFT asks whomever it dialed), and dial each other.
func TestCometBFTNodesFindEachOtherThroughOurs(t *testing.T) {
	t.Parallel()
	_, mconn := startNode(t, "127.43.1.1", network)
	var switches []*comet.Switch
	for i := range 3 {
		// On 127.0.0.1, where CometBFT's own connections come from: a node of ours believes a peer's port, but no IP other than the one it sees.
		switches = append(switches, start(t, comet.Config{
			Listen: "127.0.0.1:0", Network: network, Moniker: fmt.Sprintf("comet%d", i),
			Pex: true, Dir: t.TempDir(), Seeds: []string{mconn}, EnsurePeers: ensurePeers,
		}))
	}
	for _, s := range switches {
		waitUntil(t, 90*time.Second, fmt.Sprintf("%v knows the others", s.Address), func() bool {
			for _, other := range switches {
				if other != s && !s.Book.HasAddress(other.Address) {
					return false
				}
			}
			return true
		})
		waitUntil(t, startup, fmt.Sprintf("%v has the others as peers", s.Address), func() bool { return len(s.Connected()) >= len(switches) })
	}
}

// TestOnePerIP gives our node a CometBFT switch that refuses a second connection with an IP, as CometBFT does by default: our probe of
// where it says it listens is closed at once, which anybody's listener may do. Another node of ours, which nobody can dial, is told of the
// switch only when the first two have parted and our node has reached it.
func TestOnePerIP(t *testing.T) {
	t.Parallel()
	_, mconn := startNode(t, "127.110.4.1", network)
	s := start(t, comet.Config{Listen: "127.0.0.1:0", Network: network, Moniker: "one per IP", OnePerIP: true,
		Pex: true, Dir: t.TempDir(), EnsurePeers: ensurePeers})
	if err := s.Dial(mconn); err != nil {
		t.Fatal(err)
	}
	startNode(t, "127.110.4.2", network, "--seeds", mconn, "--max-num-inbound-peers", "0")
	time.Sleep(5 * time.Second)
	if hasPeerAt(s, "127.110.4.2") {
		t.Fatal("somebody was told of a switch that nobody had reached")
	}
	s.StopPeerGracefully(s.Connected()[0])
	waitUntil(t, 100*time.Second, "it has the other one too", func() bool { return hasPeerAt(s, "127.110.4.2") })
}

// TestOurNodeLearnsFromCometBFT gives our node one CometBFT switch whose book has others: it asks, and dials them. Started again with
// nothing but its data, it has them all once more.
func TestOurNodeLearnsFromCometBFT(t *testing.T) {
	t.Parallel()
	const n = 5
	switches, err := comet.StartNetwork(n, network, t.TempDir(), 200, false, ensurePeers)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(switches.Stop)
	waitForBook(t, switches.Switches[0], n-1, time.Minute)
	datadir := t.TempDir()
	node, _ := startNode(t, "127.43.2.1", network, "--datadir", datadir, "--persistent-peers", switches.Switches[0].Address.String())
	becomesPeerOfAll(t, "127.43.2.1", switches.Switches)
	node.Interrupt()
	node.Exited(startup)
	waitUntil(t, startup, "the switches notice its end", func() bool {
		return !slices.ContainsFunc(switches.Switches, func(s *comet.Switch) bool { return hasPeerAt(s, "127.43.2.1") })
	})
	startNode(t, "127.43.2.1", network, "--datadir", datadir)
	becomesPeerOfAll(t, "127.43.2.1", switches.Switches)
}

// TestOurNodeLearnsFromACometBFTSeed gives our node a switch in seed mode, which answers once and hangs up: it dials those it was told of.
func TestOurNodeLearnsFromACometBFTSeed(t *testing.T) {
	t.Parallel()
	const n = 5
	switches, err := comet.StartNetwork(n, network, t.TempDir(), 210, true, ensurePeers)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(switches.Stop)
	waitForBook(t, switches.Switches[0], n-1, time.Minute)
	startNode(t, "127.43.3.1", network, "--seeds", switches.Switches[0].Address.String())
	becomesPeerOfAll(t, "127.43.3.1", switches.Switches[1:])
}

// becomesPeerOfAll waits until a node of ours at ip is a peer of every switch.
func becomesPeerOfAll(t *testing.T, ip string, switches []*comet.Switch) {
	t.Helper()
	begin := time.Now()
	waitUntil(t, 90*time.Second, "our node is a peer of every switch", func() bool {
		return !slices.ContainsFunc(switches, func(s *comet.Switch) bool { return !hasPeerAt(s, ip) })
	})
	t.Logf("connected to all %d switches after %.1f s", len(switches), time.Since(begin).Seconds())
}

// hasPeerAt says whether a switch has a peer that says it listens on ip.
func hasPeerAt(s *comet.Switch, ip string) bool {
	for _, peer := range s.Connected() {
		if address, err := peer.NodeInfo().NetAddress(); err == nil && address.IP.String() == ip {
			return true
		}
	}
	return false
}
