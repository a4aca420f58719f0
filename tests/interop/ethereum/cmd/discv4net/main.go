// discv4net runs N go-ethereum discv4 nodes in one process, as an internet to crawl. When every node can be found by asking from the
// bootnodes on, it prints one JSON line with the bootnodes and all nodes, and it stays up until it is interrupted.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"os/signal"
	"syscall"
	"time"

	"kadwire/interop/ethereum/gethnet"
)

func main() {
	n := flag.Int("n", 300, "number of nodes")
	base := flag.String("base", "127.10.0.0", "node i listens on base + 1 + i")
	port := flag.Int("port", 30303, "UDP port of every node")
	boot := flag.Int("boot", 3, "the first K nodes are the bootnodes of all others")
	ramp := flag.Float64("ramp", 40, "nodes started per second")
	ping := flag.Duration("ping", time.Second, "PingInterval (go-ethereum's is 3 s): how fast nodes check each other before they name them")
	most := flag.Duration("settle", 2*time.Minute, "the longest wait for that")
	flag.Parse()
	gethnet.Quiet()
	start := time.Now()
	network, err := gethnet.StartNetwork(gethnet.NetworkConfig{Config: gethnet.Config{PingInterval: *ping}, Nodes: *n, Base: netip.MustParseAddr(*base), Port: *port, Boot: *boot, PerSecond: *ramp})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	for end := time.Now().Add(*most); network.Visible() < *n && time.Now().Before(end); {
		time.Sleep(200 * time.Millisecond)
	}
	var bootnodes, all []string
	for _, b := range network.Bootnodes {
		bootnodes = append(bootnodes, b.URLv4())
	}
	for _, node := range network.Nodes {
		all = append(all, node.Self().URLv4())
	}
	json.NewEncoder(os.Stdout).Encode(map[string]any{"event": "ready", "nodes": *n, "visible": network.Visible(), "seconds": time.Since(start).Seconds(), "bootnodes": bootnodes, "all": all})
	end := make(chan os.Signal, 1)
	signal.Notify(end, os.Interrupt, syscall.SIGTERM)
	<-end
}
