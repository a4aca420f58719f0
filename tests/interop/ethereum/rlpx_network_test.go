package ethereum

import (
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/p2p"
	"github.com/ethereum/go-ethereum/p2p/enode"

	"kadwire/interop/ethereum/gethnet"
	"kadwire/interop/harness"
)

// The network of fifty: 25 go-ethereum p2p.Servers with discovery, in two processes, and 25 of ours.
const (
	geths, geths2 = 17, 8 // the second process is killed as one
	kadwires      = 25
	killed        = geths2 + 9
	// everyone is how many peers each may have, go-ethereum's ratio how many of them it dials itself: go-ethereum looks for peers until it
	// has dialed MaxPeers / DialRatio, by default a third, and leaves the other places to those who dial it. So 4 dialed peers are the
	// target of each, and fifty nodes that dial 4 find 50 × 8 places.
	everyone = 12
	target   = everyone / 3
	// redial is how long go-ethereum, and we, leave a node alone after having dialed it.
	redial = 35 * time.Second
	// lateness is by how much a busy machine may be late to note a dial.
	lateness = 3 * time.Second
)

// serversArg makes this test binary a process of p2p.Servers instead, which can be killed.
const serversArg = "p2p-servers"

// servers says which p2p.Servers a process has.
type servers struct {
	First string // the others follow
	Count int
	Boot  string
}

// runServers starts the servers, and prints what happens and, four times a second, who has how many peers.
func runServers(config string) error {
	var s servers
	if err := json.Unmarshal([]byte(config), &s); err != nil {
		return err
	}
	var printing sync.Mutex
	out := json.NewEncoder(os.Stdout)
	printLine := func(line map[string]any) {
		printing.Lock()
		defer printing.Unlock()
		out.Encode(line)
	}
	boot, err := enode.Parse(enode.ValidSchemes, s.Boot)
	if err != nil {
		return err
	}
	var all []*gethnet.Server
	for i := range s.Count {
		ip := gethnet.Offset(netip.MustParseAddr(s.First), i)
		kad, _ := demo("kad", 1)
		kad.Run = idle
		server, err := gethnet.StartServer(ip, gethnet.ServerConfig{
			Config: p2p.Config{MaxPeers: everyone, DiscoveryV4: true, BootstrapNodes: []*enode.Node{boot}, Protocols: []p2p.Protocol{kad}},
			Heard: func(i gethnet.Incident) {
				printLine(map[string]any{"event": i.What, "node": ip.String(), "who": i.Who, "why": i.Why, "at": i.At.UnixMilli()})
			},
		})
		if err != nil {
			return err
		}
		all = append(all, server)
	}
	for ; ; time.Sleep(250 * time.Millisecond) {
		for _, server := range all {
			dialed, inbound := server.Places()
			printLine(map[string]any{"event": "places", "node": server.IP.String(), "dialed": dialed, "inbound": inbound})
		}
	}
}

// idle is a protocol that has nothing to say.
func idle(_ *p2p.Peer, rw p2p.MsgReadWriter) error {
	for {
		msg, err := rw.ReadMsg()
		if err != nil {
			return err
		}
		msg.Discard()
	}
}

// member is one of the fifty.
type member struct {
	ip   string
	ours bool
	dead bool
}

// fifty is what the test knows of the network.
type fifty struct {
	t       *testing.T
	members []*member
	ours    map[string]*ours
	geth    []*harness.Process
	mu      sync.Mutex
	dials   []dialed
}

// dialed is a dial that somebody saw.
type dialed struct {
	from, to string
	at       time.Time
}

// places gives, by IP, how many peers each has dialed and how many dialed it.
func (n *fifty) places() map[string][2]int {
	now := map[string][2]int{}
	for _, process := range n.geth {
		for _, e := range process.Events() {
			if e.Text("event") == "places" {
				now[e.Text("node")] = [2]int{int(e.Number("dialed")), int(e.Number("inbound"))}
			}
		}
	}
	for ip, node := range n.ours {
		now[ip] = node.places()
	}
	return now
}

// places counts the peers of our node by who dialed. Of two crossed connections the other side's may be the one that stays: it keeps the
// place of ours, which ends in the same moment.
func (o *ours) places() (now [2]int) {
	inbound, ended := map[string]int{}, ""
	for _, e := range o.Events() {
		peer := e.Text("peer")
		switch e.Text("event") {
		case "peer_up":
			direction := 0
			if e.Text("direction") == "inbound" && ended != peer {
				direction = 1
			}
			inbound[peer], ended = direction, ""
		case "peer_down":
			if ended = ""; inbound[peer] == 0 {
				ended = peer
			}
			delete(inbound, peer)
		}
	}
	for _, direction := range inbound {
		now[direction]++
	}
	return now
}

// reached waits until each living node has dialed its target, and says how long go-ethereum's and ours took since begin.
func (n *fifty) reached(begin time.Time, within time.Duration) (geth, own time.Duration) {
	n.t.Helper()
	eventually(n.t, within, fmt.Sprintf("every node has dialed %d peers", target), func() (bool, string) {
		places := n.places()
		short, gethShort, ownShort := []string{}, 0, 0
		for _, m := range n.members {
			if p := places[m.ip]; !m.dead && p[0] < target {
				short = append(short, fmt.Sprintf("%s has %d + %d", m.ip, p[0], p[1]))
				if m.ours {
					ownShort++
				} else {
					gethShort++
				}
			}
		}
		if gethShort == 0 && geth == 0 {
			geth = time.Since(begin)
		}
		if ownShort == 0 && own == 0 {
			own = time.Since(begin)
		}
		return len(short) == 0, strings.Join(short, ", ")
	})
	return geth, own
}

// grave listens where a dead node did, notes who dials, and hangs up.
func (n *fifty) grave(ip string) {
	listener, err := net.Listen("tcp", fmt.Sprintf("%s:%d", ip, gethnet.TCPPort))
	if err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			stream, err := listener.Accept()
			if err != nil {
				return
			}
			from, _, _ := net.SplitHostPort(stream.RemoteAddr().String())
			n.mu.Lock()
			n.dials = append(n.dials, dialed{from, ip, time.Now()})
			n.mu.Unlock()
			stream.(*net.TCPConn).SetLinger(0)
			stream.Close()
		}
	}()
}

// seenDials are all dials that a p2p.Server began or took and those to the dead, by who dialed whom, in order of time.
func (n *fifty) seenDials() map[[2]string][]time.Time {
	n.mu.Lock()
	all := slices.Clone(n.dials)
	n.mu.Unlock()
	own := map[string]bool{}
	for _, m := range n.members {
		own[m.ip] = m.ours
	}
	for _, process := range n.geth {
		for _, e := range process.Events() {
			at := time.UnixMilli(int64(e.Number("at")))
			switch e.Text("event") {
			case "dial":
				all = append(all, dialed{e.Text("node"), e.Text("who"), at})
			case "accept":
				if own[e.Text("who")] { // the others note it where they dial
					all = append(all, dialed{e.Text("who"), e.Text("node"), at})
				}
			}
		}
	}
	slices.SortFunc(all, func(a, b dialed) int { return a.at.Compare(b.at) })
	by := map[[2]string][]time.Time{}
	for _, d := range all {
		// What go-ethereum dials it has noted itself: the grave saw it a second time.
		if pair := [2]string{d.from, d.to}; own[d.from] || len(by[pair]) == 0 || d.at.Sub(by[pair][len(by[pair])-1]) > time.Second {
			by[pair] = append(by[pair], d.at)
		}
	}
	return by
}

func TestNetworkOfFifty(t *testing.T) {
	_, boot, _ := startBootnode(t, "127.140.0.1")
	n := &fifty{t: t, ours: map[string]*ours{}}
	begin := time.Now()
	for i, count := range []int{geths, geths2} {
		first := fmt.Sprintf("127.140.%d.1", 1+i)
		config, err := json.Marshal(servers{First: first, Count: count, Boot: boot.URLv4()})
		if err != nil {
			t.Fatal(err)
		}
		self, err := os.Executable()
		if err != nil {
			t.Fatal(err)
		}
		n.geth = append(n.geth, harness.Start(t, fmt.Sprintf("%d p2p.Servers", count), self, serversArg, string(config)))
		for j := range count {
			n.members = append(n.members, &member{ip: gethnet.Offset(netip.MustParseAddr(first), j).String()})
		}
	}
	for i := range kadwires {
		ip := fmt.Sprintf("127.140.3.%d", 1+i)
		n.ours[ip] = startRLPx(t, ip, "--bootnodes", boot.URLv4(), "--max-peers", fmt.Sprint(everyone))
		n.members = append(n.members, &member{ip: ip, ours: true})
	}
	geth, own := n.reached(begin, 4*time.Minute)
	t.Logf("%d nodes from one bootnode: each has dialed %d; go-ethereum's after %.1f s, ours after %.1f s", len(n.members), target, geth.Seconds(), own.Seconds())
	n.logPlaces()

	// A third of them dies at once: one process of go-ethereum's, nine of ours.
	var dying sync.WaitGroup
	dying.Go(n.geth[1].Kill)
	for _, m := range n.members[geths : geths+killed] {
		m.dead = true
		if m.ours {
			dying.Go(n.ours[m.ip].Kill)
		}
	}
	dying.Wait()
	died := time.Now()
	for _, m := range n.members[geths : geths+killed] {
		n.grave(m.ip)
	}
	geth, own = n.reached(died, 4*time.Minute)
	t.Logf("%d of them killed: each of the others has dialed %d again; go-ethereum's after %.1f s, ours after %.1f s", killed, target, geth.Seconds(), own.Seconds())
	n.logPlaces()

	// Long enough for a second dial of those that nobody waits for. It keeps no other test waiting.
	t.Parallel()
	time.Sleep(time.Until(died.Add(redial + 10*time.Second)))
	n.checkDials()
	for _, m := range n.members {
		if m.ours && !m.dead && !n.ours[m.ip].Running() {
			t.Errorf("%s is gone", m.ip)
		}
	}
}

// logPlaces prints how many peers the living have.
func (n *fifty) logPlaces() {
	n.t.Helper()
	places := n.places()
	for _, own := range []bool{false, true} {
		var dialed, all []int
		for _, m := range n.members {
			if p := places[m.ip]; m.ours == own && !m.dead {
				dialed, all = append(dialed, p[0]), append(all, p[0]+p[1])
				// go-ethereum dials twice as many as it misses, and keeps those that come.
				if p[0]+p[1] > everyone || p[1] > everyone-target {
					n.t.Errorf("%s has dialed %d and was dialed by %d of at most %d", m.ip, p[0], p[1], everyone)
				}
			}
		}
		slices.Sort(dialed)
		slices.Sort(all)
		middle := len(all) / 2
		n.t.Logf("%-11s  %d nodes  dialed %d/%d/%d  peers in all %d/%d/%d (least/median/most)", who(own), len(all),
			dialed[0], dialed[middle], dialed[len(dialed)-1], all[0], all[middle], all[len(all)-1])
	}
}

func who(ours bool) string {
	if ours {
		return "kadwire"
	}
	return "go-ethereum"
}

// checkDials wants 35 s between two dials of one node to another, whatever became of the first.
func (n *fifty) checkDials() {
	n.t.Helper()
	own := map[string]bool{}
	for _, m := range n.members {
		own[m.ip] = m.ours
	}
	count, again, shortest := map[bool]int{}, map[bool]int{}, map[bool]time.Duration{}
	for pair, times := range n.seenDials() {
		kind := own[pair[0]]
		count[kind] += len(times)
		for i := range times[1:] {
			gap := times[i+1].Sub(times[i])
			again[kind]++
			if shortest[kind] == 0 || gap < shortest[kind] {
				shortest[kind] = gap
			}
			if gap < redial-lateness {
				n.t.Errorf("%s (%s) dialed %s twice within %.1f s", pair[0], who(kind), pair[1], gap.Seconds())
			}
		}
	}
	for _, kind := range []bool{false, true} {
		n.t.Logf("%-11s  %d dials seen; %d of them were not the first of that node by this one, the soonest %.1f s after the one before (0: none)",
			who(kind), count[kind], again[kind], shortest[kind].Seconds())
		if count[kind] == 0 {
			n.t.Errorf("no dial of %s was seen", who(kind))
		}
	}
}
