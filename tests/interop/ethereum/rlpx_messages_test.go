package ethereum

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/p2p"
	"github.com/ethereum/go-ethereum/p2p/enode"

	"kadwire/interop/harness"
)

const (
	// largest is RLPx's largest message, bytes before compression: 2^24 − 1.
	largest = 1<<24 - 1
	// incompressible is the largest of random bytes. Its frame holds the code, the length and three bytes for each 64 KiB besides.
	incompressible = largest - 1024
)

// content is what messages are cut from. Every message begins at another place, so that no other one passes for it.
type content struct {
	kinds [3][]byte
	sizes []int
	// back is how many have come back.
	back atomic.Int64
}

const places = 1 << 12

func newContent(seed uint64, sizes []int) *content {
	c := &content{sizes: sizes}
	random := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8), byte(seed >> 16), byte(seed >> 24)})
	noise := make([]byte, largest+places)
	random.Read(noise)
	var text strings.Builder
	for line := 0; text.Len() < len(noise); line++ {
		fmt.Fprintf(&text, "%d: the quick brown fox jumps over the lazy dog\n", line)
	}
	zeros := make([]byte, len(noise))
	for at := 0; at < len(zeros); at += 509 {
		zeros[at] = byte(at/509) | 1
	}
	c.kinds = [3][]byte{noise, []byte(text.String()), zeros}
	return c
}

func (c *content) message(i int) []byte {
	kind := c.kinds[i%len(c.kinds)]
	if c.sizes[i] > incompressible {
		kind = c.kinds[1+i%2]
	}
	begin := i * 131 % places
	return kind[begin : begin+c.sizes[i]]
}

// limits are sizes at which something may change: nothing, one byte, compression's blocks, 16 MB, and the largest of each kind.
var limits = []int{0, 1, 1<<16 - 1, 1 << 16, 1<<16 + 1, 1 << 20, 16_000_000, incompressible, largest}

// spread is a hundred thousand message sizes in random order: most are small, and there are some of every class.
func spread(random *rand.Rand) []int {
	sizes := append([]int(nil), limits...)
	from := 0
	for _, class := range []struct{ count, below int }{
		{90_000, 1 << 10}, {8_000, 1 << 12}, {1_500, 1 << 14}, {350, 1 << 16}, {100, 1 << 18}, {25, 1 << 20}, {10, 1 << 22}, {6, incompressible},
	} {
		for range class.count {
			sizes = append(sizes, from+random.IntN(class.below-from))
		}
		from = class.below
	}
	random.Shuffle(len(sizes), func(i, j int) { sizes[i], sizes[j] = sizes[j], sizes[i] })
	return sizes
}

// echoes sends every message as a request, without waiting, and wants the answers: each once, in order, byte for byte.
func (s *session) echoes(c *content) error {
	done := make(chan error, 2)
	i := 0
	s.onMessage(func(code uint64, payload []byte) error {
		var fault error
		switch {
		case code != response:
			fault = fmt.Errorf("message %d came back with code %d", i, code)
		case i >= len(c.sizes) || !bytes.Equal(payload, c.message(i)):
			fault = fmt.Errorf("message %d came back as another one of %d B", i, len(payload))
		}
		i++
		c.back.Add(1)
		if fault != nil || i == len(c.sizes) {
			done <- fault
		}
		return fault
	})
	go func() {
		for i := range c.sizes {
			if err := s.send(request, c.message(i)); err != nil {
				done <- fmt.Errorf("message %d of %d B cannot be sent: %w", i, c.sizes[i], err)
				return
			}
		}
	}()
	select {
	case err := <-done:
		return err
	case <-s.over:
		return fmt.Errorf("the connection ended after %d answers", i)
	case <-time.After(4 * time.Minute):
		return fmt.Errorf("not all is back after four minutes")
	}
}

func total(sizes []int) (bytes int) {
	for _, size := range sizes {
		bytes += size
	}
	return bytes
}

// TestAHundredThousandMessages of 0 B to RLPx's limit, half of them on a connection that go-ethereum dialed and half on one that we did.
func TestAHundredThousandMessages(t *testing.T) {
	seed := uint64(time.Now().Unix())
	t.Logf("seed %d", seed)
	sizes := spread(rand.New(rand.NewPCG(seed, 0)))
	half := len(sizes) / 2
	halves := [][]int{append(sizes[:half:half], limits...), append(sizes[half:], limits...)}

	for i, who := range []string{"go-ethereum dials", "we dial"} {
		t.Run(who, func(t *testing.T) {
			kad, joined := demo("kad", 1)
			// Protocols that only go-ethereum has must not shift the codes of the shared one.
			other, _ := demo("aaa", 1)
			server := startServer(t, fmt.Sprintf("127.137.1.%d", 1+i), p2p.Config{Protocols: []p2p.Protocol{kad, other}})
			ip := fmt.Sprintf("127.137.2.%d", 1+i)
			if i == 0 {
				server.AddPeer(startRLPx(t, ip).url)
			} else {
				startRLPx(t, ip, staticNodes(server.Self())...)
			}
			s := next(t, joined)
			if s.Inbound() != (i == 1) {
				t.Fatalf("inbound: %v", s.Inbound())
			}
			begin := time.Now()
			if err := s.echoes(newContent(seed, halves[i])); err != nil {
				t.Fatal(err)
			}
			took := time.Since(begin).Seconds()
			megabytes := float64(total(halves[i])) / 1e6
			t.Logf("%d messages, %.0f MB, there and back in %.1f s: %.0f messages/s, %.1f MB/s each way", len(halves[i]), megabytes, took,
				float64(len(halves[i]))/took, megabytes/took)
		})
	}
}

// startProtocols starts the example echo_protocols, which has kad/1 and kae/1, and asks `peers` so many questions on both.
func startProtocols(t *testing.T, ip string, questions int, peers ...*enode.Node) (*harness.Process, *enode.Node) {
	t.Helper()
	args := []string{ip + ":30303", fmt.Sprint(questions)}
	for _, peer := range peers {
		args = append(args, peer.URLv4())
	}
	node := harness.Start(t, "echo_protocols "+ip, harness.EchoProtocols(t), args...)
	return node, mustParse(t, node.Line(startup))
}

// TestWeAsk: our side sends on two protocols at once, go-ethereum answers, and ours checks order and content.
func TestWeAsk(t *testing.T) {
	const questions = 5000
	kad, joined := demo("kad", 1)
	kae, _ := demo("kae", 1)
	server := startServer(t, "127.137.5.1", p2p.Config{Protocols: []p2p.Protocol{kae, kad}})
	begin := time.Now()
	node, _ := startProtocols(t, "127.137.5.2", questions, server.Self())
	s := next(t, joined)
	all := map[string]bool{}
	for len(all) < 2 {
		select {
		case <-s.over:
			t.Fatalf("our side hung up: %v, %v", all, server.Incidents("drop"))
		default:
		}
		all[node.Line(3*time.Minute)] = true
	}
	for _, name := range []string{"kad", "kae"} {
		if want := fmt.Sprintf("%s: %d answers", name, questions); !all[want] {
			t.Errorf("not %q: %v", want, all)
		}
	}
	t.Logf("2 x %d questions asked and answered in %.1f s", questions, time.Since(begin).Seconds())
}

// TestTwoProtocolsShareOneConnection: each keeps its own codes and order, and a flood on one does not keep the other from its answers: it is
// counted how many messages of the flood come back between a question and its answer.
func TestTwoProtocolsShareOneConnection(t *testing.T) {
	_, url := startProtocols(t, "127.137.3.1", 0)
	kad, floods := demo("kad", 1)
	kae, chats := demo("kae", 1)
	between, _ := demo("kad", 7) // a version that we do not have, of a name that we have
	server := startServer(t, "127.137.3.2", p2p.Config{Protocols: []p2p.Protocol{kae, between, kad}})
	server.AddPeer(url)
	flood, chat := next(t, floods), next(t, chats)
	if flood.Peer != chat.Peer {
		t.Fatal("two connections")
	}

	sizes := make([]int, 80)
	for i := range sizes {
		sizes[i] = 2 << 20
	}
	flooded := make(chan error, 1)
	messages := newContent(1, sizes)
	begin := time.Now()
	go func() { flooded <- flood.echoes(messages) }()

	answered, back := make(chan []byte, 1), make(chan int64, 1)
	chat.onMessage(func(_ uint64, payload []byte) error {
		back <- messages.back.Load()
		answered <- payload
		return nil
	})
	var most int64
	rounds := 0
	for over := false; !over; rounds++ {
		before := messages.back.Load()
		question := fmt.Appendf(nil, "round %d", rounds)
		if err := chat.send(request, question); err != nil {
			t.Fatal(err)
		}
		select {
		case answer := <-answered:
			if !bytes.Equal(answer, question) {
				t.Fatalf("%q is answered with %q", question, answer)
			}
		case <-time.After(time.Minute):
			t.Fatalf("no answer to %q in a minute beside a flood", question)
		}
		most = max(most, <-back-before)
		select {
		case err := <-flooded:
			if err != nil {
				t.Fatal(err)
			}
			over = true
		default:
		}
	}
	t.Logf("beside %d messages, %.0f MB, in %.1f s: %d questions, each answered before %d more of the flood had come back", len(sizes),
		float64(total(sizes))/1e6, time.Since(begin).Seconds(), rounds, most+1)
	if most > int64(len(sizes))/2 {
		t.Errorf("%d of the flood's %d messages came back before one question was answered", most, len(sizes))
	}
}

// TestWhoReadsNoAnswersIsHeldBack: others are served meanwhile, and memory stays small.
func TestWhoReadsNoAnswersIsHeldBack(t *testing.T) {
	node := startRLPx(t, "127.137.4.1")
	deaf := dialRaw(t, "127.137.4.2", node.url, genKey(t))
	deaf.established(kad1)
	sent := make(chan int, 1)
	go func() {
		n, payload := 0, make([]byte, 1<<20)
		rand.NewChaCha8([32]byte{}).Read(payload)
		for ; n < 200; n++ {
			if _, err := deaf.Write(baseLength+request, payload); err != nil {
				break
			}
		}
		sent <- n
	}()
	time.Sleep(2 * time.Second)
	kad, joined := demo("kad", 1)
	server := startServer(t, "127.137.4.3", p2p.Config{Protocols: []p2p.Protocol{kad}})
	server.AddPeer(node.url)
	sizes := make([]int, 1000)
	for i := range sizes {
		sizes[i] = i
	}
	if err := next(t, joined).echoes(newContent(2, sizes)); err != nil {
		t.Errorf("another peer: %v", err)
	}
	if rss := residentMB(t, node.Pid()); rss > 200 {
		t.Errorf("our node has %d MB resident", rss)
	}
	select {
	case n := <-sent:
		if n == 200 {
			t.Error("200 MB were taken from a peer that takes no answer")
		}
	default:
	}
}

// staticNodes are the flags that make our node dial these for ever.
func staticNodes(nodes ...*enode.Node) []string {
	var urls []string
	for _, node := range nodes {
		urls = append(urls, node.URLv4())
	}
	return []string{"--static", strings.Join(urls, ",")}
}

// residentMB is how much memory a process has.
func residentMB(t *testing.T, pid int) int {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(status)) {
		var kB int
		if _, err := fmt.Sscanf(line, "VmRSS: %d kB", &kB); err == nil {
			return kB >> 10
		}
	}
	t.Fatalf("no VmRSS in %s", status)
	return 0
}
