// pexnet: a network of real CometBFT switches with the PEX reactor, each in a /16 of its own, and one of them the hub that knows all.
//
// Prints {"event":"ready","address":…} when the hub does. Then, for every line "seed" on stdin, a new CometBFT node in seed mode that knows
// the hub's address only, and {"event":"seed","seconds":…,"known":…} when it knows everybody or gave up.
package main

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"time"

	"github.com/cometbft/cometbft/p2p"

	"kadwire/interop/tendermint/comet"
)

var (
	size    = flag.Int("n", 100, "switches")
	second  = flag.Int("second", 100, "second byte of the first one's IP: 127.SECOND.101.1")
	network = flag.String("network", "pexnet", "chain id")
	within  = flag.Duration("within", 60*time.Second, "the longest wait for the hub, and for a seed")
)

func main() {
	flag.Parse()
	dir, err := os.MkdirTemp("", "pexnet")
	must(err)
	defer os.RemoveAll(dir)
	all, err := comet.StartNetwork(*size, *network, dir, byte(*second), false, time.Second)
	must(err)
	hub := all.Switches[0]
	if !until(func() bool { return hub.Book.Size() >= *size-1 }) {
		must(fmt.Errorf("the hub knows %d of %d after %v", hub.Book.Size(), *size-1, *within))
	}
	say(map[string]any{"event": "ready", "address": hub.Address.String(), "version": comet.Version})
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		if lines.Text() == "seed" {
			crawl(all, dir)
		}
	}
}

func crawl(all *comet.Network, dir string) {
	begin := time.Now()
	seed, err := comet.Start(comet.Config{
		Listen: fmt.Sprintf("127.%d.99.1:0", *second), Network: *network, Moniker: "seed", Pex: true, Dir: dir, SeedMode: true, MaxInbound: *size,
		Known: []*p2p.NetAddress{all.Switches[0].Address},
	})
	must(err)
	known := func() (count int) {
		for _, s := range all.Switches {
			if seed.Book.HasAddress(s.Address) {
				count++
			}
		}
		return count
	}
	until(func() bool { return known() == *size })
	say(map[string]any{"event": "seed", "seconds": time.Since(begin).Seconds(), "known": known(), "version": comet.Version})
	seed.Stop()
}

func until(holds func() bool) bool {
	for end := time.Now().Add(*within); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if holds() {
			return true
		}
	}
	return false
}

func say(event map[string]any) {
	line, err := json.Marshal(event)
	must(err)
	fmt.Println(string(line))
}

func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "pexnet:", err)
		os.Exit(1)
	}
}
