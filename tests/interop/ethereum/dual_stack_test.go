package ethereum

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/ethereum/go-ethereum/p2p/enode"
	"github.com/ethereum/go-ethereum/p2p/enr"

	"kadwire/interop/harness"
)

// tmEntry is the record's pair tm: a Tendermint node.
type tmEntry struct {
	ID   []byte
	Port uint16
}

func (tmEntry) ENRKey() string { return "tm" }

func ip6Of(node *enode.Node) (string, error) {
	var ip enr.IPv6Addr
	err := node.Load(&ip)
	return netip.Addr(ip).String(), err
}

// go-ethereum's tool over ::1 and 127.0.0.1, which is where a socket of every interface answers from on
// loopback.
func TestBothFamiliesForGoEthereum(t *testing.T) {
	p := harness.Start(t, "bootnode of both families", harness.Kadwire(t),
		"bootnode", "--addr", ":30361", "--nat", "extip:127.0.0.1", "--nat", "extip:::1")
	_ = p.Line(startup)
	record := mustParse(t, p.Line(startup))
	var udp enr.UDP
	var udp6 enr.UDP6
	if err := record.Load(&udp); err != nil || udp != 30361 {
		t.Errorf("udp %d: %v", udp, err)
	}
	if err := record.Load(&udp6); err != nil || udp6 != 30361 {
		t.Errorf("udp6 %d: %v (go-ethereum falls back to udp, others do not)", udp6, err)
	}
	if ip6, err := ip6Of(record); err != nil || ip6 != "::1" {
		t.Errorf("ip6 %s: %v", ip6, err)
	}
	for from, to := range map[string]string{"[::1]:0": "[::1]", "127.61.9.2:0": "127.0.0.1"} {
		url := fmt.Sprintf("enode://%s@%s:30361", publicKey(record), to)
		for _, command := range []string{"ping", "requestenr"} {
			got := devp2p(t, "discv4", command, "--bootnodes", "", "--addr", from, url)
			if got.Code != 0 {
				t.Errorf("%s %s: exit %d: %s %s", command, url, got.Code, got.Stdout, got.Stderr)
			}
			if command == "requestenr" && strings.TrimSpace(got.Stdout) != record.String() {
				t.Errorf("%s: got %s, want %s", url, got.Stdout, record)
			}
		}
	}
}
