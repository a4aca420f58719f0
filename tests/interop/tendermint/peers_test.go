// Package tendermint shows kadwire among real CometBFT peers, v0.38 and v1.0. Every scenario has 127.x addresses of its own:
//
//	127.41 MConnection    127.42 refusals    127.43 PEX with a node    127.44 many peers and channels    127.45 pings and silence
//	127.46 trouble        127.110 home folders        127.111, 127.112 seeds        127.115–127.119 silent sockets
//	127.133 crossed dials
//	127.1–127.214, third byte from 101 on: networks of many switches
package tendermint

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cometbft/cometbft/crypto"
	"github.com/cometbft/cometbft/p2p"

	"kadwire/interop/harness"
	"kadwire/interop/tendermint/comet"
)

const (
	// startup is the longest wait for what takes a moment, unless the machine is very busy.
	startup = time.Minute
	network = "interop-test"
	// unlimited is a rate that nothing reaches, bytes a second.
	unlimited = 1 << 40
)

// start starts a CometBFT switch that is stopped with the test.
func start(t *testing.T, cfg comet.Config) *comet.Switch {
	t.Helper()
	s, err := comet.Start(cfg)
	if err != nil {
		t.Fatalf("CometBFT switch on %s: %v", cfg.Listen, err)
	}
	t.Cleanup(s.Stop)
	return s
}

// startNode starts `kadwire node` on ip and gives its Tendermint address, `id@ip:port`.
func startNode(t *testing.T, ip, chainID string, args ...string) (process *harness.Process, mconn string) {
	t.Helper()
	if !slices.Contains(args, "--datadir") {
		args = append(args, "--datadir", t.TempDir())
	}
	args = append([]string{"node", "--json", "--addr", ip + ":30303", "--laddr", ip + ":26656", "--nat", "extip:" + ip,
		// CometBFT's connections all come from 127.0.0.1.
		"--chain-id", chainID, "--allow-duplicate-ip"}, args...)
	process = harness.Start(t, "node "+ip, harness.Kadwire(t), args...)
	first := process.Until(startup, "listening", func(harness.Event) bool { return true })
	if first.Text("event") != "listening" {
		t.Fatalf("the first line is not of the event listening: %v", first)
	}
	return process, first.Text("mconn")
}

// startPeer starts `mconn_peer listen` and gives its address, `id@ip:port`.
func startPeer(t *testing.T, listen, mode string, args ...string) (process *harness.Process, address string) {
	t.Helper()
	args = append([]string{"listen", "--laddr", listen, "--network", network, "--mode", mode}, args...)
	process = harness.Start(t, "mconn_peer "+listen, harness.MconnPeer(t), args...)
	return process, process.Line(startup)
}

// dialPeer starts `mconn_peer dial`.
func dialPeer(t *testing.T, to, mode string, args ...string) *harness.Process {
	t.Helper()
	args = append([]string{"dial", to, "--network", network, "--mode", mode}, args...)
	return harness.Start(t, "mconn_peer dial", harness.MconnPeer(t), args...)
}

// nextPeer waits for the switch's next peer.
func nextPeer(t *testing.T, s *comet.Switch, within time.Duration) p2p.Peer {
	t.Helper()
	select {
	case peer := <-s.Joined():
		return peer
	case <-time.After(within):
		t.Fatalf("no peer in %v", within)
		return nil
	}
}

// nextGone waits for the end of the switch's next peer, and gives CometBFT's reason.
func nextGone(t *testing.T, s *comet.Switch) (reason string) {
	t.Helper()
	select {
	case reason = <-s.Gone():
		return reason
	case <-time.After(startup):
		t.Fatalf("no peer has gone in %v", startup)
		return ""
	}
}

// waitUntil waits until something holds.
func waitUntil(t *testing.T, within time.Duration, what string, holds func() bool) {
	t.Helper()
	for begin := time.Now(); !holds(); time.Sleep(50 * time.Millisecond) {
		if time.Since(begin) > within {
			t.Fatalf("not after %v: %s", within, what)
		}
	}
}

// keyFile writes a CometBFT identity to a node_key.json.
func keyFile(t *testing.T, key crypto.PrivKey) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "node_key.json")
	if err := comet.SaveKey(key, path); err != nil {
		t.Fatal(err)
	}
	return path
}

// message is one that came, and on which channel.
type message struct {
	channel byte
	content []byte
}

func echo(from p2p.Peer, channel byte, content []byte) { comet.Send(from, channel, content) }

// collect makes an OnMessage that hands the messages over, in order.
func collect() (func(p2p.Peer, byte, []byte), <-chan message) {
	got := make(chan message, 1024)
	return func(_ p2p.Peer, channel byte, content []byte) {
		got <- message{channel, append([]byte(nil), content...)}
	}, got
}

// randomSizes are message lengths from 1 B to largest, as many of each magnitude, in an order given by the seed.
func randomSizes(random *rand.Rand, count, largest int) []int {
	all := make([]int, count)
	for i := range all {
		all[i] = int(math.Round(math.Pow(float64(largest), float64(i)/float64(count-1))))
	}
	random.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	return all
}

// checkEcho sends messages of these sizes through a CometBFT switch, on all the channels at once, and wants each back, in order within its
// channel, byte for byte.
func checkEcho(t *testing.T, peer p2p.Peer, channels []byte, sizes []int, echoes <-chan message) {
	t.Helper()
	if err := echoFault(peer, channels, sizes, echoes); err != nil {
		t.Fatal(err)
	}
}

// echoFault is checkEcho for tasks that are not the test's own.
func echoFault(peer p2p.Peer, channels []byte, sizes []int, echoes <-chan message) error {
	largest := 0
	for _, size := range sizes {
		largest = max(largest, size)
	}
	// Every message begins at another place of the same random bytes.
	const places = 1 << 12
	content := make([]byte, largest+places)
	seed := uint64(time.Now().UnixNano())
	random := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8), byte(seed >> 16), byte(seed >> 24)})
	random.Read(content)
	wanted := func(channel byte, i int) []byte {
		begin := (int(channel)*131 + i) % places
		return content[begin : begin+sizes[i]]
	}
	refused := make(chan error, len(channels))
	for _, channel := range channels {
		go func() {
			for i := range sizes {
				if !comet.Send(peer, channel, wanted(channel, i)) {
					refused <- fmt.Errorf("CometBFT could not send message %d of %d B on %#x within 10 s", i, sizes[i], channel)
					return
				}
			}
		}()
	}
	next := map[byte]int{}
	for range len(channels) * len(sizes) {
		select {
		case got := <-echoes:
			i := next[got.channel]
			next[got.channel]++
			if i >= len(sizes) || !bytes.Equal(got.content, wanted(got.channel, i)) {
				return fmt.Errorf("message %d on %#x came back as another one of %d B", i, got.channel, len(got.content))
			}
		case err := <-refused:
			return err
		case <-time.After(60 * time.Second):
			return fmt.Errorf("no echo within 60 s; so far, by channel: %v", next)
		}
	}
	return nil
}

// echoed waits for the end of an echo check of mconn_peer, and wants all of its messages back.
func echoed(t *testing.T, p *harness.Process, within time.Duration, messages int) harness.Event {
	t.Helper()
	if code := p.Exited(within); code != 0 {
		t.Fatalf("mconn_peer: exit %d: %s", code, strings.Join(p.Said(), "\n"))
	}
	var report harness.Event
	if err := json.Unmarshal([]byte(p.Said()[0]), &report); err != nil {
		t.Fatal(err)
	}
	if int(report.Number("echoed")) != messages {
		t.Fatalf("echoed %v of %d: %v", report["echoed"], messages, report["fault"])
	}
	return report
}

// list writes numbers for a flag.
func list(numbers []int) string {
	return strings.Trim(strings.ReplaceAll(fmt.Sprint(numbers), " ", ","), "[]")
}
