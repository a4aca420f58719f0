// discv4crawl is go-ethereum's way to crawl discv4, which is what `devp2p discv4 crawl` does: random lookups
// (UDPv4.RandomNodes, at most one new lookup a second) and an ENR request to every new node, 16 at a time.
// Unlike devp2p it ends when -expect nodes have answered, so that the time can be compared.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/ethereum/go-ethereum/p2p/enode"

	"kadwire/interop/ethereum/gethnet"
)

func main() {
	bootnodes := flag.String("bootnodes", "", "comma separated; required")
	addr := flag.String("addr", "127.60.0.1:0", "own address")
	expect := flag.Int("expect", 300, "end when this many nodes have answered")
	most := flag.Duration("timeout", time.Minute, "end after this long")
	parallel := flag.Int("parallel", 16, "ENR requests at a time (devp2p's default)")
	flag.Parse()
	gethnet.Quiet()
	at, err := netip.ParseAddrPort(*addr)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	var boot []*enode.Node
	for _, s := range strings.Split(*bootnodes, ",") {
		boot = append(boot, enode.MustParse(s))
	}
	start := time.Now()
	node, err := gethnet.Start(at.Addr(), int(at.Port()), gethnet.Config{Bootnodes: boot})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	walk := node.RandomNodes()
	time.AfterFunc(*most, walk.Close)
	var mu sync.Mutex
	seen, answered := map[enode.ID]bool{}, map[enode.ID]bool{}
	todo := make(chan *enode.Node)
	var workers sync.WaitGroup
	for range *parallel {
		workers.Go(func() {
			for n := range todo {
				_, err := node.RequestENR(n)
				mu.Lock()
				if err == nil {
					answered[n.ID()] = true
				} else {
					delete(seen, n.ID()) // try again when it comes by again, as devp2p does
				}
				if len(answered) >= *expect {
					walk.Close()
				}
				mu.Unlock()
			}
		})
	}
	for walk.Next() {
		n := walk.Node()
		mu.Lock()
		fresh := !seen[n.ID()]
		seen[n.ID()] = true
		mu.Unlock()
		if fresh {
			todo <- n
		}
	}
	seconds := time.Since(start).Seconds()
	close(todo)
	workers.Wait()
	json.NewEncoder(os.Stdout).Encode(map[string]any{"found": len(answered), "seconds": seconds})
}
