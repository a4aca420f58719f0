package ethereum

import (
	"crypto/rand"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/p2p/discover/v4wire"
	"github.com/ethereum/go-ethereum/p2p/enode"

	"kadwire/interop/harness"
)

// sixteen is how many processes of ours get one bootnode and nothing else.
const sixteen = 16

// one is one of the sixteen.
type one struct {
	*harness.Process
	url *enode.Node
	id  string // of its Tendermint side
}

// TestSixteenNodesWithOneBootnode: all find each other by discv4, dial through the ENR's `tm`, hold MConnections, and what one says reaches all.
func TestSixteenNodesWithOneBootnode(t *testing.T) {
	_, boot, _ := startBootnode(t, "127.33.0.1")
	begin := time.Now()
	all := make([]*one, sixteen)
	for i := range all {
		ip := fmt.Sprintf("127.33.1.%d", 1+i)
		all[i] = &one{Process: harness.Start(t, "node "+ip, harness.Kadwire(t), "node", "--json",
			"--addr", ip+":30303", "--laddr", ip+":26656", "--nat", "extip:"+ip,
			"--bootnodes", boot.URLv4(), "--chain-id", "sixteen", "--moniker", fmt.Sprint(i), "--datadir", t.TempDir())}
	}
	for i, node := range all {
		node.readListening(t, fmt.Sprintf("127.33.1.%d:26656", 1+i))
	}

	// MConnections: nobody was told of anybody, so the first can only come through an ENR's `tm`. By then PEX helps.
	eventually(t, 3*time.Minute, "every node has a peer, and all are one network", func() (bool, string) {
		reached := reachable(all)
		return reached == sixteen, fmt.Sprintf("%d of %d are connected", reached, sixteen)
	})
	t.Logf("one network after %.1f s; peers: %v", time.Since(begin).Seconds(), counts(all))

	// Gossip: each hears each once, however it travels. What was put on a connection that gives way to a crossing one is lost, as ADR-062 allows:
	// whose only connection that was hears the next one.
	for _, speaker := range []int{0, sixteen / 2, sixteen - 1} {
		spoken, texts := time.Now(), []string{}
		eventually(t, 2*time.Minute, "everybody else hears it", func() (bool, string) {
			said := fmt.Sprintf("said by %d at %d", speaker, time.Now().UnixNano())
			texts = append(texts, said)
			all[speaker].Write(said)
			deaf := []int{}
			for end := time.Now().Add(10 * time.Second); ; time.Sleep(20 * time.Millisecond) {
				deaf = deaf[:0]
				for i, node := range all {
					if i != speaker && node.heard(said) == 0 {
						deaf = append(deaf, i)
					}
				}
				if len(deaf) == 0 || time.Now().After(end) {
					break
				}
			}
			return len(deaf) == 0, fmt.Sprintf("not heard by %v", deaf)
		})
		t.Logf("what node %d said reached all in %v, the %d. time", speaker, time.Since(spoken).Round(time.Millisecond), len(texts))
		time.Sleep(200 * time.Millisecond)
		for i, node := range all {
			for _, said := range texts {
				if n := node.heard(said); n > 1 || i == speaker && n != 0 {
					t.Errorf("node %d heard %d times what node %d said", i, n, speaker)
				}
			}
		}
	}

	// Discovery: asked by a stranger, each names the fifteen others. A node names only whom it has checked, one every few seconds.
	for i, node := range all {
		asker := newStranger(t, fmt.Sprintf("127.33.2.%d", 1+i), node.url)
		eventually(t, 3*time.Minute, fmt.Sprintf("node %d names the others", i), func() (bool, string) {
			named := asker.findNode()
			missing := []int{}
			for j, other := range all {
				if j != i && !named[other.url.ID()] {
					missing = append(missing, j)
				}
			}
			return len(missing) == 0, fmt.Sprintf("it named %d nodes, not %v", len(named), missing)
		})
	}
	t.Logf("each of the %d tables has all others after %.1f s; peers: %v", sixteen, time.Since(begin).Seconds(), counts(all))
	for _, node := range all {
		if !node.Running() || strings.Contains(node.Stderr(), "panicked") {
			t.Errorf("a node fell over:\n%s", node.Stderr())
		}
	}
}

func (n *one) readListening(t *testing.T, at string) {
	t.Helper()
	first := n.Until(startup, "its first line", func(harness.Event) bool { return true })
	id, mconn, ok := strings.Cut(first.Text("mconn"), "@")
	if first.Text("event") != "listening" || !ok || len(id) != 40 || mconn != at {
		t.Fatalf("the first line is not of the event listening, or its mconn is not <40 hex>@%s: %v", at, first)
	}
	n.id, n.url = id, mustParse(t, first.Text("enode"))
	if record := mustParse(t, first.Text("enr")); record.ID() != n.url.ID() {
		t.Fatalf("enode and ENR are of two nodes: %v", first)
	}
}

// peers are the ids of those that are connected now.
func (n *one) peers() map[string]bool {
	now := map[string]bool{}
	for _, e := range n.Events() {
		switch e.Text("event") {
		case "peer_up":
			now[e.Text("peer")] = true
		case "peer_down":
			delete(now, e.Text("peer"))
		}
	}
	return now
}

// heard counts how often the node printed a message.
func (n *one) heard(message string) (times int) {
	for _, e := range n.Events() {
		if e.Text("event") == "gossip" && e.Text("message") == message {
			times++
		}
	}
	return times
}

// reachable counts the nodes that are connected with the first, over others or not.
func reachable(all []*one) int {
	byID := map[string]*one{}
	for _, node := range all {
		byID[node.id] = node
	}
	seen := map[string]bool{all[0].id: true}
	for todo := []*one{all[0]}; len(todo) > 0; todo = todo[1:] {
		for _, id := range slices.Collect(maps.Keys(todo[0].peers())) {
			if !seen[id] && byID[id] != nil {
				seen[id] = true
				todo = append(todo, byID[id])
			}
		}
	}
	return len(seen)
}

func counts(all []*one) (peers []int) {
	for _, node := range all {
		peers = append(peers, len(node.peers()))
	}
	return peers
}

// findNode proves the stranger's endpoint, asks for the 16 nodes closest to a random key and gives the ids of whom it is told.
func (s *stranger) findNode() map[enode.ID]bool {
	s.t.Helper()
	s.bond()
	var target v4wire.Pubkey
	rand.Read(target[:])
	return s.ask(target)
}

// bond proves the stranger's endpoint: in read it answers the ping that follows the pong, if it is not proven yet.
func (s *stranger) bond() {
	s.t.Helper()
	ping, hash := s.encode(s.ping(time.Now().Add(20 * time.Second)))
	s.send(ping)
	s.answered(hash, time.Second)
	s.read(300*time.Millisecond, func(p v4wire.Packet, _ []byte) bool { return p.Kind() == v4wire.PingPacket })
}

// ask asks for the 16 live nodes closest to the target.
func (s *stranger) ask(target v4wire.Pubkey) map[enode.ID]bool {
	s.t.Helper()
	datagram, _ := s.encode(&v4wire.Findnode{Target: target, Expiration: uint64(time.Now().Add(20 * time.Second).Unix())})
	s.send(datagram)
	named := map[enode.ID]bool{}
	s.read(time.Second, func(p v4wire.Packet, _ []byte) bool {
		if neighbors, ok := p.(*v4wire.Neighbors); ok {
			for _, n := range neighbors.Nodes {
				key, err := v4wire.DecodePubkey(s.key.Curve, n.ID)
				if err != nil {
					s.t.Fatalf("a neighbour has a key that is none: %v", err)
				}
				named[enode.PubkeyToIDV4(key)] = true
			}
		}
		return len(named) >= 16
	})
	return named
}

// eventually waits for something; what it says last explains why it did not happen.
func eventually(t *testing.T, within time.Duration, what string, holds func() (bool, string)) {
	t.Helper()
	for begin := time.Now(); ; time.Sleep(100 * time.Millisecond) {
		done, state := holds()
		if done {
			return
		}
		if time.Since(begin) > within {
			t.Fatalf("not after %v: %s: %s", within, what, state)
		}
	}
}
