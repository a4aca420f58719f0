package ethereum

import (
	"encoding/json"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/p2p/enode"

	"kadwire/interop/ethereum/gethnet"
	"kadwire/interop/harness"
)

// TestColdLookupsDoNotSleep: nodes that know three bootnodes and nobody else look for a node of a go-ethereum network, ours one after another
// and go-ethereum's beside them, since they mostly sleep: half a second after each ping of their own.
func TestColdLookupsDoNotSleep(t *testing.T) {
	const nodes, rounds = 60, 7
	network, err := gethnet.StartNetwork(gethnet.NetworkConfig{Config: gethnet.Config{PingInterval: time.Second, Refresh: time.Minute}, Nodes: nodes, Base: gethnet.Offset(loopback, 63<<16+40<<8), Port: 30303, Boot: 3, PerSecond: 20})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(network.Stop)
	waitUntilVisible(t, network, 2*time.Minute)
	var boot []string
	for _, b := range network.Bootnodes {
		boot = append(boot, b.URLv4())
	}
	target := func(round int) *enode.Node { return network.Nodes[5+round*7].Self() }
	geth := make([]time.Duration, rounds)
	var theirs sync.WaitGroup
	for round := range rounds {
		node, err := gethnet.Start(gethnet.Offset(loopback, 63<<16+42<<8+1+round), 30303, gethnet.Config{Bootnodes: network.Bootnodes})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(node.Stop)
		theirs.Go(func() {
			begin := time.Now()
			node.LookupPubkey(target(round).Pubkey())
			geth[round] = time.Since(begin)
		})
	}
	var ours []time.Duration
	found := 0
	for round := range rounds {
		got := harness.Run(t, time.Minute, "discv4_lookup", harness.Discv4Lookup(t), gethnet.Offset(loopback, 63<<16+41<<8+1+round).String()+":0", strings.Join(boot, ","), target(round).URLv4())
		var lookup struct {
			Found bool
			Ms    float64
		}
		if err := json.Unmarshal([]byte(got.Stdout), &lookup); err != nil {
			t.Fatalf("%v: %s %s", err, got.Stdout, got.Stderr)
		}
		if lookup.Found {
			found++
		}
		ours = append(ours, time.Duration(lookup.Ms*float64(time.Millisecond)))
	}
	theirs.Wait()
	slices.Sort(ours)
	slices.Sort(geth)
	t.Logf("found %s; ours %v, go-ethereum's %v", percent(found, rounds), ours, geth)
	if found < rounds-1 {
		t.Errorf("ours found the key in %s lookups", percent(found, rounds))
	}
	if ours[rounds/2]*2 > geth[rounds/2] {
		t.Errorf("median: ours %v, go-ethereum's %v; want less than half", ours[rounds/2], geth[rounds/2])
	}
}
