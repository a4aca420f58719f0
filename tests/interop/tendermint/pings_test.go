package tendermint

import (
	"strings"
	"testing"
	"time"

	"kadwire/interop/harness"
	"kadwire/interop/tendermint/comet"
)

// Timers of both sides. A minute of CometBFT's is two seconds here, so that a minute has half an hour's pings. A pong must come before the
// next ping, however busy the machine is.
const (
	pingInterval = 2 * time.Second
	pongTimeout  = 1900 * time.Millisecond
)

// timers are the same for mconn_peer.
var timers = []string{"--ping", "2000", "--pong", "1900"}

// pings are as many as are wanted each way.
const pings = 30

// TestHalfAnHoursPings: thirty pings each way, every one is answered in time, and messages get through between them, whoever dialed.
func TestHalfAnHoursPings(t *testing.T) {
	t.Parallel()
	onMessage, echoes := collect()
	sending := start(t, comet.Config{Listen: "127.45.1.2:26656", Network: network, Moniker: "send", OnMessage: onMessage, Ping: pingInterval, Pong: pongTimeout})
	echoing, address := startPeer(t, "127.45.1.1:26656", "echo", timers...)
	if err := sending.Dial(address); err != nil {
		t.Fatal(err)
	}
	ours := []*harness.Process{echoing, dialPeer(t, sending.Address.String(), "echo", timers...)}
	for range ours {
		peer := nextPeer(t, sending, startup)
		defer func() {
			if !peer.IsRunning() {
				t.Errorf("lost a peer: %s", nextGone(t, sending))
			}
			sending.StopPeerGracefully(peer)
			for _, p := range ours {
				if p == ours[0] == peer.IsOutbound() {
					checkPings(t, p)
				}
			}
		}()
	}
	for end := time.Now().Add((pings + 2) * pingInterval); time.Now().Before(end); time.Sleep(200 * time.Millisecond) {
		for _, peer := range sending.Connected() {
			checkEcho(t, peer, testChannel, []int{1000}, echoes)
		}
	}
}

// checkPings wants the counters of a connection that ended to show all pings, and no pong amiss.
func checkPings(t *testing.T, p *harness.Process) {
	t.Helper()
	gone := p.Until(startup, "peer_gone", func(e harness.Event) bool { return e.Text("event") == "peer_gone" })
	sent, ponged, pinged := gone.Number("pings_sent"), gone.Number("pongs_received"), gone.Number("pings_received")
	if sent < pings || pinged < pings || ponged < sent-1 || gone.Text("reason") != "closed by the peer" {
		t.Errorf("pings and pongs: %v", gone)
	}
}

// TestASilentPeerIsDropped: a cable is pulled. Whoever waits for a pong gives up in time, and says why.
func TestASilentPeerIsDropped(t *testing.T) {
	t.Run("CometBFT falls silent", func(t *testing.T) {
		t.Parallel()
		silent := start(t, comet.Config{Listen: "127.45.2.1:26656", Network: network, Moniker: "silent"})
		cable := harness.StartProxy(t, "127.45.2.2:26656", "127.45.2.1:26656")
		ours := dialPeer(t, string(silent.Address.ID)+"@"+cable.Address(), "sink", timers...)
		nextPeer(t, silent, startup)
		time.Sleep(time.Second)
		cable.Freeze()
		// With the timers that are the default it takes more than a minute.
		gone := ours.Until(startup, "peer_gone", func(e harness.Event) bool { return e.Text("event") == "peer_gone" })
		if !strings.Contains(gone.Text("reason"), "pong") {
			t.Error(gone)
		}
	})
	t.Run("we fall silent", func(t *testing.T) {
		t.Parallel()
		_, address := startPeer(t, "127.45.3.1:26656", "sink")
		id, at, _ := strings.Cut(address, "@")
		cable := harness.StartProxy(t, "127.45.3.2:26656", at)
		waiting := start(t, comet.Config{Listen: "127.45.3.3:26656", Network: network, Moniker: "waiting", Ping: pingInterval, Pong: pongTimeout})
		if err := waiting.Dial(id + "@" + cable.Address()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		cable.Freeze()
		select {
		case reason := <-waiting.Gone():
			if !strings.Contains(reason, "pong timeout") {
				t.Error(reason)
			}
		case <-time.After(startup):
			t.Error("CometBFT still waits")
		}
	})
}

// TestASlowReaderKeepsItsPeer: our program takes a message every half second while CometBFT sends a hundred: pongs go out all the same.
func TestASlowReaderKeepsItsPeer(t *testing.T) {
	t.Parallel()
	_, address := startPeer(t, "127.45.4.1:26656", "sink", "--delay", "500")
	sending := start(t, comet.Config{Listen: "127.45.4.2:26656", Network: network, Moniker: "send", Ping: pingInterval, Pong: pongTimeout})
	if err := sending.Dial(address); err != nil {
		t.Fatal(err)
	}
	peer := nextPeer(t, sending, startup)
	for end := time.Now().Add(4 * pingInterval); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if !comet.Send(peer, comet.TestChannel, make([]byte, 1500)) {
			t.Fatalf("CometBFT cannot send any more: %v", sending.Connected())
		}
	}
	if !peer.IsRunning() {
		t.Errorf("CometBFT gave us up: %s", nextGone(t, sending))
	}
}
