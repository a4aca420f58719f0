package ethereum

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/p2p"
	"github.com/ethereum/go-ethereum/p2p/enode"

	"kadwire/interop/ethereum/gethnet"
	"kadwire/interop/harness"
)

// TestBothWires: a node that speaks both has Ethereum peers and Tendermint peers from one discovery, and dials each on its own wire: whoever
// has `tm` in his record is no RLPx peer's candidate, nor the reverse.
func TestBothWires(t *testing.T) {
	_, boot, _ := startBootnode(t, "127.142.0.1")
	kad, _ := demo("kad", 1)
	var servers []*gethnet.Server
	for i := range 3 {
		servers = append(servers, startServer(t, fmt.Sprintf("127.142.1.%d", 1+i), p2p.Config{
			Protocols: []p2p.Protocol{kad}, DiscoveryV4: true, BootstrapNodes: []*enode.Node{boot}, NoDial: true,
		}))
	}
	var mconns []*harness.Process
	for i := range 3 {
		ip := fmt.Sprintf("127.142.2.%d", 1+i)
		mconns = append(mconns, harness.Start(t, "node "+ip, harness.Kadwire(t), "node", "--json", "--addr", ip+":30303", "--laddr", ip+":26656",
			"--nat", "extip:"+ip, "--bootnodes", boot.URLv4(), "--chain-id", "both", "--max-num-outbound-peers", "0"))
	}
	both := startRLPx(t, "127.142.3.1", "--laddr", "127.142.3.1:26656", "--bootnodes", boot.URLv4(), "--chain-id", "both")

	begin := time.Now()
	peers := func(prefix string) map[string]bool {
		found := map[string]bool{}
		for _, e := range both.Events() {
			if ip, _, _ := strings.Cut(e.Text("address"), ":"); e.Text("event") == "peer_up" && strings.Contains(e.Text("address"), prefix) {
				found[ip] = true
			}
		}
		return found
	}
	eventually(t, 2*time.Minute, "it has three peers on each wire", func() (bool, string) {
		return len(peers("127.142.1.")) == len(servers) && len(peers("127.142.2.")) == len(mconns), fmt.Sprint(both.Said())
	})
	t.Logf("three peers on each wire after %.1f s", time.Since(begin).Seconds())
	for _, server := range servers {
		for _, i := range server.Incidents("refuse") {
			t.Errorf("%s was dialed by %s, who failed: %s", server.IP, i.Who, i.Why)
		}
	}
}
