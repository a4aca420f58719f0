package tendermint

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"kadwire/interop/harness"
	"kadwire/interop/tendermint/comet"
)

// TestCrossedDials has our node and each of twelve CometBFT switches dial each other while the line is frozen, so that both handshakes
// begin at the same moment. CometBFT keeps whichever connection it adds first and closes the other, whatever the ids; ours must keep the same
// one. A pair that lost both would come together again seconds later, with a second AddPeer.
func TestCrossedDials(t *testing.T) {
	t.Parallel()
	const pairs = 12
	var switches []*comet.Switch
	var lines []*harness.Proxy
	persistent := ""
	for i := range pairs {
		s := start(t, comet.Config{Listen: fmt.Sprintf("127.133.1.%d:26656", i+1), Network: network, Moniker: fmt.Sprint("switch ", i)})
		line := harness.StartProxy(t, fmt.Sprintf("127.133.2.%d:26656", i+1), s.Address.DialString())
		line.Freeze()
		switches, lines = append(switches, s), append(lines, line)
		persistent += fmt.Sprintf(",%s@%s", s.Address.ID, line.Address())
	}
	toNode := harness.StartProxy(t, "127.133.3.1:26656", "127.133.0.1:26656")
	toNode.Freeze()
	lines = append(lines, toNode)

	// It dials all of them at once.
	node, mconn := startNode(t, "127.133.0.1", network, "--persistent-peers", persistent[1:])
	var dials sync.WaitGroup
	for _, s := range switches {
		dials.Add(1)
		go func() {
			defer dials.Done()
			// A refused duplicate is an error here, and no fault.
			_ = s.Dial(mconn[:41] + toNode.Address())
		}()
	}
	// CometBFT gives a handshake three seconds, half of which are left for the handshakes if a busy machine takes so long to dial.
	for end := time.Now().Add(1500 * time.Millisecond); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if toNode.Streams() == pairs && !slices.ContainsFunc(lines[:pairs], func(line *harness.Proxy) bool { return line.Streams() == 0 }) {
			break
		}
	}
	for _, line := range lines {
		line.Thaw()
	}
	dials.Wait()
	waitUntil(t, startup, "each switch has one connection, for three seconds", func() bool { return lasting(switches, 3*time.Second) })

	inbound := 0
	for i, s := range switches {
		if joined, gone, now := len(s.Joined()), len(s.Gone()), s.Connected(); joined != 1 || gone != 0 || len(now) != 1 {
			t.Errorf("switch %d: %d joined, %d gone, %d connected", i, joined, gone, len(now))
		} else if !now[0].IsOutbound() {
			inbound++
		}
	}
	up := map[string]int{}
	for _, event := range node.Events() {
		switch event.Text("event") {
		case "peer_up":
			up[event.Text("peer")]++
		case "peer_down":
			up[event.Text("peer")]--
		}
	}
	for peer, count := range up {
		if count != 1 {
			t.Errorf("the node has %s %d times", peer, count)
		}
	}
	if len(up) != pairs {
		t.Errorf("the node has had %d peers of %d", len(up), pairs)
	}
	t.Logf("of %d pairs the switches kept our dial in %d", pairs, inbound)
}
