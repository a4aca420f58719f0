package ethereum

import (
	"crypto/ecdsa"
	"crypto/rand"
	"errors"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/crypto"
	"github.com/ethereum/go-ethereum/p2p/discover/v4wire"
	"github.com/ethereum/go-ethereum/p2p/enode"

	"kadwire/interop/harness"
)

// stranger is a node that speaks discv4 packet by packet.
type stranger struct {
	t      *testing.T
	key    *ecdsa.PrivateKey
	socket *net.UDPConn
	to     netip.AddrPort
}

func newStranger(t *testing.T, ip string, to *enode.Node) *stranger {
	t.Helper()
	key, err := crypto.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	socket, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.ParseIP(ip)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { socket.Close() })
	endpoint, ok := to.UDPEndpoint()
	if !ok {
		t.Fatalf("%v has no endpoint", to)
	}
	return &stranger{t, key, socket, endpoint}
}

func (s *stranger) send(datagram []byte) {
	s.t.Helper()
	if _, err := s.socket.WriteToUDPAddrPort(datagram, s.to); err != nil {
		s.t.Fatal(err)
	}
}

func (s *stranger) encode(p v4wire.Packet) (datagram, hash []byte) {
	s.t.Helper()
	datagram, hash, err := v4wire.Encode(s.key, p)
	if err != nil {
		s.t.Fatal(err)
	}
	return datagram, hash
}

func (s *stranger) ping(expiration time.Time) *v4wire.Ping {
	from := s.socket.LocalAddr().(*net.UDPAddr).AddrPort()
	return &v4wire.Ping{Version: 4, From: v4wire.NewEndpoint(from, 0), To: v4wire.NewEndpoint(s.to, 0), Expiration: uint64(expiration.Unix())}
}

// read gives what arrives to seen until that says it is enough; pings are answered on the way.
func (s *stranger) read(within time.Duration, seen func(packet v4wire.Packet, hash []byte) (enough bool)) bool {
	s.t.Helper()
	s.socket.SetReadDeadline(time.Now().Add(within))
	buf := make([]byte, 2048)
	for {
		n, _, err := s.socket.ReadFromUDPAddrPort(buf)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return false
		}
		if err != nil {
			s.t.Fatal(err)
		}
		packet, _, hash, err := v4wire.Decode(buf[:n])
		if err != nil {
			s.t.Fatalf("kadwire sent what go-ethereum cannot read: %v", err)
		}
		if packet.Kind() == v4wire.PingPacket {
			pong, _ := s.encode(&v4wire.Pong{To: v4wire.NewEndpoint(s.to, 0), ReplyTok: hash, Expiration: uint64(time.Now().Add(20 * time.Second).Unix())})
			s.send(pong)
		}
		if seen(packet, hash) {
			return true
		}
	}
}

// answered says whether a pong for the ping with this hash arrives; other packets are passed over.
func (s *stranger) answered(hash []byte, within time.Duration) bool {
	s.t.Helper()
	return s.read(within, func(packet v4wire.Packet, _ []byte) bool {
		pong, ok := packet.(*v4wire.Pong)
		return ok && string(pong.ReplyTok) == string(hash)
	})
}

// isServed pings, up to ten times: a datagram may be lost, or late on a busy machine.
func (s *stranger) isServed() bool {
	for try := range 10 {
		datagram, hash := s.encode(s.ping(time.Now().Add(20*time.Second + time.Duration(try)*time.Second)))
		s.send(datagram)
		if s.answered(hash, 3*time.Second) {
			return true
		}
	}
	return false
}

// rehash makes the hash of a datagram right again after its content was changed.
func rehash(datagram []byte) []byte {
	copy(datagram, crypto.Keccak256(datagram[32:]))
	return datagram
}

// signed is a datagram of any type and any body with a good hash and a good signature.
func (s *stranger) signed(kind byte, body []byte) []byte {
	s.t.Helper()
	datagram := make([]byte, 97, 98+len(body))
	datagram = append(append(datagram, kind), body...)
	signature, err := crypto.Sign(crypto.Keccak256(datagram[97:]), s.key)
	if err != nil {
		s.t.Fatal(err)
	}
	copy(datagram[32:], signature)
	return rehash(datagram)
}

func TestBootnodeSurvivesBadDatagrams(t *testing.T) {
	process, url, _ := startBootnode(t, "127.35.1.1")
	liar := newStranger(t, "127.35.1.2", url)
	honest := newStranger(t, "127.35.1.3", url)
	if !honest.isServed() {
		t.Fatal("a good ping is not answered")
	}
	soon := func() time.Time { return time.Now().Add(20 * time.Second) }
	bad := map[string]func() [][]byte{
		"garbage of every size": func() (all [][]byte) {
			for _, size := range []int{0, 1, 31, 32, 96, 97, 98, 170, 1279, 1280, 1281, 2000, 9000, 65000} {
				datagram := make([]byte, size)
				rand.Read(datagram)
				all = append(all, datagram)
			}
			return all
		},
		"a ping cut at every byte": func() (all [][]byte) {
			whole, _ := liar.encode(liar.ping(soon()))
			for n := range len(whole) {
				all = append(all, whole[:n])
				if n > 98 {
					all = append(all, rehash(append([]byte(nil), whole[:n]...)))
				}
			}
			return all
		},
		"one flipped bit at every byte": func() (all [][]byte) {
			whole, _ := liar.encode(liar.ping(soon()))
			for n := range len(whole) {
				flipped := append([]byte(nil), whole...)
				flipped[n] ^= 1 << (n % 8)
				all = append(all, flipped)
			}
			return all
		},
		"a good hash over a bad signature": func() (all [][]byte) {
			for range 50 {
				datagram, _ := liar.encode(liar.ping(soon()))
				rand.Read(datagram[32:97])
				all = append(all, rehash(datagram))
			}
			return all
		},
		"unknown packet types": func() (all [][]byte) {
			for _, kind := range []byte{0, 7, 66, 255} {
				all = append(all, liar.signed(kind, []byte{0xc0}))
			}
			return all
		},
		"bodies that are no such list": func() (all [][]byte) {
			for kind := byte(1); kind <= 6; kind++ {
				for _, body := range [][]byte{
					nil, {0x80}, {0xc0}, {0xc1}, {0xff}, {0xf8}, {0xf8, 0xff}, {0xf9, 0xff, 0xff},
					{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, // a list of 2^64-1 bytes
					{0xc9, 0xbf, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff},
					{0xc4, 0x04, 0xc0, 0xc0, 0x01}, {0xc2, 0xc0, 0x00},
				} {
					all = append(all, liar.signed(kind, body))
				}
				deep := make([]byte, 1100)
				for i := range deep {
					deep[i] = 0xc1 // a thousand lists inside one another
				}
				all = append(all, liar.signed(kind, deep))
			}
			return all
		},
		"replies to nothing": func() (all [][]byte) {
			for _, p := range []v4wire.Packet{
				&v4wire.Pong{To: v4wire.NewEndpoint(liar.to, 0), ReplyTok: make([]byte, 32), Expiration: uint64(soon().Unix())},
				&v4wire.Neighbors{Expiration: uint64(soon().Unix())},
				&v4wire.ENRResponse{ReplyTok: make([]byte, 32), Record: *url.Record()},
				&v4wire.Findnode{Expiration: uint64(soon().Unix())},
			} {
				if datagram, _, err := v4wire.Encode(liar.key, p); err == nil {
					all = append(all, datagram)
				}
			}
			return all
		},
	}
	for what, make := range bad {
		for _, datagram := range make() {
			liar.send(datagram)
		}
		if !honest.isServed() {
			t.Fatalf("after %s a good ping is not answered any more (running: %v)\n%s", what, process.Running(), process.Stderr())
		}
	}
	if !process.Running() || strings.Contains(process.Stderr(), "panicked") {
		t.Fatalf("the bootnode fell over:\n%s", process.Stderr())
	}
}

func TestBadPingsAreNotAnswered(t *testing.T) {
	t.Parallel()
	_, url, _ := startBootnode(t, "127.35.2.1")
	for what, spoil := range map[string]func(s *stranger) (datagram, hash []byte){
		"an expired ping": func(s *stranger) ([]byte, []byte) {
			return s.encode(s.ping(time.Now().Add(-5 * time.Second)))
		},
		"a ping with a wrong hash": func(s *stranger) ([]byte, []byte) {
			datagram, hash := s.encode(s.ping(time.Now().Add(20 * time.Second)))
			datagram[0] ^= 1
			return datagram, hash
		},
		"a truncated ping": func(s *stranger) ([]byte, []byte) {
			datagram, _ := s.encode(s.ping(time.Now().Add(20 * time.Second)))
			datagram = rehash(datagram[:len(datagram)-3])
			return datagram, datagram[:32]
		},
	} {
		t.Run(what, func(t *testing.T) {
			s := newStranger(t, "127.35.2.2", url)
			datagram, hash := spoil(s)
			s.send(datagram)
			if s.answered(hash, time.Second) {
				t.Error("it was answered")
			}
			if !s.isServed() {
				t.Error("a good ping of the same sender is not answered")
			}
		})
	}
}

func TestCorruptNodeDatabaseIsSetAside(t *testing.T) {
	dir := t.TempDir()
	key, _ := newKey(t)
	first, _, _ := startBootnode(t, "127.35.3.1", "--nodekey", key, "--datadir", dir)
	first.Interrupt()
	if code := first.Exited(startup); code != 0 {
		t.Errorf("SIGINT: exit %d, want 0", code)
	}
	spoiled := spoilDatabases(t, dir)
	if len(spoiled) == 0 {
		t.Fatalf("no database in the data directory")
	}

	second, url, _ := startBootnode(t, "127.35.3.1", "--nodekey", key, "--datadir", dir)
	if !newStranger(t, "127.35.3.2", url).isServed() {
		t.Error("a ping is not answered")
	}
	for _, path := range spoiled {
		if aside, _ := filepath.Glob(path + ".corrupt-*"); len(aside) != 1 {
			t.Errorf("%s was not set aside: %v", path, aside)
		}
	}
	eventually(t, startup, "a warning on stderr", func() (bool, string) { return strings.Contains(second.Stderr(), "corrupt"), second.Stderr() })
}

// spoilDatabases overwrites every SQLite file under dir and gives their paths.
func spoilDatabases(t *testing.T, dir string) (paths []string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range files {
		content, err := os.ReadFile(path)
		if err != nil || !strings.HasPrefix(string(content), "SQLite format 3") {
			continue
		}
		for i := range content {
			content[i] = byte(i * 7)
		}
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		paths = append(paths, path)
	}
	return paths
}

func TestBadFlagsExitWith2AndOneLine(t *testing.T) {
	for _, args := range [][]string{
		{"bootnode", "--addr", "nonsense"},
		{"bootnode", "--no-such-flag"},
		{"bootnode", "--nodekey", "zz"},
		{"bootnode", "--nodekey", strings.Repeat("0", 64)},
		{"bootnode", "--nat", "sideways"},
		{"bootnode", "--netrestrict", "127.0.0.1/99"},
		{"bootnode", "--bootnodes", "enode://abcd@127.0.0.1:1"},
		{"node", "--laddr", "nonsense"},
		{"crawl", "eth", "--bootnodes", "enr:-nope", "--out", "unused"},
		{"crawl", "tendermint", "--seeds", "127.0.0.1:26656", "--chain-id", "x", "--out", "unused"},
		{"crawl", "nowhere"},
		{"no-such-command"},
	} {
		t.Run(strings.Join(args, " "), func(t *testing.T) {
			got := harness.Run(t, startup, "kadwire", harness.Kadwire(t), args...)
			if got.Code != 2 {
				t.Errorf("exit %d, want 2", got.Code)
			}
			if lines := strings.Split(strings.TrimSpace(got.Stderr), "\n"); len(lines) != 1 || lines[0] == "" {
				t.Errorf("stderr has %d lines, want one:\n%s", len(lines), got.Stderr)
			}
			if got.Stdout != "" {
				t.Errorf("stdout: %s", got.Stdout)
			}
		})
	}
}
