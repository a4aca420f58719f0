package ethereum

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/ethereum/go-ethereum/p2p"
	"github.com/ethereum/go-ethereum/p2p/enode"

	"kadwire/interop/ethereum/gethnet"
	"kadwire/interop/harness"
)

// TestWhyNamesTheCause: a node that gets no peers among go-ethereum ones, and what `kadwire why` says of it.
func TestWhyNamesTheCause(t *testing.T) {
	t.Parallel()
	full, joined := kad(t, "127.132.9.1", p2p.Config{MaxPeers: 2, DialRatio: 2}) // one dialed, one inbound
	startRLPx(t, "127.132.9.2", staticNodes(full.Self())...)
	next(t, joined)
	eth, _ := demo("eth", 68)
	useless := startServer(t, "127.132.9.3", p2p.Config{Protocols: []p2p.Protocol{eth}})
	other, _ := kad(t, "127.132.9.4", p2p.Config{})
	// Each is asked by one of ours alone.
	discovery := func(ip string) *enode.Node {
		node, err := gethnet.Start(netip.MustParseAddr(ip), gethnet.TCPPort, gethnet.Config{})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(node.Stop)
		return node.Self()
	}
	discovery("127.132.9.5")
	self := genKey(t)
	bootnodes := func(node *enode.Node) []string { return []string{"--bootnodes", node.URLv4()} }
	for i, c := range []struct {
		name         string
		flags        []string
		cause, words string
	}{
		{"a peer that is full", staticNodes(full.Self()), "peers_are_full", "too_many_peers"},
		{"a peer with other protocols", staticNodes(useless.Self()), "dials_fail", "no protocol in common"},
		{"a peer with another key", staticNodes(enodeOf(&genKey(t).PublicKey, "127.132.9.4")), "dials_fail", "(handshake_cut)"},
		{"a peer that is not there", staticNodes(enodeOf(&genKey(t).PublicKey, "127.132.9.99")), "dials_fail", "connection_refused"},
		{"a bootnode that is down", bootnodes(enodeOf(&genKey(t).PublicKey, "127.132.9.99")), "nothing_arrives", "none received"},
		// Its own ping tells us the new one.
		{"a bootnode with a new key", bootnodes(enodeOf(&genKey(t).PublicKey, "127.132.9.5")), "alone", "nobody else"},
		{"a bootnode that knows nobody else", bootnodes(discovery("127.132.9.6")), "alone", "nobody else"},
		{"a peer outside the networks", append(staticNodes(other.Self()), "--netrestrict", "10.0.0.0/8"), "refused", "net_restricted"},
		{"itself", append(keyFlags(self), staticNodes(enodeOf(&self.PublicKey, "127.132.9.4"))...), "nobody_to_ask", "nobody but ourselves"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			ip := fmt.Sprintf("127.132.9.%d", 11+i)
			startRLPx(t, ip, append(c.flags, "--status", ip+":6060")...)
			eventually(t, startup, c.cause, func() (bool, string) {
				asked := harness.Run(t, startup, "why "+ip, harness.Kadwire(t), "why", ip+":6060", "--json")
				var answer struct {
					Findings []struct{ Cause, Says string }
				}
				if err := json.Unmarshal([]byte(asked.Stdout), &answer); err != nil || asked.Code != 1 {
					t.Fatalf("exit code %d, %v: %s%s", asked.Code, err, asked.Stdout, asked.Stderr)
				}
				for _, finding := range answer.Findings {
					if finding.Cause == c.cause && strings.Contains(finding.Says, c.words) {
						return true, ""
					}
				}
				return false, asked.Stdout
			})
		})
	}
}
