package tendermint

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cometbft/cometbft/p2p"

	"kadwire/interop/harness"
	"kadwire/interop/tendermint/comet"
)

// ups counts how often a peer of this moniker came up.
func ups(node *harness.Process, moniker string) (count int) {
	for _, event := range node.Events() {
		if event.Text("event") == "peer_up" && event.Text("moniker") == moniker {
			count++
		}
	}
	return count
}

// downs counts the connections that our node lost.
func downs(node *harness.Process) (count int) {
	for _, event := range node.Events() {
		if event.Text("event") == "peer_down" {
			count++
		}
	}
	return count
}

// lasting says whether each switch has one connection for so long.
func lasting(switches []*comet.Switch, long time.Duration) bool {
	for end := time.Now().Add(long); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if slices.ContainsFunc(switches, func(s *comet.Switch) bool { return len(s.Connected()) != 1 }) {
			return false
		}
	}
	return true
}

// TestARestartedPeerIsFoundAgain: a persistent peer of our node goes away and comes back with its key, first where it was, then at
// another port, from where it dials us.
func TestARestartedPeerIsFoundAgain(t *testing.T) {
	t.Parallel()
	key := comet.NewKey()
	cfg := comet.Config{Listen: "127.46.1.1:26656", Network: network, Moniker: "back", Key: key}
	first, err := comet.Start(cfg)
	if err != nil {
		t.Fatal(err)
	}
	node, mconn := startNode(t, "127.46.1.2", network, "--persistent-peers", first.Address.String())
	waitUntil(t, startup, "the peer is up", func() bool { return ups(node, "back") == 1 })
	first.Stop()
	time.Sleep(3 * time.Second) // some dials in vain
	second, err := comet.Start(cfg)
	if err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	waitUntil(t, startup, "the peer is up again", func() bool { return ups(node, "back") == 2 })
	t.Logf("found again after %.1f s", time.Since(begin).Seconds())
	second.Stop()
	waitUntil(t, startup, "its end is noticed", func() bool { return downs(node) == 2 })
	cfg.Listen = "127.46.1.1:26657"
	third := start(t, cfg)
	waitUntil(t, startup, "it gets in", func() bool { return third.Dial(mconn) == nil })
	waitUntil(t, startup, "the peer is up at another port", func() bool { return ups(node, "back") == 3 })
}

// TestTwoChainsOnOneHost: nodes of two chains share an IP; each of ours keeps to its own, and the refusals of the other do it no harm.
func TestTwoChainsOnOneHost(t *testing.T) {
	t.Parallel()
	chains := []string{"chain-a", "chain-b"}
	var peers string
	for i, chain := range chains {
		s := start(t, comet.Config{Listen: fmt.Sprintf("127.46.2.1:%d", 26656+i), Network: chain, Moniker: chain})
		peers += "," + s.Address.String()
	}
	for i, chain := range chains {
		node, _ := startNode(t, fmt.Sprintf("127.46.2.%d", 2+i), chain, "--persistent-peers", peers[1:])
		waitUntil(t, startup, "its own chain's peer is up", func() bool { return ups(node, chain) == 1 })
		if n := ups(node, chains[1-i]); n != 0 {
			t.Errorf("the other chain's came up %d times", n)
		}
	}
}

// TestAThinLine: 1 MB a second both ways, with pings on short timers that wait their turn behind the messages, for a second at most: CometBFT
// sends a whole echo at once.
func TestAThinLine(t *testing.T) {
	t.Parallel()
	echoing := start(t, comet.Config{Listen: "127.46.3.1:26656", Network: network, Moniker: "echo", OnMessage: echo})
	line := harness.StartProxy(t, "127.46.3.2:26656", "127.46.3.1:26656")
	line.Limit(1 << 20)
	ours := dialPeer(t, string(echoing.Address.ID)+"@"+line.Address(), "echo-check", "--sizes", "1,800000,1,800000,1,800000,1,800000,1,800000", "--ping", "3000", "--pong", "2900", "--rate", "800000")
	echoed(t, ours, 2*time.Minute, 10)
}

// TestNothingIsLostAtAFlush: whoever flushes and closes has said all; the other has heard all.
func TestNothingIsLostAtAFlush(t *testing.T) {
	const messages = 2000
	sink, address := startPeer(t, "127.46.7.1:26656", "sink")
	sending := start(t, comet.Config{Listen: "127.46.7.2:26656", Network: network, Moniker: "send", Rate: unlimited})
	if err := sending.Dial(address); err != nil {
		t.Fatal(err)
	}
	peer := nextPeer(t, sending, startup)
	for i := range messages {
		if !comet.Send(peer, comet.TestChannel, make([]byte, i)) {
			t.Fatalf("CometBFT cannot send message %d", i)
		}
	}
	peer.FlushStop()
	gone := sink.Until(startup, "peer_gone", func(e harness.Event) bool { return e.Text("event") == "peer_gone" })
	if gone.Number("messages") != messages || gone.Text("reason") != "closed by the peer" {
		t.Errorf("we heard %v", gone)
	}

	var heard atomic.Int64
	hearing := start(t, comet.Config{Listen: "127.46.7.3:26656", Network: network, Moniker: "hear", Rate: unlimited,
		OnMessage: func(p2p.Peer, byte, []byte) { heard.Add(1) }})
	flood := dialPeer(t, hearing.Address.String(), "flood", "--seconds", "1", "--size", "1000")
	said := flood.Until(startup, "flood", func(e harness.Event) bool { return e.Text("event") == "flood" })
	waitUntil(t, startup, "CometBFT has lost its peer", func() bool { return len(hearing.Joined()) == 1 && len(hearing.Connected()) == 0 })
	if float64(heard.Load()) != said.Number("messages") {
		t.Errorf("CometBFT heard %d of %v", heard.Load(), said)
	}
}

// TestACutLineDeliversNoHalfMessage: a line breaks in the midst of a message of 20 MB, in either direction.
func TestACutLineDeliversNoHalfMessage(t *testing.T) {
	t.Parallel()
	onMessage, heard := collect()
	sink, address := startPeer(t, "127.46.8.1:26656", "sink")
	id, at, _ := strings.Cut(address, "@")
	line := harness.StartProxy(t, "127.46.8.2:26656", at)
	sending := start(t, comet.Config{Listen: "127.46.8.3:26656", Network: network, Moniker: "send", OnMessage: onMessage})
	if err := sending.Dial(id + "@" + line.Address()); err != nil {
		t.Fatal(err)
	}
	ours := dialPeer(t, sending.Address.String(), "echo-check", "--sizes", "20000000", "--rate", "5000000")
	comet.Send(nextPeer(t, sending, startup), comet.TestChannel, make([]byte, 20_000_000))
	time.Sleep(time.Second)
	line.Cut()
	ours.Kill()
	gone := sink.Until(startup, "peer_gone", func(e harness.Event) bool { return e.Text("event") == "peer_gone" })
	if gone.Number("messages") != 0 {
		t.Errorf("we take half a message for one: %v", gone)
	}
	waitUntil(t, startup, "CometBFT has lost both", func() bool { return len(sending.Connected()) == 0 })
	if len(heard) != 0 {
		t.Error("CometBFT takes half a message for one")
	}
}

// TestBothDialEachOther: our node and sixteen switches are each other's persistent peers and dial at the same moment. CometBFT keeps whichever
// connection it had first, ours that of the smaller id; in the end there is one with each, and it lasts.
func TestBothDialEachOther(t *testing.T) {
	t.Parallel()
	const twins = 16
	datadir := t.TempDir()
	before, mconn := startNode(t, "127.46.4.1", network, "--datadir", datadir)
	before.Interrupt()
	before.Exited(startup)
	configs, peers := make([]comet.Config, twins), ""
	for i := range configs {
		key, listen := comet.NewKey(), fmt.Sprintf("127.46.4.%d:26656", 10+i)
		configs[i] = comet.Config{Listen: listen, Network: network, Moniker: fmt.Sprintf("twin%d", i), Key: key, Persistent: []string{mconn}}
		peers += "," + string(p2p.PubKeyToID(key.PubKey())) + "@" + listen
	}
	node, _ := startNode(t, "127.46.4.1", network, "--datadir", datadir, "--persistent-peers", peers[1:])
	var all []*comet.Switch
	for _, cfg := range configs {
		all = append(all, start(t, cfg))
	}
	begin := time.Now()
	waitUntil(t, 2*time.Minute, "each has one connection, for three seconds", func() bool { return lasting(all, 3*time.Second) })
	t.Logf("all connected %.1f s after the start, %d connections were lost on the way", time.Since(begin).Seconds()-3, downs(node))
}

// TestAStuckPeerDelaysNobody: one of three peers of our node stops reading. The others go on hearing all that the node says. It speaks on when
// they have heard it, before a queue to them is full.
func TestAStuckPeerDelaysNobody(t *testing.T) {
	t.Parallel()
	const lines, size, atOnce = 300, 50_000, 20
	node, mconn := startNode(t, "127.46.5.1", network)
	dialPeer(t, mconn, "sink", "--delay", "3600000")
	report := []string{"--report", fmt.Sprint(atOnce)}
	healthy := []*harness.Process{dialPeer(t, mconn, "sink", report...), dialPeer(t, mconn, "sink", report...)}
	waitUntil(t, startup, "all are up", func() bool { return ups(node, "mconn_peer") == 3 })
	line := strings.Repeat("x", size)
	for said := atOnce; said <= lines; said += atOnce {
		for range atOnce {
			node.Write(line)
		}
		for _, p := range healthy {
			p.Until(startup, "what was said", func(e harness.Event) bool { return int(e.Number("messages")) == said })
		}
	}
	node.Interrupt()
	for _, p := range healthy {
		gone := p.Until(startup, "peer_gone", func(e harness.Event) bool { return e.Text("event") == "peer_gone" })
		if gone.Number("messages") != lines {
			t.Errorf("it heard %v of %d", gone, lines)
		}
	}
}

// TestChurnLeavesNothingBehind: hundreds of peers come and go in a few seconds. Our node has no more open files than before, and a
// CometBFT switch that was there all the time is still there.
func TestChurnLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	node, mconn := startNode(t, "127.46.6.1", network)
	lasting := start(t, comet.Config{Listen: "127.46.6.2:26656", Network: network, Moniker: "lasting"})
	if err := lasting.Dial(mconn); err != nil {
		t.Fatal(err)
	}
	waitUntil(t, startup, "the lasting peer is up", func() bool { return ups(node, "lasting") == 1 })
	files := func() int {
		open, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", node.Pid()))
		if err != nil {
			t.Fatal(err)
		}
		return len(open)
	}
	before := files()
	var churning []*harness.Process
	for i := range 8 {
		// One IP may try a hundred times in ten seconds.
		churning = append(churning, dialPeer(t, mconn, "handshake", "--count", "80", "--source", fmt.Sprintf("127.46.6.%d", 10+i)))
	}
	for _, p := range churning {
		if code := p.Exited(startup); code != 0 {
			t.Errorf("exit %d: %v", code, p.Said())
		}
	}
	waitUntil(t, startup, "their files are closed", func() bool { return files() <= before+2 })
	if len(lasting.Connected()) != 1 {
		t.Error("the lasting peer is gone")
	}
}
