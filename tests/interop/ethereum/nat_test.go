package ethereum

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ethereum/go-ethereum/p2p/enode"

	"kadwire/interop/harness"
)

// record asks a bootnode for its ENR from a namespace, with go-ethereum's tool.
func (l *natLab) record(ns string, of *enode.Node, endpoint string) *enode.Node {
	l.t.Helper()
	at := netip.MustParseAddrPort(endpoint)
	url := fmt.Sprintf("enode://%s@%s:0?discport=%d", publicKey(of), at.Addr(), at.Port())
	var got harness.Result
	for range 3 { // it waits half a second for a datagram, which may take longer on a busy machine
		if got = l.run(ns, harness.Devp2p(l.t), "discv4", "requestenr", "--bootnodes", "", "--addr", "0.0.0.0:0", url); got.Code == 0 {
			return mustParse(l.t, strings.TrimSpace(got.Stdout))
		}
	}
	l.t.Fatalf("requestenr %s: exit %d: %s %s", url, got.Code, got.Stdout, got.Stderr)
	return nil
}

// publicKey is the node's key as in its enode URL: 128 hex digits.
func publicKey(node *enode.Node) string {
	return strings.TrimPrefix(node.URLv4(), "enode://")[:128]
}

// bootnode starts a bootnode in the home network, which is there at once whatever the gateway does.
func (l *natLab) bootnode(port string, nat ...string) (*harness.Process, *enode.Node) {
	l.t.Helper()
	args := []string{harness.Kadwire(l.t), "bootnode", "--addr", ":" + port}
	for _, method := range nat {
		args = append(args, "--nat", method)
	}
	p := l.start(l.lan, args...)
	_ = p.Line(startup)
	return p, mustParse(l.t, p.Line(startup))
}

// endpoint is what a record says over IPv4.
func endpoint(node *enode.Node) string {
	at, _ := node.UDPEndpoint()
	return at.String()
}

// The whole way: the gateway maps the port, the record says so, somebody on the internet asks through it, and at the end the
// mapping is gone.
func TestGatewayMapsTheBootnodesPort(t *testing.T) {
	l := newNatLab(t)
	l.openGateway()
	for i, method := range []string{"upnp", "pmp", "any", "pmp:" + gatewayIP} {
		port := fmt.Sprint(30301 + i)
		p, node := l.bootnode(port, method)
		mapping := "UDP:" + port + ":" + lanIP + ":" + port
		within(t, startup, method+": "+mapping, func() bool { return slices.Contains(l.leases(), mapping) })
		if !l.isMapped(port) {
			t.Errorf("%s: no rule forwards port %s", method, port)
		}
		outside := externalIP + ":" + port
		within(t, startup, method+": the external address is found", func() bool {
			return strings.Contains(p.Stderr(), "external address found")
		})
		record := l.record(l.internet, node, outside)
		if endpoint(record) != outside {
			t.Errorf("%s: the record says %s, want %s", method, endpoint(record), outside)
		}
		terminate(t, p)
		if left := l.leases(); len(left) != 0 || l.isMapped(port) {
			t.Errorf("%s: after SIGTERM the gateway still maps %v", method, left)
		}
	}
}

// Another host of the home network has the port: another one is mapped, and published.
func TestGatewayGivesAnotherPort(t *testing.T) {
	l := newNatLab(t)
	l.openGateway()
	upnpc := program(t, "upnpc", "miniupnpc")
	l.must(l.inside, upnpc, "-a", neighbourIP, "30301", "30301", "UDP")
	for _, method := range []string{"upnp", "pmp"} {
		p, node := l.bootnode("30301", method)
		var outside string
		within(t, startup, method+": a mapping", func() bool {
			for _, lease := range l.leases() {
				if parts := strings.Split(lease, ":"); parts[2] == lanIP {
					outside = externalIP + ":" + parts[1]
				}
			}
			return outside != "" && strings.Contains(p.Stderr(), "external address found")
		})
		if outside == externalIP+":30301" {
			t.Fatalf("%s: the neighbour's port was taken", method)
		}
		if record := l.record(l.internet, node, outside); endpoint(record) != outside {
			t.Errorf("%s: the record says %s, want %s", method, endpoint(record), outside)
		}
		terminate(t, p)
		if left := l.leases(); len(left) != 1 || !strings.Contains(left[0], neighbourIP) {
			t.Errorf("%s: want the neighbour's mapping alone, have %v", method, left)
		}
	}
}

// A node has its TCP port mapped too, and says in its record (pair tm) where that is. Its config.toml asks for it; a flag would do as well.
func TestGatewayMapsTheNodesPorts(t *testing.T) {
	l := newNatLab(t)
	l.openGateway()
	upnpc := program(t, "upnpc", "miniupnpc")
	l.must(l.inside, upnpc, "-a", neighbourIP, "26656", "26656", "TCP")
	home := t.TempDir()
	if err := os.Mkdir(filepath.Join(home, "config"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(home, "config", "config.toml"), []byte("[p2p]\nupnp = true\nladdr = \"tcp://:26656\"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	p := l.start(l.lan, harness.Kadwire(t), "node", "--json", "--chain-id", "nat", "--home", home, "--addr", ":30303")
	listening := p.Until(startup, "listening", func(e harness.Event) bool { return e.Text("event") == "listening" })
	node := mustParse(t, listening.Text("enr"))
	within(t, startup, "both mappings", func() bool {
		return len(l.leases()) == 3 && strings.Contains(p.Stderr(), "external address found")
	})
	var tcp string
	for _, lease := range l.leases() {
		if parts := strings.Split(lease, ":"); parts[0] == "TCP" && parts[2] == lanIP {
			tcp = parts[1]
		}
	}
	outside := externalIP + ":30303"
	record := l.record(l.internet, node, outside)
	var tm tmEntry
	if err := record.Load(&tm); err != nil || fmt.Sprint(tm.Port) != tcp || tcp == "26656" {
		t.Errorf("the record's tm has port %d (%v), the gateway maps %s", tm.Port, err, tcp)
	}
	if endpoint(record) != outside || record.TCP() != 0 {
		t.Errorf("the record says %s and tcp %d, want %s and none: tcp is for RLPx", endpoint(record), record.TCP(), outside)
	}
	terminate(t, p)
	if left := l.leases(); len(left) != 1 {
		t.Errorf("after SIGTERM the gateway maps %v besides the neighbour's", left)
	}
}

// A STUN server on the internet says where we are; nothing is mapped.
func TestStunServerSaysWhereWeAre(t *testing.T) {
	l := newNatLab(t)
	l.start(l.internet, program(t, "stund", "stun-server"), "-h", stunIP, "-a", stunOther)
	within(t, startup, "stund listens", func() bool {
		return strings.Contains(l.run(l.internet, "cat", "/proc/net/udp").Stdout, ":0D96 ") // 3478
	})
	p, node := l.bootnode("30301", "stun:"+stunIP)
	within(t, startup, "an answer", func() bool { return strings.Contains(p.Stderr(), "external address found") })
	record := l.record(l.lan, node, lanIP+":30301")
	if want := externalIP + ":30301"; endpoint(record) != want {
		t.Errorf("the record says %s, want %s", endpoint(record), want)
	}
	terminate(t, p)
}

// Without a gateway that maps ports the node serves all the same, and says once what to do.
func TestNoGatewayIsNoFailure(t *testing.T) {
	l := newNatLab(t)
	p, node := l.bootnode("30301", "pmp", "extip:2a00:61::1")
	within(t, startup, "the trouble is named", func() bool { return strings.Contains(p.Stderr(), "--nat extip:IP") })
	// Where nothing refuses, it looks for a gateway for 5 s.
	if said := p.Stderr(); strings.Index(said, "serving") > strings.Index(said, "--nat extip:IP") || !strings.Contains(said, "serving") {
		t.Error("the start waited for the gateway")
	}
	record := l.record(l.lan, node, lanIP+":30301")
	if ip6, err := ip6Of(record); err != nil || ip6 != "2a00:61::1" {
		t.Errorf("ip6 %s (%v), want the one that was given", ip6, err)
	}
	if at, ok := record.UDPEndpoint(); !ok || at.Addr().String() != "2a00:61::1" {
		t.Errorf("the record says %v: an IPv4 address was made up", at)
	}
	terminate(t, p)
}
