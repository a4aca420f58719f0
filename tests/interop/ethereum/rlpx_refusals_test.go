package ethereum

import (
	"bytes"
	"crypto/ecdsa"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/crypto"
	"github.com/ethereum/go-ethereum/p2p"
	"github.com/ethereum/go-ethereum/p2p/netutil"

	"kadwire/interop/ethereum/gethnet"
)

// calm is how long nothing must happen.
const calm = 3 * time.Second

// keyFlags are the flags that give our node an identity.
func keyFlags(key *ecdsa.PrivateKey) []string {
	return []string{"--nodekey", common.Bytes2Hex(crypto.FromECDSA(key))}
}

// kad starts a p2p.Server with kad/1 and nothing else.
func kad(t *testing.T, ip string, cfg p2p.Config) (*gethnet.Server, <-chan *session) {
	t.Helper()
	protocol, joined := demo("kad", 1)
	cfg.Protocols = []p2p.Protocol{protocol}
	return startServer(t, ip, cfg), joined
}

// hungUp waits until the server's connection with an IP has ended for this reason: before it was a peer, or after, as we see all of a peer
// before we say that there is no place for it.
func hungUp(t *testing.T, s *gethnet.Server, who string, why p2p.DiscReason) {
	t.Helper()
	eventually(t, startup, fmt.Sprintf("%s hangs up: %v", who, why), func() (bool, string) {
		all := s.Incidents("")
		for _, i := range all {
			if (i.What == "refuse" || i.What == "drop") && i.Who == who && strings.Contains(i.Why, why.Error()) {
				return true, ""
			}
		}
		return false, fmt.Sprint(all)
	})
}

// incident waits for something of this kind with this reason to happen to a connection of the server with an IP.
func incident(t *testing.T, s *gethnet.Server, what, who, why string) {
	t.Helper()
	eventually(t, startup, fmt.Sprintf("%s of %s: %s", what, who, why), func() (bool, string) {
		all := s.Incidents("")
		for _, i := range all {
			if i.What == what && i.Who == who && strings.Contains(i.Why, why) {
				return true, ""
			}
		}
		return false, fmt.Sprint(all)
	})
}

// peerUp waits until our node has a peer at an IP.
func (o *ours) peerUp(t *testing.T, ip string) {
	t.Helper()
	eventually(t, startup, "our peer "+ip, func() (bool, string) {
		for _, e := range o.Events() {
			if e.Text("event") == "peer_up" && strings.Contains(e.Text("address"), ip+":") {
				return true, ""
			}
		}
		return false, fmt.Sprint(o.Said())
	})
}

// peerDown waits until our node has lost a peer, and gives the reason that it prints.
func (o *ours) peerDown(t *testing.T) (reason string) {
	t.Helper()
	eventually(t, startup, "our node loses a peer", func() (bool, string) {
		for _, e := range o.Events() {
			if e.Text("event") == "peer_down" {
				reason = e.Text("reason")
				return true, ""
			}
		}
		return false, fmt.Sprint(o.Said())
	})
	return reason
}

// ups counts the peers that our node ever had.
func (o *ours) ups() (n int) {
	for _, e := range o.Events() {
		if e.Text("event") == "peer_up" {
			n++
		}
	}
	return n
}

func TestWrongIdentity(t *testing.T) {
	t.Parallel()
	t.Run("we dial another key than the server's", func(t *testing.T) {
		server, _ := kad(t, "127.138.1.1", p2p.Config{})
		node := startRLPx(t, "127.138.1.2", staticNodes(enodeOf(&genKey(t).PublicKey, "127.138.1.1"))...)
		incident(t, server, "refuse", node.ip, "ecies")
		time.Sleep(calm)
		if n := len(server.Incidents("accept")); n != 1 || node.ups() != 0 {
			t.Errorf("%d dials within %v, %d peers", n, calm, node.ups())
		}
	})
	t.Run("the server dials another key than ours", func(t *testing.T) {
		node := startRLPx(t, "127.138.1.3")
		server, _ := kad(t, "127.138.1.4", p2p.Config{})
		server.AddPeer(enodeOf(&genKey(t).PublicKey, node.ip))
		incident(t, server, "refuse", node.ip, "")
		server.AddPeer(node.url) // ours is not put off by that
		node.peerUp(t, "127.138.1.4")
	})
	t.Run("a Hello with another key than the handshake's", func(t *testing.T) {
		node := startRLPx(t, "127.138.1.5")
		r := dialRaw(t, "127.138.1.6", node.url, genKey(t))
		h := r.hello(kad1)
		h.ID = crypto.FromECDSAPub(&genKey(t).PublicKey)[1:]
		r.say(helloMsg, h)
		r.theirHello()
		r.SetSnappy(true)
		if reason := r.refusal(); reason != p2p.DiscUnexpectedIdentity {
			t.Errorf("the reason is %v", reason)
		}
	})
}

func TestBadHellos(t *testing.T) {
	t.Parallel()
	node := startRLPx(t, "127.138.2.1")
	long := func(h *hello) { h.Name = strings.Repeat("n", 3000) }
	for name, c := range map[string]struct {
		change     func(*hello)
		want       p2p.DiscReason
		understood bool // then compression is on
	}{
		"no id":                 {func(h *hello) { h.ID = nil }, p2p.DiscInvalidIdentity, false},
		"an id of zeros":        {func(h *hello) { h.ID = make([]byte, 64) }, p2p.DiscInvalidIdentity, false},
		"63 bytes of id":        {func(h *hello) { h.ID = h.ID[:63] }, p2p.DiscInvalidIdentity, false},
		"no capability":         {func(h *hello) { h.Caps = nil }, p2p.DiscUselessPeer, true},
		"another version":       {func(h *hello) { h.Caps[0].Version = 200 }, p2p.DiscUselessPeer, true},
		"more than 2,048 bytes": {long, p2p.DiscProtocolError, false},
	} {
		t.Run(name, func(t *testing.T) {
			r := dialRaw(t, "127.138.2.2", node.url, genKey(t))
			h := r.hello(kad1)
			c.change(h)
			r.say(helloMsg, h)
			r.theirHello()
			r.SetSnappy(c.understood)
			if reason := r.refusal(); reason != c.want {
				t.Errorf("the reason is %v, want %v", reason, c.want)
			}
		})
	}
	t.Run("not a Hello", func(t *testing.T) {
		r := dialRaw(t, "127.138.2.3", node.url, genKey(t))
		r.say(pingMsg, []uint{})
		if reason := r.refusal(); reason != p2p.DiscProtocolError {
			t.Errorf("the reason is %v", reason)
		}
	})
	t.Run("Disconnect in place of Hello, in each of its forms", func(t *testing.T) {
		for _, payload := range [][]byte{{0xc1, 0x04}, {0x04}, {0x81, 0x04}, {}, {0xff}, {0xc0}} {
			r := dialRaw(t, "127.138.2.4", node.url, genKey(t))
			r.theirHello()
			r.sendBytes(disconnectMsg, payload)
			for {
				if _, _, err := r.next(); err != nil {
					if err != io.EOF && !strings.Contains(err.Error(), "reset") {
						t.Errorf("%x: %v", payload, err)
					}
					break
				}
			}
		}
	})
	if node.ups() != 0 {
		t.Errorf("%d of them became peers", node.ups())
	}
}

// another is a peer of a new identity that is established on kad/1.
func another(t *testing.T, node *ours) *raw {
	t.Helper()
	r := dialRaw(t, "127.138.3.3", node.url, genKey(t))
	r.established(kad1)
	return r
}

func TestBreachesOfProtocol(t *testing.T) {
	t.Parallel()
	node := startRLPx(t, "127.138.3.1")
	// snappy's length of the plain bytes comes first: a promise of 16 MiB that nothing follows.
	bomb := binary.AppendUvarint(nil, 1<<24)
	for name, breach := range map[string]func(r *raw){
		"a code beyond all protocols": func(r *raw) { r.sendBytes(500, nil) },
		"a promise of 16 MiB": func(r *raw) {
			r.SetSnappy(false)
			r.sendBytes(baseLength, append(bomb, 0))
		},
		"a promise of 4 GiB": func(r *raw) {
			r.SetSnappy(false)
			r.sendBytes(baseLength, binary.AppendUvarint(nil, 1<<32-1))
		},
		"bytes that are not compressed": func(r *raw) {
			r.SetSnappy(false)
			r.sendBytes(baseLength, bytes.Repeat([]byte{0xff}, 100))
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := dialRaw(t, "127.138.3.2", node.url, genKey(t))
			r.established(kad1)
			checkAnswers(t, r)
			breach(r)
			r.SetSnappy(true)
			// go-ethereum says nothing more to such a peer.
			if reason, ok := r.end(); ok && reason != p2p.DiscProtocolError && reason != p2p.DiscSubprotocolError {
				t.Errorf("the reason is %v", reason)
			}
			checkAnswers(t, another(t, node))
		})
	}
	if rss := residentMB(t, node.Pid()); rss > 200 {
		t.Errorf("our node has %d MB resident", rss)
	}
}

func TestUselessPeer(t *testing.T) {
	t.Parallel()
	foo, _ := demo("foo", 1)
	server := startServer(t, "127.138.4.1", p2p.Config{Protocols: []p2p.Protocol{foo}})
	node := startRLPx(t, "127.138.4.2", staticNodes(server.Self())...)
	incident(t, server, "refuse", node.ip, "useless peer")
	time.Sleep(calm)
	if n := len(server.Incidents("accept")); n != 1 || node.ups() != 0 {
		t.Errorf("%d dials within %v, %d peers", n, calm, node.ups())
	}
	// And the reverse: it dials us.
	other := startServer(t, "127.138.4.3", p2p.Config{Protocols: []p2p.Protocol{foo}})
	other.AddPeer(node.url)
	incident(t, other, "refuse", node.ip, "useless peer")
}

func TestTooManyPeers(t *testing.T) {
	t.Parallel()
	t.Run("the server is full", func(t *testing.T) {
		server, joined := kad(t, "127.138.5.1", p2p.Config{MaxPeers: 2, DialRatio: 2}) // one dialed, one inbound
		first := startRLPx(t, "127.138.5.2", staticNodes(server.Self())...)
		next(t, joined)
		second := startRLPx(t, "127.138.5.3", staticNodes(server.Self())...)
		incident(t, server, "refuse", second.ip, "too many peers")
		if second.ups() != 0 {
			t.Errorf("it is a peer all the same: %v", second.Said())
		}
		// A trusted peer has a place above the limit.
		trusted := genKey(t)
		server.AddTrustedPeer(enodeOf(&trusted.PublicKey, "127.138.5.4"))
		startRLPx(t, "127.138.5.4", append(keyFlags(trusted), staticNodes(server.Self())...)...)
		if s := next(t, joined); !s.Trusted() {
			t.Errorf("%v is not trusted", s.Peer)
		}
		first.peerUp(t, "127.138.5.1")
	})
	t.Run("we are full", func(t *testing.T) {
		key := genKey(t)
		trusted := enodeOf(&key.PublicKey, "127.138.5.13")
		node := startRLPx(t, "127.138.5.11", "--max-peers", "2", "--trusted", trusted.URLv4())
		var servers []*gethnet.Server
		for i := range 3 {
			server, _ := kad(t, fmt.Sprintf("127.138.5.%d", 21+i), p2p.Config{})
			server.AddPeer(node.url)
			servers = append(servers, server)
		}
		refused := func() (n int) {
			for _, server := range servers {
				for _, i := range server.Incidents("") { // refused or, if two come at once, dropped
					if strings.Contains(i.Why, p2p.DiscTooManyPeers.Error()) {
						n++
					}
				}
			}
			return n
		}
		eventually(t, startup, "one or two of three are refused", func() (bool, string) {
			return refused() >= 1 && refused()+node.ups() == 3, fmt.Sprint(node.Said())
		})
		server, joined := kad(t, "127.138.5.13", p2p.Config{PrivateKey: key})
		server.AddPeer(node.url)
		next(t, joined)
		node.peerUp(t, "127.138.5.13")
	})
}

func TestAlreadyConnectedAndSelf(t *testing.T) {
	t.Parallel()
	key := genKey(t)
	node := startRLPx(t, "127.138.6.1", keyFlags(key)...)
	twin := genKey(t)
	first, joined := kad(t, "127.138.6.2", p2p.Config{PrivateKey: twin})
	first.AddPeer(node.url)
	next(t, joined)
	second, _ := kad(t, "127.138.6.3", p2p.Config{PrivateKey: twin})
	second.AddPeer(node.url)
	hungUp(t, second, node.ip, p2p.DiscAlreadyConnected)
	if first.PeerCount() != 1 {
		t.Error("the first connection did not survive the second")
	}
	r := dialRaw(t, "127.138.6.4", node.url, key)
	r.say(helloMsg, r.hello(kad1))
	if reason := r.refusal(); reason != p2p.DiscSelf {
		t.Errorf("our own key is refused as %v", reason)
	}
	// Two of ours with one identity dial one server.
	server, joined := kad(t, "127.138.6.5", p2p.Config{})
	flags := append(keyFlags(genKey(t)), staticNodes(server.Self())...)
	startRLPx(t, "127.138.6.6", flags...)
	next(t, joined)
	double := startRLPx(t, "127.138.6.7", flags...)
	incident(t, server, "refuse", double.ip, "already connected")
}

// TestBothDialAtOnce: whoever wins, one connection is left, and it stays.
func TestBothDialAtOnce(t *testing.T) {
	t.Parallel()
	var servers []*gethnet.Server
	for i := range 8 {
		key := genKey(t)
		ip := fmt.Sprintf("127.138.7.%d", 101+i)
		server, joined := kad(t, fmt.Sprintf("127.138.7.%d", 1+i), p2p.Config{})
		node := startRLPx(t, ip, append(keyFlags(key), staticNodes(server.Self())...)...)
		server.AddPeer(node.url)
		next(t, joined)
		servers = append(servers, server)
	}
	time.Sleep(calm)
	for _, server := range servers {
		if n := server.PeerCount(); n != 1 {
			t.Errorf("%s has %d connections: %v", server.IP, n, server.Incidents(""))
		}
	}
}

func TestNetRestrict(t *testing.T) {
	t.Parallel()
	netrestrict := func(cidr string) *netutil.Netlist {
		list, err := netutil.ParseNetlist(cidr)
		if err != nil {
			t.Fatal(err)
		}
		return list
	}
	// Ours takes no stream from elsewhere: it closes without a word, as go-ethereum does.
	node := startRLPx(t, "127.138.8.1", "--netrestrict", "127.138.8.0/24")
	stranger, _ := kad(t, "127.138.9.1", p2p.Config{})
	stranger.AddPeer(node.url)
	incident(t, stranger, "refuse", node.ip, "")
	friend, joined := kad(t, "127.138.8.2", p2p.Config{NetRestrict: netrestrict("127.138.8.0/24")})
	friend.AddPeer(node.url)
	next(t, joined)
	node.peerUp(t, friend.IP.String())
	if node.ups() != 1 {
		t.Errorf("%d peers", node.ups())
	}
	// Neither do we dial there.
	elsewhere, _ := kad(t, "127.138.9.2", p2p.Config{})
	careful := startRLPx(t, "127.138.8.3", append(staticNodes(elsewhere.Self()), "--netrestrict", "127.138.8.0/24")...)
	// And the server closes our streams from elsewhere: no peer, no dial at once again.
	outside := startRLPx(t, "127.138.9.3", staticNodes(friend.Self())...)
	incident(t, friend, "throttled", outside.ip, "not in netrestrict list")
	time.Sleep(calm)
	if n := len(elsewhere.Incidents("accept")); n != 0 {
		t.Errorf("%s was dialed %d times though it is outside", elsewhere.IP, n)
	}
	if n := len(friend.Incidents("throttled")); n != 1 || outside.ups()+careful.ups() != 0 {
		t.Errorf("%d dials to who closes at once, %d and %d peers", n, outside.ups(), careful.ups())
	}
}

// TestEndings: each side says why it goes, and the other side hears it.
func TestEndings(t *testing.T) {
	t.Parallel()
	pair := func(t *testing.T, n int) (*ours, *gethnet.Server, *session) {
		server, joined := kad(t, fmt.Sprintf("127.139.%d.1", n), p2p.Config{})
		node := startRLPx(t, fmt.Sprintf("127.139.%d.2", n), staticNodes(server.Self())...)
		s := next(t, joined)
		node.peerUp(t, server.IP.String())
		return node, server, s
	}
	t.Run("the server stops", func(t *testing.T) {
		node, server, _ := pair(t, 1)
		server.Stop()
		if reason := node.peerDown(t); !strings.Contains(reason, "quitting") {
			t.Errorf("our node says: %q", reason)
		}
	})
	t.Run("the server has asked us to go", func(t *testing.T) {
		node, _, s := pair(t, 2)
		s.Disconnect(p2p.DiscTooManyPeers)
		if reason := node.peerDown(t); !strings.Contains(reason, "too many peers") {
			t.Errorf("our node says: %q", reason)
		}
	})
	t.Run("we stop", func(t *testing.T) {
		node, server, _ := pair(t, 3)
		node.Interrupt()
		incident(t, server, "drop", node.ip, "client quitting")
		if code := node.Exited(startup); code != 0 {
			t.Errorf("exit %d", code)
		}
	})
	t.Run("we die", func(t *testing.T) {
		node, server, _ := pair(t, 4)
		node.Kill()
		incident(t, server, "drop", node.ip, "")
	})
	t.Run("it comes back", func(t *testing.T) {
		key := genKey(t)
		server, joined := kad(t, "127.139.5.1", p2p.Config{PrivateKey: key})
		node := startRLPx(t, "127.139.5.2", staticNodes(server.Self())...)
		next(t, joined)
		node.peerUp(t, server.IP.String())
		server.Stop()
		node.peerDown(t)
		again, joined := kad(t, "127.139.5.1", p2p.Config{PrivateKey: key})
		begin := time.Now()
		select {
		case <-joined:
			t.Logf("our node is back %.1f s after its static peer", time.Since(begin).Seconds())
		case <-time.After(2 * time.Minute):
			t.Errorf("our node does not come back: %v", again.Incidents(""))
		}
	})
}

// TestSilentStreams: whoever opens streams and says nothing is closed, after RLPx's five seconds, and does not keep a peer out.
func TestSilentStreams(t *testing.T) {
	t.Parallel()
	node := startRLPx(t, "127.139.10.1")
	endpoint := netip.AddrPortFrom(netip.MustParseAddr(node.ip), gethnet.TCPPort)
	var silent []net.Conn
	begin := time.Now()
	for range 200 {
		fd, err := (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP("127.139.10.2")}}).Dial("tcp", endpoint.String())
		if err != nil {
			t.Fatal(err)
		}
		defer fd.Close()
		silent = append(silent, fd)
	}
	server, joined := kad(t, "127.139.10.3", p2p.Config{})
	server.AddPeer(node.url)
	next(t, joined)
	for i, fd := range silent {
		fd.SetReadDeadline(begin.Add(startup))
		if _, err := fd.Read(make([]byte, 1)); err == nil {
			t.Fatalf("stream %d: it talks to who says nothing", i)
		} else if timeout, ok := err.(net.Error); ok && timeout.Timeout() {
			t.Fatalf("stream %d is open after %v", i, startup)
		}
	}
	t.Logf("200 silent streams were closed within %.1f s", time.Since(begin).Seconds())
}

// TestADeadStaticNodeIsLeftAlone: go-ethereum dials one every 35 s for ever; we wait longer each time. Both count from the first dial.
func TestADeadStaticNodeIsLeftAlone(t *testing.T) {
	t.Parallel()
	const most = 2
	listener, err := net.Listen("tcp", "127.139.11.1:30303")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	dials, over := map[string][]time.Time{}, make(chan struct{})
	go func() { // listening before they dial, so that no dial is noted late
		defer close(over)
		for {
			stream, err := listener.Accept()
			if err != nil {
				return
			}
			from, _, _ := net.SplitHostPort(stream.RemoteAddr().String())
			dials[from] = append(dials[from], time.Now())
			stream.(*net.TCPConn).SetLinger(0)
			stream.Close()
		}
	}()
	gone := enodeOf(&genKey(t).PublicKey, "127.139.11.1")
	node := startRLPx(t, "127.139.11.2", staticNodes(gone)...)
	server, _ := kad(t, "127.139.11.3", p2p.Config{})
	server.AddPeer(gone)
	time.Sleep(redial + redial/2) // long enough for a second dial, too short for a third
	listener.Close()
	<-over
	for who, ip := range map[string]string{"go-ethereum": server.IP.String(), "kadwire": node.ip} {
		var gaps []string
		for i := 1; i < len(dials[ip]); i++ {
			gap := dials[ip][i].Sub(dials[ip][i-1])
			gaps = append(gaps, fmt.Sprintf("%.1f s", gap.Seconds()))
			if gap < redial-lateness {
				t.Errorf("%s dials who is not there twice within %.1f s", who, gap.Seconds())
			}
		}
		t.Logf("%s: %d dials in %v, after %v", who, len(dials[ip]), redial+redial/2, gaps)
		if n := len(dials[ip]); n < 2 || n > most {
			t.Errorf("%s: %d dials", who, n)
		}
	}
}
