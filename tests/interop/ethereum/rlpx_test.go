package ethereum

import (
	"bytes"
	"crypto/ecdsa"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/crypto"
	"github.com/ethereum/go-ethereum/p2p"
	"github.com/ethereum/go-ethereum/p2p/enode"
	"github.com/ethereum/go-ethereum/p2p/rlpx"
	"github.com/ethereum/go-ethereum/rlp"

	"kadwire/interop/ethereum/gethnet"
	"kadwire/interop/harness"
)

// The codes of the demonstration protocol kad/1: a request with any payload, and its answer with the same payload.
const (
	request  = 0
	response = 1
)

// RLPx's base protocol.
const (
	helloMsg      = 0x00
	disconnectMsg = 0x01
	pingMsg       = 0x02
	pongMsg       = 0x03
	// baseLength is where the shared protocols' codes begin.
	baseLength = 0x10
)

// ours is `kadwire node --rlpx`.
type ours struct {
	*harness.Process
	ip  string
	url *enode.Node
}

// startRLPx starts `kadwire node --rlpx` on ip, with port 30303 for UDP and TCP.
func startRLPx(t *testing.T, ip string, args ...string) *ours {
	t.Helper()
	at := fmt.Sprintf("%s:%d", ip, gethnet.TCPPort)
	args = append([]string{"node", "--json", "--rlpx", "--addr", at, "--nat", "extip:" + ip}, args...)
	node := &ours{Process: harness.Start(t, "node "+ip, harness.Kadwire(t), args...), ip: ip}
	first := node.Until(startup, "its first line", func(harness.Event) bool { return true })
	if first.Text("event") != "listening" {
		t.Fatalf("the first line is not of the event listening: %v", first)
	}
	node.url = mustParse(t, first.Text("enode"))
	if endpoint, ok := node.url.TCPEndpoint(); !ok || endpoint.String() != at {
		t.Fatalf("its enode says that it listens for RLPx on %v, want %s: %v", endpoint, at, first)
	}
	return node
}

// startServer starts a go-ethereum p2p.Server that is stopped with the test.
func startServer(t *testing.T, ip string, cfg p2p.Config) *gethnet.Server {
	t.Helper()
	server, err := gethnet.StartServer(netip.MustParseAddr(ip), gethnet.ServerConfig{Config: cfg})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		server.Stop()
		if t.Failed() {
			t.Logf("---- p2p.Server %s: %v", ip, server.Incidents(""))
		}
	})
	return server
}

// genKey is a fresh identity.
func genKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := crypto.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// enodeOf is where a server of ours or theirs listens, by the key it is said to have.
func enodeOf(key *ecdsa.PublicKey, ip string) *enode.Node {
	return enode.NewV4(key, net.ParseIP(ip), gethnet.TCPPort, gethnet.TCPPort)
}

// session is a protocol of a connected peer of a p2p.Server.
type session struct {
	*p2p.Peer
	rw p2p.MsgReadWriter
	// over is closed when the protocol ends.
	over chan struct{}

	mu      sync.Mutex
	receive func(code uint64, payload []byte) error
}

// send sends one message; it waits while the other side takes nothing.
func (s *session) send(code uint64, payload []byte) error {
	return s.rw.WriteMsg(p2p.Msg{Code: code, Size: uint32(len(payload)), Payload: bytes.NewReader(payload)})
}

// onMessage says who gets the messages from now on; an error ends the connection.
func (s *session) onMessage(receive func(code uint64, payload []byte) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.receive = receive
}

// demo makes a protocol of two message codes that answers requests and hands every session over.
func demo(name string, version uint) (p2p.Protocol, <-chan *session) {
	joined := make(chan *session, 256)
	return p2p.Protocol{Name: name, Version: version, Length: 2, Run: func(peer *p2p.Peer, rw p2p.MsgReadWriter) error {
		s := &session{Peer: peer, rw: rw, over: make(chan struct{})}
		defer close(s.over)
		s.receive = func(code uint64, payload []byte) error {
			if code == request {
				return s.send(response, payload)
			}
			return nil
		}
		select {
		case joined <- s:
		default:
			return errors.New("nobody takes the sessions")
		}
		for {
			msg, err := rw.ReadMsg()
			if err != nil {
				return err
			}
			payload := make([]byte, msg.Size)
			if _, err := io.ReadFull(msg.Payload, payload); err != nil {
				return err
			}
			s.mu.Lock()
			receive := s.receive
			s.mu.Unlock()
			if err := receive(msg.Code, payload); err != nil {
				return err
			}
		}
	}}, joined
}

// next waits for the next session.
func next(t *testing.T, joined <-chan *session) *session {
	t.Helper()
	select {
	case s := <-joined:
		return s
	case <-time.After(startup):
		t.Fatalf("no session in %v", startup)
		return nil
	}
}

// hello is RLPx's Hello as go-ethereum's p2p has it.
type hello struct {
	Version    uint64
	Name       string
	Caps       []p2p.Cap
	ListenPort uint64
	ID         []byte
	Rest       []rlp.RawValue `rlp:"tail"`
}

// raw is an RLPx connection with go-ethereum's handshake and frames, on which the test says what it likes.
type raw struct {
	*rlpx.Conn
	t   *testing.T
	key *ecdsa.PrivateKey
}

// dialRaw connects from an address and shakes hands; Hello is still to come.
func dialRaw(t *testing.T, from string, to *enode.Node, key *ecdsa.PrivateKey) *raw {
	t.Helper()
	endpoint, _ := to.TCPEndpoint()
	fd, err := (&net.Dialer{Timeout: startup, LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}).Dial("tcp", endpoint.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { fd.Close() })
	fd.SetDeadline(time.Now().Add(time.Minute))
	conn := rlpx.NewConn(fd, to.Pubkey())
	if _, err := conn.Handshake(key); err != nil {
		t.Fatalf("handshake with %v: %v", endpoint, err)
	}
	return &raw{Conn: conn, t: t, key: key}
}

// hello is what an honest peer with these capabilities says of itself.
func (r *raw) hello(caps ...p2p.Cap) *hello {
	return &hello{Version: 5, Name: "interop/raw", Caps: caps, ID: crypto.FromECDSAPub(&r.key.PublicKey)[1:]}
}

// say sends a message whose payload is the RLP of a value.
func (r *raw) say(code uint64, value any) {
	r.t.Helper()
	payload, err := rlp.EncodeToBytes(value)
	if err != nil {
		r.t.Fatal(err)
	}
	r.sendBytes(code, payload)
}

func (r *raw) sendBytes(code uint64, payload []byte) {
	r.t.Helper()
	if _, err := r.Write(code, payload); err != nil {
		r.t.Fatalf("code %#x, %d B: %v", code, len(payload), err)
	}
}

// next reads a message.
func (r *raw) next() (code uint64, payload []byte, err error) {
	code, payload, _, err = r.Read()
	return code, payload, err
}

// theirHello reads the other side's Hello, which must be the first message.
func (r *raw) theirHello() *hello {
	r.t.Helper()
	code, payload, err := r.next()
	if err != nil || code != helloMsg {
		r.t.Fatalf("the first message is not Hello: code %#x, %x, %v", code, payload, err)
	}
	var h hello
	if err := rlp.DecodeBytes(payload, &h); err != nil {
		r.t.Fatalf("go-ethereum does not decode our Hello %x: %v", payload, err)
	}
	return &h
}

// refusal reads on until the other side says Disconnect, and gives its reason.
func (r *raw) refusal() p2p.DiscReason {
	r.t.Helper()
	reason, ok := r.end()
	if !ok {
		r.t.Fatal("the stream ended without a Disconnect")
	}
	return reason
}

// end reads on until the connection ends, and gives the reason of the Disconnect, if there is one.
func (r *raw) end() (reason p2p.DiscReason, said bool) {
	r.t.Helper()
	for {
		code, payload, err := r.next()
		if timeout, ok := err.(net.Error); ok && timeout.Timeout() {
			r.t.Fatal("the connection does not end")
		}
		if err != nil {
			return 0, false
		}
		if code != disconnectMsg {
			continue
		}
		var list struct{ Reason p2p.DiscReason }
		if err := rlp.DecodeBytes(payload, &list); err != nil {
			r.t.Fatalf("Disconnect with the payload %x: %v", payload, err)
		}
		return list.Reason, true
	}
}

// established says Hello on both sides and switches compression on, as a peer does.
func (r *raw) established(caps ...p2p.Cap) *hello {
	r.t.Helper()
	r.say(helloMsg, r.hello(caps...))
	theirs := r.theirHello()
	r.SetSnappy(true)
	return theirs
}

var kad1 = p2p.Cap{Name: "kad", Version: 1}

func TestDevp2pRlpxPingReadsOurHello(t *testing.T) {
	node := startRLPx(t, "127.136.1.1")
	got := harness.Run(t, time.Minute, "devp2p rlpx ping", harness.Devp2p(t), "rlpx", "ping", node.url.URLv4())
	if got.Code != 0 {
		t.Fatalf("exit %d: %s %s", got.Code, got.Stdout, got.Stderr)
	}
	// It prints the Hello as Go prints a struct: {Version:5 Name:… Caps:[kad/1] ListenPort:0 ID:[4 171 …] Rest:[]}.
	id := strings.Trim(fmt.Sprint(crypto.FromECDSAPub(node.url.Pubkey())[1:]), "[]")
	for _, want := range []string{`^\{Version:5 `, `Name:kadwire/`, `Caps:\[[^]]*kad/1`, `ListenPort:`, `ID:\[` + id + `\]`} {
		if !regexp.MustCompile(want).MatchString(got.Stdout) {
			t.Errorf("our Hello does not match %s: %s", want, got.Stdout)
		}
	}
}

func TestWhatWeSayAndBear(t *testing.T) {
	node := startRLPx(t, "127.136.2.1")
	t.Run("our Hello", func(t *testing.T) {
		h := dialRaw(t, "127.136.2.2", node.url, genKey(t)).theirHello()
		if h.Version != 5 || !strings.HasPrefix(h.Name, "kadwire/") || !bytes.Equal(h.ID, crypto.FromECDSAPub(node.url.Pubkey())[1:]) || len(h.Rest) > 0 {
			t.Errorf("%+v", h)
		}
		if !contained(h.Caps, kad1) {
			t.Errorf("no kad/1 among %v", h.Caps)
		}
	})
	t.Run("a Hello with more items, of a later version, and capabilities we do not know", func(t *testing.T) {
		r := dialRaw(t, "127.136.2.3", node.url, genKey(t))
		h := r.hello(p2p.Cap{Name: "aaa", Version: 9}, p2p.Cap{Name: "kad", Version: 2}, kad1, p2p.Cap{Name: "zzz", Version: 1})
		h.Version, h.ListenPort, h.Rest = 99, 30303, []rlp.RawValue{{0x01}, {0xc2, 0x04, 0x05}}
		r.say(helloMsg, h)
		r.theirHello()
		r.SetSnappy(true)
		checkAnswers(t, r)
	})
	t.Run("a Hello of version 4, which knows no compression", func(t *testing.T) {
		r := dialRaw(t, "127.136.2.4", node.url, genKey(t))
		h := r.hello(kad1)
		h.Version = 4
		r.say(helloMsg, h)
		r.theirHello()
		checkAnswers(t, r)
	})
	t.Run("base messages", func(t *testing.T) {
		r := dialRaw(t, "127.136.2.5", node.url, genKey(t))
		r.established(kad1)
		for code := uint64(pongMsg); code < baseLength; code++ {
			r.say(code, []uint{}) // an unasked-for Pong, and codes without a meaning
		}
		checkAnswers(t, r)
		// A ping's payload does not matter to go-ethereum.
		for _, payload := range [][]byte{{0xc0}, {}, {0x80}} {
			r.sendBytes(pingMsg, payload)
			if code, payload, err := r.next(); err != nil || code != pongMsg || len(payload) > 1 {
				t.Errorf("a ping is answered with %#x, %x, %v", code, payload, err)
			}
		}
	})
}

// checkAnswers wants messages on kad/1 back.
func checkAnswers(t *testing.T, r *raw) {
	t.Helper()
	for _, payload := range [][]byte{{}, []byte("a"), bytes.Repeat([]byte("text "), 20_000)} {
		r.sendBytes(baseLength+request, payload)
		code, answer, err := r.next()
		if err != nil || code != baseLength+response || !bytes.Equal(answer, payload) {
			t.Fatalf("%d B came back as code %#x with %d B: %v", len(payload), code, len(answer), err)
		}
	}
}

func contained(caps []p2p.Cap, wanted p2p.Cap) bool {
	for _, c := range caps {
		if c == wanted {
			return true
		}
	}
	return false
}
