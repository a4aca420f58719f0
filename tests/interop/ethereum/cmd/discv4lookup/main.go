// discv4lookup is one cold lookup: a go-ethereum node with a fresh identity, which knows the bootnodes and nobody else, looks for a node by
// its key. It prints one JSON line, the same as kadwire-discovery's example discv4_lookup.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"time"

	"github.com/ethereum/go-ethereum/p2p/enode"

	"kadwire/interop/ethereum/gethnet"
)

func main() {
	flag.Parse()
	if flag.NArg() != 3 {
		fmt.Fprintln(os.Stderr, "usage: discv4lookup ADDRESS BOOTNODES TARGET")
		os.Exit(2)
	}
	gethnet.Quiet()
	addr, target := netip.MustParseAddrPort(flag.Arg(0)), enode.MustParse(flag.Arg(2))
	var bootnodes []*enode.Node
	for _, url := range strings.Split(flag.Arg(1), ",") {
		bootnodes = append(bootnodes, enode.MustParse(url))
	}
	node, err := gethnet.Start(addr.Addr(), int(addr.Port()), gethnet.Config{Bootnodes: bootnodes})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	begun := time.Now()
	closest := node.LookupPubkey(target.Pubkey())
	took, found := time.Since(begun), false
	for _, n := range closest {
		found = found || n.ID() == target.ID()
	}
	json.NewEncoder(os.Stdout).Encode(map[string]any{"found": found, "ms": float64(took.Microseconds()) / 1e3, "nodes": len(closest)})
}
