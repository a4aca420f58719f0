package tendermint

import (
	"strings"
	"testing"
	"time"

	"kadwire/interop/harness"
	"kadwire/interop/tendermint/comet"
)

// TestWeRefuseCometBFTOfAnotherNetwork: both sides see the other's NodeInfo; ours names the reason.
func TestWeRefuseCometBFTOfAnotherNetwork(t *testing.T) {
	other := start(t, comet.Config{Listen: "127.42.1.1:26656", Network: "another-network", Moniker: "other"})
	got := harness.Run(t, startup, "mconn_peer dial", harness.MconnPeer(t), "dial", other.Address.String(), "--network", network, "--mode", "ping", "--count", "1")
	if got.Code != 1 || !strings.Contains(got.Stdout, "another-network") {
		t.Errorf("exit %d, want 1 and a reason that names the network: %s %s", got.Code, got.Stdout, got.Stderr)
	}

	listening := harness.Start(t, "mconn_peer listen", harness.MconnPeer(t), "listen", "--laddr", "127.42.1.2:26656", "--network", network)
	if err := other.Dial(listening.Line(startup)); err == nil {
		t.Error("CometBFT takes us for a peer of its network")
	}
	waitUntil(t, 5*time.Second, "the listener names the reason", func() bool { return strings.Contains(listening.Stderr(), "another-network") })
}

// TestWeRefuseAnotherIdentity: whoever answers must be who was dialed.
func TestWeRefuseAnotherIdentity(t *testing.T) {
	one := start(t, comet.Config{Listen: "127.42.2.1:26656", Network: network, Moniker: "one"})
	id, at, _ := strings.Cut(one.Address.String(), "@")
	wrong := strings.Repeat("0", len(id))
	got := harness.Run(t, startup, "mconn_peer dial", harness.MconnPeer(t), "dial", wrong+"@"+at, "--network", network, "--mode", "ping", "--count", "1")
	if got.Code != 1 || !strings.Contains(got.Stdout, id) {
		t.Errorf("exit %d, want 1 and a reason that names who answered: %s %s", got.Code, got.Stdout, got.Stderr)
	}
}

// TestWeRefuseWithoutACommonChannel: CometBFT peers need one channel that both have.
func TestWeRefuseWithoutACommonChannel(t *testing.T) {
	one := start(t, comet.Config{Listen: "127.42.3.1:26656", Network: network, Moniker: "one"})
	got := harness.Run(t, startup, "mconn_peer dial", harness.MconnPeer(t), "dial", one.Address.String(), "--network", network, "--channel", "0x77", "--mode", "ping", "--count", "1")
	if got.Code != 1 || !strings.Contains(got.Stdout, "channel") {
		t.Errorf("exit %d, want 1 and a reason that names the channels: %s %s", got.Code, got.Stdout, got.Stderr)
	}
}

// TestOurNodeRefusesCometBFTOfAnotherNetwork: whoever dials, the two never become peers, and the node's log names both networks.
func TestOurNodeRefusesCometBFTOfAnotherNetwork(t *testing.T) {
	other := start(t, comet.Config{Listen: "127.42.4.1:26656", Network: "another-network", Moniker: "other", Pex: true, Dir: t.TempDir()})
	dialing, _ := startNode(t, "127.42.4.2", network, "--persistent-peers", other.Address.String())
	waitUntil(t, 20*time.Second, "the node that dialed names the reason", func() bool { return strings.Contains(dialing.Stderr(), "another-network") })

	// Strangers fail all the time, so it takes --verbosity 4 to see why.
	listening, mconn := startNode(t, "127.42.4.3", network, "--verbosity", "4")
	if err := other.Dial(mconn); err == nil {
		t.Error("CometBFT takes us for a peer of its network")
	}
	waitUntil(t, 20*time.Second, "the node that was dialed names the reason", func() bool { return strings.Contains(listening.Stderr(), "another-network") })
	for _, node := range []*harness.Process{dialing, listening} {
		for _, event := range node.Events() {
			if event.Text("event") == "peer_up" {
				t.Errorf("it has a peer: %v", event)
			}
		}
	}
	if n := other.Peers().Size(); n != 0 {
		t.Errorf("the CometBFT switch has %d peers", n)
	}
}
