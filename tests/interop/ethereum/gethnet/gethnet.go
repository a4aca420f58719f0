// Package gethnet runs real go-ethereum discv4 nodes, each on its own 127.x.y.z address:
// one of them, or a network large enough to be crawled.
package gethnet

import (
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"time"

	"github.com/ethereum/go-ethereum/crypto"
	"github.com/ethereum/go-ethereum/log"
	"github.com/ethereum/go-ethereum/p2p/discover"
	"github.com/ethereum/go-ethereum/p2p/enode"
	"github.com/ethereum/go-ethereum/p2p/enr"
)

// Node is one go-ethereum discv4 node.
type Node struct {
	*discover.UDPv4
	// Local is the node's own record, to add pairs to.
	Local *enode.LocalNode
	db    *enode.DB
}

// Config says how a node behaves; zero values are go-ethereum's defaults.
type Config struct {
	Bootnodes             []*enode.Node
	Refresh, PingInterval time.Duration
	// Conn wraps the socket, to count or to drop packets.
	Conn func(*net.UDPConn) discover.UDPConn
}

// Quiet keeps go-ethereum's log to errors.
func Quiet() {
	log.SetDefault(log.NewLogger(log.NewTerminalHandlerWithLevel(os.Stderr, slog.LevelError, false)))
}

// Start starts one node on ip:port (port 0: any).
func Start(ip netip.Addr, port int, cfg Config) (*Node, error) {
	socket, err := net.ListenUDP("udp4", &net.UDPAddr{IP: ip.AsSlice(), Port: port})
	if err != nil {
		return nil, err
	}
	port = socket.LocalAddr().(*net.UDPAddr).Port
	key, err := crypto.GenerateKey()
	if err != nil {
		return nil, err
	}
	db, err := enode.OpenDB("")
	if err != nil {
		return nil, err
	}
	local := enode.NewLocalNode(db, key)
	local.SetStaticIP(ip.AsSlice())
	local.SetFallbackUDP(port)
	local.Set(enr.TCP(port))
	var conn discover.UDPConn = socket
	if cfg.Conn != nil {
		conn = cfg.Conn(socket)
	}
	udp, err := discover.ListenV4(conn, local, discover.Config{PrivateKey: key, Bootnodes: cfg.Bootnodes, RefreshInterval: cfg.Refresh, PingInterval: cfg.PingInterval})
	if err != nil {
		return nil, err
	}
	return &Node{UDPv4: udp, Local: local, db: db}, nil
}

// Stop ends the node.
func (n *Node) Stop() {
	n.UDPv4.Close()
	n.db.Close()
}

// Live counts the nodes of the table whose liveness the node has checked.
func (n *Node) Live() (all, live int) {
	for _, bucket := range n.TableBuckets() {
		for _, entry := range bucket {
			all++
			if entry.Live {
				live++
			}
		}
	}
	return all, live
}

// Network is many nodes in this process.
type Network struct {
	Nodes     []*Node
	Bootnodes []*enode.Node
}

// NetworkConfig says how many nodes, where, and how fast they start.
type NetworkConfig struct {
	Config
	Nodes int
	// Base: node i listens on Base + 1 + i.
	Base netip.Addr
	Port int
	// Boot is how many of the first nodes are everybody's bootnodes.
	Boot int
	// PerSecond is how many nodes start in a second (0: as fast as they can).
	PerSecond float64
}

// StartNetwork starts the nodes one after another.
func StartNetwork(cfg NetworkConfig) (*Network, error) {
	network := &Network{}
	start := time.Now()
	for i := range cfg.Nodes {
		one := cfg.Config
		one.Bootnodes = append(append([]*enode.Node(nil), cfg.Bootnodes...), network.Bootnodes...)
		node, err := Start(Offset(cfg.Base, 1+i), cfg.Port, one)
		if err != nil {
			network.Stop()
			return nil, fmt.Errorf("node %d: %w", i, err)
		}
		network.Nodes = append(network.Nodes, node)
		if i < cfg.Boot {
			network.Bootnodes = append(network.Bootnodes, node.Self())
		}
		if cfg.PerSecond > 0 {
			time.Sleep(time.Until(start.Add(time.Duration(float64(i) / cfg.PerSecond * 1e9))))
		}
	}
	return network, nil
}

// namers is how many nodes must name another before it counts as one that can be found. A node that only one or two name may be gone from
// them a moment later: go-ethereum forgets whom it has checked less than three times when one check is missed, for a busy machine, say.
const namers = 3

// Visible counts the nodes that somebody who only asks can find from the bootnodes on, whenever he comes: go-ethereum names nobody whose
// liveness it has not checked itself, one node every 0–3 s, so this takes a while to become all of them.
func (n *Network) Visible() int {
	named := n.NamedBy()
	byID := map[enode.ID]*Node{}
	for _, node := range n.Nodes {
		byID[node.Self().ID()] = node
	}
	seen := map[enode.ID]bool{}
	var todo []enode.ID
	see := func(id enode.ID) {
		if !seen[id] && byID[id] != nil && len(named[id]) >= min(namers, len(n.Nodes)-1) {
			seen[id] = true
			todo = append(todo, id)
		}
	}
	for _, b := range n.Bootnodes {
		see(b.ID())
	}
	for len(todo) > 0 {
		id := todo[0]
		todo = todo[1:]
		for _, bucket := range byID[id].TableBuckets() {
			for _, entry := range bucket {
				if entry.Live {
					see(entry.Node.ID())
				}
			}
		}
	}
	return len(seen)
}

// NamedBy gives the places of the nodes that tell of each node now: those that have checked it.
func (n *Network) NamedBy() map[enode.ID][]int {
	named := map[enode.ID][]int{}
	for i, node := range n.Nodes {
		for _, bucket := range node.TableBuckets() {
			for _, entry := range bucket {
				if entry.Live {
					named[entry.Node.ID()] = append(named[entry.Node.ID()], i)
				}
			}
		}
	}
	return named
}

// Stop ends every node.
func (n *Network) Stop() {
	for _, node := range n.Nodes {
		node.Stop()
	}
}

// Offset is the IPv4 address d after ip.
func Offset(ip netip.Addr, d int) netip.Addr {
	b := ip.As4()
	w := uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3])
	w += uint32(d)
	return netip.AddrFrom4([4]byte{byte(w >> 24), byte(w >> 16), byte(w >> 8), byte(w)})
}
