package ethereum

import (
	"encoding/json"
	"fmt"
	"testing"

	"github.com/ethereum/go-ethereum/p2p"
	"github.com/ethereum/go-ethereum/p2p/enode"
	"github.com/ethereum/go-ethereum/p2p/enr"
	"github.com/ethereum/go-ethereum/rlp"

	"kadwire/interop/ethereum/gethnet"
	"kadwire/interop/harness"
)

// forkID is forkid.ID, whose package would bring half a chain client.
type forkID struct {
	Hash [4]byte
	Next uint64
}

// ethEntry is what a node that serves eth puts into its record (eth/protocols/eth/discovery.go).
type ethEntry struct {
	ForkID forkID
	Rest   []rlp.RawValue `rlp:"tail"`
}

func (ethEntry) ENRKey() string { return "eth" }

// TestOnlyTheChainAskedForIsDialed: with --eth-network, go-ethereum nodes whose record says another chain, or none, are found and not dialed.
func TestOnlyTheChainAskedForIsDialed(t *testing.T) {
	t.Parallel()
	_, boot, _ := startBootnode(t, "127.200.10.1")
	// None of them dials: a stream that one of them accepts is ours.
	start := func(n int, attributes ...enr.Entry) *gethnet.Server {
		kad, _ := demo("kad", 1)
		kad.Attributes = attributes
		return startServer(t, fmt.Sprintf("127.200.10.%d", n), p2p.Config{
			Protocols: []p2p.Protocol{kad}, DiscoveryV4: true, BootstrapNodes: []*enode.Node{boot}, NoDial: true,
		})
	}
	of := func(hash [4]byte, next uint64) enr.Entry { return ethEntry{ForkID: forkID{hash, next}} }
	// The identifiers are those of core/forkid/forkid_test.go.
	wanted := map[string]*gethnet.Server{
		"mainnet now":                start(11, of([4]byte{0x07, 0xc9, 0x46, 0x2e}, 0)),
		"mainnet, not synced at all": start(12, of([4]byte{0xfc, 0x64, 0xec, 0x04}, 1_150_000)),
	}
	others := map[string]*gethnet.Server{
		"Sepolia":               start(21, of([4]byte{0x6c, 0x1d, 0x94, 0x23}, 0)),
		"Hoodi":                 start(22, of([4]byte{0x23, 0xaa, 0x13, 0x51}, 0)),
		"no chain":              start(23),
		"a chain of no fork id": start(24, enr.WithEntry("eth", []uint64{})),
	}
	startRLPx(t, "127.200.10.2", "--bootnodes", boot.URLv4(), "--eth-network", "mainnet", "--status", "127.200.10.2:6060")
	eventually(t, startup, "both nodes of the main network are peers, and the walk has come upon the others", func() (bool, string) {
		asked := harness.Run(t, startup, "why", harness.Kadwire(t), "why", "127.200.10.2:6060", "--json")
		var answer struct {
			Peers  int
			Status struct {
				Wires []struct{ Found struct{ Filtered int } }
			}
		}
		if err := json.Unmarshal([]byte(asked.Stdout), &answer); err != nil {
			t.Fatalf("exit code %d, %v: %s%s", asked.Code, err, asked.Stdout, asked.Stderr)
		}
		filtered := answer.Status.Wires[0].Found.Filtered
		// Each walk comes upon each of them again.
		return answer.Peers == len(wanted) && filtered >= 3*len(others), fmt.Sprintf("%d peers, %d filtered", answer.Peers, filtered)
	})
	for name, server := range wanted {
		if len(server.Peers()) != 1 {
			t.Errorf("%s: %d peers", name, len(server.Peers()))
		}
	}
	for name, server := range others {
		if accepted := server.Incidents("accept"); len(accepted) > 0 {
			t.Errorf("%s was dialed: %v", name, accepted)
		}
	}
}
