package tendermint

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cometbft/cometbft/p2p"

	"kadwire/interop/harness"
	"kadwire/interop/tendermint/comet"
)

var testChannel = []byte{comet.TestChannel}

// packet is CometBFT's largest payload of one packet.
const packet = 1024

// everySize has each length up to more than two packets, those around ten, 64 and 1,000 packets, 1 MB and 20 MB. The protobuf around
// them adds two to five bytes, so a message fills its last packet to each degree.
func everySize() (all []int) {
	for size := range 2*packet + 10 {
		all = append(all, size)
	}
	for _, packets := range []int{10, 64, 1000} {
		for off := -6; off <= 2; off++ {
			all = append(all, packets*packet+off)
		}
	}
	return append(all, 1_000_000, 1<<20, 20_000_000)
}

// TestControlCometBFTEchoesItself is CometBFT against CometBFT: if this fails the harness is wrong, not kadwire.
func TestControlCometBFTEchoesItself(t *testing.T) {
	t.Parallel()
	echoing := start(t, comet.Config{Listen: "127.41.1.1:26656", Network: network, Moniker: "echo", OnMessage: echo})
	onMessage, echoes := collect()
	sending := start(t, comet.Config{Listen: "127.41.1.2:26656", Network: network, Moniker: "send", OnMessage: onMessage})
	if err := sending.Dial(echoing.Address.String()); err != nil {
		t.Fatal(err)
	}
	checkEcho(t, nextPeer(t, sending, startup), testChannel, randomSizes(rand.New(rand.NewPCG(1, 1)), 300, 1<<20), echoes)
}

// TestWeDialCometBFTEverySize: kadwire-wire dials a CometBFT switch, sends, and checks every echo itself.
func TestWeDialCometBFTEverySize(t *testing.T) {
	echoing := start(t, comet.Config{Listen: "127.41.2.1:26656", Network: network, Moniker: "echo", OnMessage: echo, Rate: unlimited})
	sizes := everySize()
	report := echoed(t, dialPeer(t, echoing.Address.String(), "echo-check", "--sizes", list(sizes)), 2*time.Minute, len(sizes))
	t.Logf("%d messages, %.1f MB, echoed in %.1f s", len(sizes), report.Number("bytes")/1e6, report.Number("seconds"))
	info := nextPeer(t, echoing, startup).NodeInfo().(p2p.DefaultNodeInfo)
	if info.Moniker != "mconn_peer" || info.Network != network {
		t.Errorf("CometBFT reads our NodeInfo as %+v", info)
	}
}

// TestCometBFTDialsUsEverySize: a CometBFT switch dials kadwire-wire, sends, and checks every echo.
func TestCometBFTDialsUsEverySize(t *testing.T) {
	_, address := startPeer(t, "127.41.3.1:26656", "echo")
	onMessage, echoes := collect()
	sending := start(t, comet.Config{Listen: "127.41.3.2:26656", Network: network, Moniker: "send", OnMessage: onMessage, Rate: unlimited})
	if err := sending.Dial(address); err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	checkEcho(t, nextPeer(t, sending, startup), testChannel, everySize(), echoes)
	t.Logf("%d messages echoed in %.1f s", len(everySize()), time.Since(begin).Seconds())
}

// TestRandomSizesAtDefaultRates: 300 messages of 1 B … 1 MiB at CometBFT's 5 MB/s, limited by both sides, in both directions.
func TestRandomSizesAtDefaultRates(t *testing.T) {
	t.Parallel()
	seed := uint64(time.Now().Unix())
	t.Logf("seed %d", seed)
	_, address := startPeer(t, "127.41.4.1:26656", "echo", "--rate", "5120000")
	onMessage, echoes := collect()
	sending := start(t, comet.Config{Listen: "127.41.4.2:26656", Network: network, Moniker: "send", OnMessage: onMessage})
	if err := sending.Dial(address); err != nil {
		t.Fatal(err)
	}
	checkEcho(t, nextPeer(t, sending, startup), testChannel, randomSizes(rand.New(rand.NewPCG(seed, 0)), 300, 1<<20), echoes)

	echoing := start(t, comet.Config{Listen: "127.41.4.3:26656", Network: network, Moniker: "echo", OnMessage: echo})
	ours := dialPeer(t, echoing.Address.String(), "echo-check", "--rate", "5120000", "--count", "300", "--seed", fmt.Sprint(seed))
	echoed(t, ours, 2*time.Minute, 300)
}

// TestTwentyMegabytesAtDefaultRates: one message at 5 MB/s takes four seconds each way: no rate is exceeded, and nobody gives up.
func TestTwentyMegabytesAtDefaultRates(t *testing.T) {
	t.Parallel()
	const bytes, rate = 20_000_000, 5_120_000
	atLeast := time.Duration(float64(bytes)/rate*0.9*float64(time.Second)) * 2
	for name, rate := range map[string]int{"both limited": rate, "CometBFT limited": 0} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			echoing := start(t, comet.Config{Listen: "127.41.5.1:0", Network: network, Moniker: "echo", OnMessage: echo})
			begin := time.Now()
			ours := dialPeer(t, echoing.Address.String(), "echo-check", "--rate", fmt.Sprint(rate), "--sizes", fmt.Sprint(bytes))
			echoed(t, ours, 2*time.Minute, 1)
			if took := time.Since(begin); took < atLeast {
				t.Errorf("took %v, want %v and little more", took, atLeast)
			}
		})
	}
	t.Run("ours limited", func(t *testing.T) {
		t.Parallel()
		_, address := startPeer(t, "127.41.5.2:26656", "echo", "--rate", fmt.Sprint(rate))
		onMessage, echoes := collect()
		sending := start(t, comet.Config{Listen: "127.41.5.3:26656", Network: network, Moniker: "send", OnMessage: onMessage, Rate: unlimited})
		if err := sending.Dial(address); err != nil {
			t.Fatal(err)
		}
		begin := time.Now()
		checkEcho(t, nextPeer(t, sending, startup), testChannel, []int{bytes}, echoes)
		if took := time.Since(begin); took < atLeast {
			t.Errorf("took %v, want %v and little more", took, atLeast)
		}
	})
}

// nodeChannels are those of a CometBFT node, with their priorities.
var nodeChannels = []comet.Channel{
	{ID: 0x00, Priority: 1}, {ID: 0x20, Priority: 6}, {ID: 0x21, Priority: 10}, {ID: 0x22, Priority: 7}, {ID: 0x23, Priority: 1},
	{ID: 0x30, Priority: 5}, {ID: 0x38, Priority: 6}, {ID: 0x40, Priority: 5}, {ID: 0x60, Priority: 5}, {ID: 0x61, Priority: 3},
}

// TestTenChannelsAtOnce: messages of ten channels interleave by their priorities, and each channel keeps its order and content.
func TestTenChannelsAtOnce(t *testing.T) {
	const each = 100
	var ids []byte
	var flags []string
	for _, channel := range nodeChannels {
		ids = append(ids, channel.ID)
		flags = append(flags, fmt.Sprintf("%#x:%d", channel.ID, channel.Priority))
	}
	flag := strings.Join(flags, ",")
	echoing := start(t, comet.Config{Listen: "127.44.1.1:26656", Network: network, Moniker: "echo", Channels: nodeChannels, OnMessage: echo, Rate: unlimited})
	ours := dialPeer(t, echoing.Address.String(), "echo-check", "--channels", flag, "--count", fmt.Sprint(each), "--max", "200000", "--seed", "10")
	report := echoed(t, ours, 2*time.Minute, each*len(ids))
	t.Logf("%d messages, %.1f MB, echoed in %.1f s", each*len(ids), report.Number("bytes")/1e6, report.Number("seconds"))

	_, address := startPeer(t, "127.44.1.2:26656", "echo", "--channels", flag)
	onMessage, echoes := collect()
	sending := start(t, comet.Config{Listen: "127.44.1.3:26656", Network: network, Moniker: "send", Channels: nodeChannels, OnMessage: onMessage, Rate: unlimited})
	if err := sending.Dial(address); err != nil {
		t.Fatal(err)
	}
	checkEcho(t, nextPeer(t, sending, startup), ids, randomSizes(rand.New(rand.NewPCG(10, 0)), each, 200_000), echoes)
}

// TestPrioritiesBite: one channel is flooded, and what we say on one of ten times its priority overtakes it on the way to CometBFT. It is
// counted in messages, whatever time they take: when the last urgent one has come, about a tenth as many of the others have. With equal
// priorities they come in turns. In the end all have come.
func TestPrioritiesBite(t *testing.T) {
	const each, size, urgent, other = 60, 20_000, byte(0x31), comet.TestChannel
	others := func(ip string, priority int) int {
		var heard [2]int // on the one connection's receive task
		done := make(chan int, 1)
		channels := []comet.Channel{{ID: other, Priority: 1}, {ID: urgent, Priority: priority}}
		listening := start(t, comet.Config{Listen: ip + ":26656", Network: network, Moniker: "echo", Channels: channels, Rate: unlimited,
			OnMessage: func(from p2p.Peer, channel byte, content []byte) {
				if heard[channel-other]++; channel == urgent && heard[1] == each {
					done <- heard[0]
				}
				echo(from, channel, content)
			}})
		ours := dialPeer(t, listening.Address.String(), "echo-check", "--channels", fmt.Sprintf("%#x:1,%#x:%d", other, urgent, priority),
			"--sizes", list(slices.Repeat([]int{size}, each)), "--rate", "1000000")
		echoed(t, ours, 2*time.Minute, 2*each)
		return <-done
	}
	overtaken, inTurns := others("127.146.1.1", 10), others("127.146.1.2", 1)
	t.Logf("when %d urgent messages had come, so had %d others; %d with the same priority", each, overtaken, inTurns)
	if overtaken > each/4 {
		t.Errorf("%d others came before the last of %d urgent messages, want about %d", overtaken, each, each/10)
	}
	if inTurns < each*3/4 {
		t.Errorf("%d others came before the last of %d of the same priority, want about as many", inTurns, each)
	}
}

// crowd is how many peers there are at once.
const crowd = 24

// TestTwentyFourSwitchesAtOneOfOurs: each has its messages back, whatever the others send.
func TestTwentyFourSwitchesAtOneOfOurs(t *testing.T) {
	_, address := startPeer(t, "127.44.2.1:26656", "echo")
	faults := make(chan error, crowd)
	for i := range crowd {
		onMessage, echoes := collect()
		s := start(t, comet.Config{Listen: fmt.Sprintf("127.44.2.%d:26656", 10+i), Network: network, Moniker: "send", OnMessage: onMessage, Rate: unlimited})
		go func() {
			if err := s.Dial(address); err != nil {
				faults <- fmt.Errorf("switch %d: %w", i, err)
				return
			}
			faults <- echoFault(<-s.Joined(), testChannel, randomSizes(rand.New(rand.NewPCG(uint64(i), 0)), 60, 1<<17), echoes)
		}()
	}
	for range crowd {
		if err := <-faults; err != nil {
			t.Error(err)
		}
	}
}

// TestTwentyFourOfOursAtOneSwitch is the reverse.
func TestTwentyFourOfOursAtOneSwitch(t *testing.T) {
	echoing := start(t, comet.Config{Listen: "127.44.3.1:26656", Network: network, Moniker: "echo", OnMessage: echo, Rate: unlimited})
	var ours []*harness.Process
	for i := range crowd {
		ours = append(ours, dialPeer(t, echoing.Address.String(), "echo-check", "--count", "60", "--max", "131072", "--seed", fmt.Sprint(i)))
	}
	for _, p := range ours {
		echoed(t, p, 2*time.Minute, 60)
	}
}

// TestTwentyFourSwitchesAtANode: `kadwire node` has them all as peers, and keeps them.
func TestTwentyFourSwitchesAtANode(t *testing.T) {
	node, mconn := startNode(t, "127.44.4.1", network)
	var switches []*comet.Switch
	for i := range crowd {
		switches = append(switches, start(t, comet.Config{Listen: fmt.Sprintf("127.44.4.%d:26656", 10+i), Network: network, Moniker: fmt.Sprintf("comet%d", i)}))
	}
	for _, s := range switches {
		if err := s.Dial(mconn); err != nil {
			t.Error(err)
		}
	}
	monikers := map[string]bool{}
	waitUntil(t, startup, "all are peers", func() bool {
		for _, event := range node.Events() {
			if event.Text("event") == "peer_up" {
				monikers[event.Text("moniker")] = true
			}
		}
		return len(monikers) == crowd
	})
	time.Sleep(time.Second)
	for _, event := range node.Events() {
		if event.Text("event") == "peer_down" {
			t.Errorf("it lost a peer: %v", event)
		}
	}
	for i, s := range switches {
		if n := len(s.Connected()); n != 1 {
			t.Errorf("switch %d has %d peers", i, n)
		}
	}
}
