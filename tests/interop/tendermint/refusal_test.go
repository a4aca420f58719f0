package tendermint

import (
	"strings"
	"testing"

	"github.com/cometbft/cometbft/p2p"

	"kadwire/interop/harness"
	"kadwire/interop/tendermint/comet"
)

// refusedDial has mconn_peer dial in vain, and wants the reason to name what is given.
func refusedDial(t *testing.T, to string, names []string, args ...string) {
	t.Helper()
	args = append([]string{"dial", to, "--network", network, "--mode", "ping", "--count", "1"}, args...)
	got := harness.Run(t, startup, "mconn_peer dial", harness.MconnPeer(t), args...)
	for _, name := range names {
		if got.Code != 1 || !strings.Contains(got.Stdout, name) {
			t.Errorf("exit %d, want 1 and a reason that names %q: %s %s", got.Code, name, got.Stdout, got.Stderr)
		}
	}
}

// refusedByCometBFT has a switch dial in vain, and wants its reason to name what is given.
func refusedByCometBFT(t *testing.T, s *comet.Switch, to string, names ...string) {
	t.Helper()
	err := s.Dial(to)
	if err == nil {
		t.Error("CometBFT takes us for a peer")
		return
	}
	for _, name := range names {
		if !strings.Contains(err.Error(), name) {
			t.Errorf("CometBFT's reason does not name %q: %v", name, err)
		}
	}
	if n := len(s.Connected()); n != 0 {
		t.Errorf("the CometBFT switch has %d peers", n)
	}
}

// TestAnotherNetworkIsRefused: both sides see the other's NodeInfo, and both name the reason.
func TestAnotherNetworkIsRefused(t *testing.T) {
	other := start(t, comet.Config{Listen: "127.42.1.1:26656", Network: "another-network", Moniker: "other"})
	refusedDial(t, other.Address.String(), []string{"another-network", network})

	listening, address := startPeer(t, "127.42.1.2:26656", "echo")
	refusedByCometBFT(t, other, address, "different network", network)
	waitUntil(t, startup, "the listener names the reason", func() bool { return strings.Contains(listening.Stderr(), "another-network") })
}

// TestAnotherIdentityIsRefused: whoever answers must be who was dialed.
func TestAnotherIdentityIsRefused(t *testing.T) {
	one := start(t, comet.Config{Listen: "127.42.2.1:26656", Network: network, Moniker: "one"})
	id, at, _ := strings.Cut(one.Address.String(), "@")
	wrong := strings.Repeat("0", len(id))
	refusedDial(t, wrong+"@"+at, []string{id, wrong})
	if n := len(one.Connected()); n != 0 {
		t.Errorf("the CometBFT switch has %d peers", n)
	}

	listening, address := startPeer(t, "127.42.2.2:26656", "echo")
	ours, at, _ := strings.Cut(address, "@")
	refusedByCometBFT(t, one, wrong+"@"+at, "mismatch", ours, wrong)
	waitUntil(t, startup, "the listener notices", func() bool { return strings.Contains(listening.Stderr(), "closed the stream") })
}

// TestOurselvesAreRefused: a peer with our own key is ourselves, seen through an address that we did not know as ours.
func TestOurselvesAreRefused(t *testing.T) {
	key := comet.NewKey()
	file := keyFile(t, key)
	one := start(t, comet.Config{Listen: "127.42.5.1:26656", Network: network, Moniker: "one", Key: key, Pex: true, Dir: t.TempDir()})
	refusedDial(t, one.Address.String(), []string{"ourselves"}, "--key", file)

	listening, address := startPeer(t, "127.42.5.2:26656", "echo", "--key", file)
	refusedByCometBFT(t, one, address, "self")
	waitUntil(t, startup, "the listener names the reason", func() bool { return strings.Contains(listening.Stderr(), "ourselves") })
}

// TestASecondConnectionOfOneIdIsRefused: by CometBFT and by a node of ours alike, and the first one stays.
func TestASecondConnectionOfOneIdIsRefused(t *testing.T) {
	key := comet.NewKey()
	file := keyFile(t, key)
	one := start(t, comet.Config{Listen: "127.42.6.1:26656", Network: network, Moniker: "one"})
	first := dialPeer(t, one.Address.String(), "echo", "--key", file)
	peer := nextPeer(t, one, startup)
	second := dialPeer(t, one.Address.String(), "echo", "--key", file)
	second.Exited(startup)
	if !first.Running() || !peer.IsRunning() || len(one.Connected()) != 1 {
		t.Error("the first connection did not stay")
	}

	node, mconn := startNode(t, "127.42.6.2", network)
	var twins []*comet.Switch
	for _, listen := range []string{"127.42.6.3:26656", "127.42.6.4:26656"} {
		twin := start(t, comet.Config{Listen: listen, Network: network, Moniker: listen, Key: key})
		twin.Dial(mconn) // The second one may believe for a moment that it is connected.
		twins = append(twins, twin)
		// CometBFT is connected a moment before our node is.
		waitUntil(t, startup, "the first one is up", func() bool { return peersUp(node) > 0 })
	}
	waitUntil(t, startup, "the second one is refused", func() bool { return len(twins[1].Connected()) == 0 })
	if len(twins[0].Connected()) != 1 {
		t.Error("the first connection did not stay")
	}
	for _, event := range node.Events() {
		if event.Text("event") == "peer_down" {
			t.Errorf("the first one is gone: %v", event)
		}
	}
	if n := peersUp(node); n != 1 {
		t.Errorf("%d peers came up", n)
	}
}

// TestNoCommonChannelIsRefused: CometBFT peers need one channel that both have.
func TestNoCommonChannelIsRefused(t *testing.T) {
	one := start(t, comet.Config{Listen: "127.42.3.1:26656", Network: network, Moniker: "one"})
	refusedDial(t, one.Address.String(), []string{"channel"}, "--channel", "0x77")
	listening, address := startPeer(t, "127.42.3.2:26656", "echo", "--channel", "0x77")
	refusedByCometBFT(t, one, address, "no common channels")
	waitUntil(t, startup, "the listener names the reason", func() bool { return strings.Contains(listening.Stderr(), "channel") })
}

// TestAnotherBlockProtocolIsRefused: its blocks could not be read.
func TestAnotherBlockProtocolIsRefused(t *testing.T) {
	other := start(t, comet.Config{Listen: "127.42.10.1:26656", Network: network, Moniker: "other", Block: 12})
	refusedDial(t, other.Address.String(), []string{"block protocol", "12"})
	listening, address := startPeer(t, "127.42.10.2:26656", "echo")
	refusedByCometBFT(t, other, address, "different Block version")
	waitUntil(t, startup, "the listener names the reason", func() bool { return strings.Contains(listening.Stderr(), "block protocol") })
}

// TestAnUndeclaredChannelEndsTheConnection: neither side sends on a channel that the other does not list, and stays connected. Whoever
// does all the same is closed on, with the channel named.
func TestAnUndeclaredChannelEndsTheConnection(t *testing.T) {
	both := []comet.Channel{{ID: comet.TestChannel, Priority: 1}, {ID: 0x31, Priority: 1}}
	listening, address := startPeer(t, "127.42.7.1:26656", "echo")
	one := start(t, comet.Config{Listen: "127.42.7.2:26656", Network: network, Moniker: "one", Channels: both})
	if err := one.Dial(address); err != nil {
		t.Fatal(err)
	}
	peer := nextPeer(t, one, startup)
	// CometBFT's Send drops what the peer does not list: it must stay connected.
	if comet.Send(peer, 0x31, []byte("lost")) {
		t.Error("CometBFT sends on a channel that we do not list")
	}
	refused := dialPeer(t, one.Address.String(), "ping", "--channels", "0x32,0x30")
	if code := refused.Exited(startup); code != 1 || !strings.Contains(strings.Join(refused.Said(), ""), "0x32") {
		t.Errorf("exit %d, want 1 and a reason that names the channel: %v", code, refused.Said())
	}
	waitUntil(t, startup, "CometBFT has only its first peer", func() bool { return len(one.Connected()) == 1 })
	if !peer.IsRunning() {
		t.Error("the connection ended")
	}
	comet.Pretend(peer, 0x31)
	if !comet.Send(peer, 0x31, []byte("not for us")) {
		t.Error("CometBFT does not send")
	}
	gone := listening.Until(startup, "peer_gone", func(e harness.Event) bool { return e.Text("event") == "peer_gone" })
	if !strings.Contains(gone.Text("reason"), "unknown channel 49") {
		t.Errorf("our reason: %v", gone)
	}
	waitUntil(t, startup, "CometBFT has lost its peer", func() bool { return len(one.Connected()) == 0 })
}

// TestPacketsOfAnotherSize: what is larger than agreed ends the connection, on both sides; 1,400 bytes with 1,400 on both is Tendermint v0.35.
func TestPacketsOfAnotherSize(t *testing.T) {
	onMessage, echoes := collect()
	large := start(t, comet.Config{Listen: "127.42.8.1:26656", Network: network, Moniker: "large", OnMessage: onMessage, Payload: 1400})
	_, address := startPeer(t, "127.42.8.2:26656", "echo", "--payload", "1400")
	if err := large.Dial(address); err != nil {
		t.Fatal(err)
	}
	checkEcho(t, nextPeer(t, large, startup), testChannel, []int{1, 1399, 1400, 1401, 2800, 100_000}, echoes)

	listening, address := startPeer(t, "127.42.8.3:26656", "echo")
	if err := large.Dial(address); err != nil {
		t.Fatal(err)
	}
	peer := nextPeer(t, large, startup)
	checkEcho(t, peer, testChannel, []int{1, 1000}, echoes)
	comet.Send(peer, comet.TestChannel, make([]byte, 1390))
	gone := listening.Until(startup, "peer_gone", func(e harness.Event) bool { return e.Text("event") == "peer_gone" })
	if !strings.Contains(gone.Text("reason"), "packet of") {
		t.Errorf("our reason: %v", gone)
	}

	small := start(t, comet.Config{Listen: "127.42.8.4:26656", Network: network, Moniker: "small", OnMessage: echo})
	ours := dialPeer(t, small.Address.String(), "echo-check", "--payload", "1400", "--sizes", "1,1390")
	if code := ours.Exited(startup); code != 1 {
		t.Errorf("CometBFT takes packets that are too large: %v", ours.Said())
	}
	if reason := nextGone(t, small); !strings.Contains(reason, "exceeds max size") && !strings.Contains(reason, "too") {
		t.Errorf("CometBFT's reason: %s", reason)
	}
}

// TestAMessageTooLargeForItsChannel: our node takes 64 KB on its channel; who sends more is closed, with the size named, and others stay.
func TestAMessageTooLargeForItsChannel(t *testing.T) {
	node, mconn := startNode(t, "127.42.9.1", network)
	var peers []p2p.Peer
	for _, moniker := range []string{"honest", "loud"} {
		s := start(t, comet.Config{Listen: "127.42.9.2:0", Network: network, Moniker: moniker})
		if err := s.Dial(mconn); err != nil {
			t.Fatal(err)
		}
		peers = append(peers, nextPeer(t, s, startup))
	}
	waitUntil(t, startup, "both are up", func() bool { return ups(node, "honest") == 1 && ups(node, "loud") == 1 })
	comet.Send(peers[1], comet.TestChannel, make([]byte, 100_000))
	down := node.Until(startup, "peer_down", func(e harness.Event) bool { return e.Text("event") == "peer_down" })
	if !strings.Contains(down.Text("reason"), "65536") {
		t.Errorf("the reason does not name the limit: %v", down)
	}
	comet.Send(peers[0], comet.TestChannel, append(make([]byte, 16), "still here"...))
	heard := node.Until(startup, "gossip", func(e harness.Event) bool { return e.Text("event") == "gossip" })
	if !strings.Contains(heard.Text("message"), "still here") {
		t.Errorf("heard %v", heard)
	}
}

// TestOurNodeRefusesCometBFTOfAnotherNetwork: whoever dials, the two never become peers, and the node's log names both networks.
func TestOurNodeRefusesCometBFTOfAnotherNetwork(t *testing.T) {
	other := start(t, comet.Config{Listen: "127.42.4.1:26656", Network: "another-network", Moniker: "other", Pex: true, Dir: t.TempDir()})
	dialing, _ := startNode(t, "127.42.4.2", network, "--persistent-peers", other.Address.String())
	waitUntil(t, startup, "the node that dialed names the reason", func() bool { return strings.Contains(dialing.Stderr(), "another-network") })

	// Strangers fail all the time, so it takes --verbosity 4 to see why.
	listening, mconn := startNode(t, "127.42.4.3", network, "--verbosity", "4")
	refusedByCometBFT(t, other, mconn, "different network")
	waitUntil(t, startup, "the node that was dialed names the reason", func() bool { return strings.Contains(listening.Stderr(), "another-network") })
	for _, node := range []*harness.Process{dialing, listening} {
		for _, event := range node.Events() {
			if event.Text("event") == "peer_up" {
				t.Errorf("it has a peer: %v", event)
			}
		}
	}
}
