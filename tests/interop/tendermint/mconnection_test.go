// Package tendermint shows kadwire among real CometBFT switches. Every scenario has 127.x addresses of its own:
//
//	127.41 MConnection    127.42 refusals    127.43 PEX with a node    127.100–127.180 crawled networks
package tendermint

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/cometbft/cometbft/p2p"

	"kadwire/interop/harness"
	"kadwire/interop/tendermint/comet"
)

const (
	startup  = 20 * time.Second
	network  = "interop-test"
	messages = 1000
	largest  = 1 << 20
)

// sizes are 1,000 message lengths from 1 B to 1 MiB, as many of each magnitude, in an order given by the seed.
func sizes(random *rand.Rand) []int {
	all := make([]int, messages)
	for i := range all {
		all[i] = int(math.Round(math.Pow(largest, float64(i)/(messages-1))))
	}
	random.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	return all
}

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

// checkEcho sends 1,000 messages of 1 B … 1 MiB through a CometBFT switch and wants each back, in order, byte for byte.
func checkEcho(t *testing.T, peer p2p.Peer, echoes <-chan []byte) {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	content := make([]byte, largest)
	for i := range content {
		content[i] = byte(random.Uint32())
	}
	all := sizes(random)
	message := func(i int) []byte { return content[largest-all[i]:] }
	begin := time.Now()
	refused := make(chan int, 1)
	go func() {
		for i := range all {
			if !comet.Send(peer, message(i)) {
				refused <- i
				return
			}
		}
	}()
	total := 0
	for i := range all {
		select {
		case got := <-echoes:
			if !bytes.Equal(got, message(i)) {
				t.Fatalf("message %d of %d B came back as another one of %d B", i, all[i], len(got))
			}
			total += len(got)
		case at := <-refused:
			t.Fatalf("CometBFT could not send message %d of %d B within 10 s", at, all[at])
		case <-time.After(60 * time.Second):
			t.Fatalf("message %d of %d B did not come back within 60 s", i, all[i])
		}
	}
	t.Logf("%d messages, %.1f MB, echoed in %.1f s", messages, float64(total)/1e6, time.Since(begin).Seconds())
}

// collect makes an OnMessage that hands the messages over, in order.
func collect() (func(p2p.Peer, []byte), <-chan []byte) {
	got := make(chan []byte, messages)
	return func(_ p2p.Peer, message []byte) { got <- append([]byte(nil), message...) }, got
}

// TestControl is CometBFT against CometBFT: if this fails the harness is wrong, not kadwire.
func TestControlCometBFTEchoesItself(t *testing.T) {
	echoing := start(t, comet.Config{Listen: "127.41.1.1:26656", Network: network, Moniker: "echo", OnMessage: echo})
	onMessage, echoes := collect()
	sending := start(t, comet.Config{Listen: "127.41.1.2:26656", Network: network, Moniker: "send", OnMessage: onMessage})
	if err := sending.Dial(echoing.Address.String()); err != nil {
		t.Fatal(err)
	}
	checkEcho(t, nextPeer(t, sending, startup), echoes)
}

func echo(from p2p.Peer, message []byte) { comet.Send(from, message) }

// TestWeDialCometBFT: kadwire-wire dials a CometBFT switch, sends, and checks every echo itself.
func TestWeDialCometBFT(t *testing.T) {
	echoing := start(t, comet.Config{Listen: "127.41.2.1:26656", Network: network, Moniker: "echo", OnMessage: echo})
	seed := fmt.Sprint(time.Now().Unix())
	got := harness.Run(t, 3*time.Minute, "mconn_peer dial", harness.MconnPeer(t), "dial", echoing.Address.String(), "--network", network,
		"--mode", "echo-check", "--count", fmt.Sprint(messages), "--min", "1", "--max", fmt.Sprint(largest), "--seed", seed)
	var report harness.Event
	if err := json.Unmarshal([]byte(got.Stdout), &report); got.Code != 0 || err != nil {
		t.Fatalf("exit %d (%v): %s %s", got.Code, err, got.Stdout, got.Stderr)
	}
	if report.Number("echoed") != messages {
		t.Fatalf("echoed %v of %d: %v", report["echoed"], messages, report["fault"])
	}
	t.Logf("seed %s: %d messages, %.1f MB, echoed in %.1f s", seed, messages, report.Number("bytes")/1e6, report.Number("seconds"))
	info := nextPeer(t, echoing, startup).NodeInfo().(p2p.DefaultNodeInfo)
	if info.Moniker != "mconn_peer" || info.Network != network {
		t.Errorf("CometBFT reads our NodeInfo as %+v", info)
	}
}

// TestCometBFTDialsUs: a CometBFT switch dials kadwire-wire, sends, and checks every echo.
func TestCometBFTDialsUs(t *testing.T) {
	echoing := harness.Start(t, "mconn_peer listen", harness.MconnPeer(t), "listen", "--laddr", "127.41.3.1:26656", "--network", network, "--mode", "echo")
	address := echoing.Line(startup)
	onMessage, echoes := collect()
	sending := start(t, comet.Config{Listen: "127.41.3.2:26656", Network: network, Moniker: "send", OnMessage: onMessage})
	if err := sending.Dial(address); err != nil {
		t.Fatal(err)
	}
	checkEcho(t, nextPeer(t, sending, startup), echoes)
}
