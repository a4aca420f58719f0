package ethereum

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/p2p"
	"github.com/ethereum/go-ethereum/p2p/enode"
	"github.com/ethereum/go-ethereum/p2p/rlpx"
	"golang.org/x/sys/unix"

	"kadwire/interop/ethereum/gethnet"
	"kadwire/interop/harness"
)

// publicNet is a network namespace whose only interface has these public addresses: neither go-ethereum nor we throttle a LAN or loopback.
// Needs root, since it makes a namespace.
func publicNet(t *testing.T, addresses ...string) (name string) {
	t.Helper()
	ip := program(t, "ip", "iproute2")
	name = fmt.Sprintf("kw%d-public", os.Getpid())
	for _, line := range append([]string{"netns add " + name, "-n " + name + " link set lo up"}, addAddresses(name, addresses)...) {
		if out, err := exec.Command(ip, strings.Fields(line)...).CombinedOutput(); err != nil {
			t.Fatalf("ip %s: %v: %s (this test makes a network namespace, which takes root)", line, err, out)
		}
	}
	t.Cleanup(func() { exec.Command(ip, "netns", "del", name).Run() })
	return name
}

func addAddresses(namespace string, addresses []string) (lines []string) {
	for _, address := range addresses {
		lines = append(lines, fmt.Sprintf("-n %s addr add %s/32 dev lo", namespace, address))
	}
	return lines
}

// inside runs something whose sockets are to be in a namespace.
func inside(t *testing.T, namespace string, do func()) {
	t.Helper()
	// Unlocked only once the thread is back: an error ends the test, and the thread with it.
	runtime.LockOSThread()
	open := func(path string) *os.File {
		t.Helper()
		file, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		return file
	}
	here, there := open("/proc/thread-self/ns/net"), open("/var/run/netns/"+namespace)
	defer here.Close()
	defer there.Close()
	enter := func(network *os.File) {
		t.Helper()
		if err := unix.Setns(int(network.Fd()), unix.CLONE_NEWNET); err != nil {
			t.Fatalf("namespace %s: %v", network.Name(), err)
		}
	}
	enter(there)
	do()
	enter(here)
	runtime.UnlockOSThread()
}

// greeted says whether a stream from an address gets as far as RLPx's handshake.
func greeted(t *testing.T, namespace, from string, to *enode.Node) (err error) {
	t.Helper()
	key := genKey(t)
	inside(t, namespace, func() {
		endpoint, _ := to.TCPEndpoint()
		var fd net.Conn
		if fd, err = (&net.Dialer{Timeout: startup, LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}).Dial("tcp4", endpoint.String()); err != nil {
			return
		}
		defer fd.Close()
		fd.SetDeadline(time.Now().Add(startup))
		_, err = rlpx.NewConn(fd, to.Pubkey()).Handshake(key)
	})
	return err
}

// TestInboundThrottle: a second stream of one IP within half a minute is closed without a word, by go-ethereum and by us alike; another
// IP is let in.
func TestInboundThrottle(t *testing.T) {
	const ours, theirs = "24.61.2.1", "24.61.2.2"
	namespace := publicNet(t, ours, theirs, "24.61.2.11", "24.61.2.12")

	node := harness.Start(t, "node "+ours, program(t, "ip", "iproute2"), "netns", "exec", namespace, harness.Kadwire(t),
		"node", "--json", "--rlpx", "--addr", ours+":30303", "--nat", "extip:"+ours)
	first := node.Until(startup, "its first line", func(harness.Event) bool { return true })

	kad, _ := demo("kad", 1)
	var server *gethnet.Server
	inside(t, namespace, func() {
		var err error
		if server, err = gethnet.StartServer(netip.MustParseAddr(theirs), gethnet.ServerConfig{Config: p2p.Config{Protocols: []p2p.Protocol{kad}}}); err != nil {
			t.Error(err)
		}
	})
	if server == nil {
		t.FailNow()
	}
	t.Cleanup(server.Stop)

	for who, node := range map[string]*enode.Node{"go-ethereum": server.Self(), "kadwire": mustParse(t, first.Text("enode"))} {
		if err := greeted(t, namespace, "24.61.2.11", node); err != nil {
			t.Errorf("%s refuses the first stream: %v", who, err)
		}
		if err := greeted(t, namespace, "24.61.2.11", node); err == nil {
			t.Errorf("%s takes the second stream of an IP at once", who)
		}
		if err := greeted(t, namespace, "24.61.2.12", node); err != nil {
			t.Errorf("%s refuses another IP: %v", who, err)
		}
	}
}
