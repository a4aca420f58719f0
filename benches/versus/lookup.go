package main

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"time"
)

// lookups is how many cold lookups each side makes.
const lookups = 20

// lookup measures how long a node that has just started, and knows three bootnodes, takes to find a node of a go-ethereum network by its
// key. Every lookup is a process of its own with an identity of its own; the two sides take turns and look for the same node. Those who
// have had their turn are gone, but the network goes on naming them for a while: both sides meet the other's dead.
func lookup() {
	network := start("discv4net", reference("discv4net"), "-n", fmt.Sprint(networkSize), "-base", "127.63.100.0", "-settle", "90s")
	ready := network.object(5*time.Minute, "bootnodes")
	if visible := ready.number("visible"); visible < networkSize {
		fmt.Fprintf(os.Stderr, "versus: only %v of %d go-ethereum nodes can be found by asking: the machine is too busy\n", visible, networkSize)
	}
	all, boot := texts(ready["all"]), strings.Join(texts(ready["bootnodes"]), ",")
	seconds := row{path: fmt.Sprintf("cold lookup among %d go-ethereum nodes, median", networkSize), unit: "s", target: "≤ 0.5 s", best: middle}
	found := row{path: "cold lookup, keys found", unit: "of " + fmt.Sprint(lookups), target: "all", best: largest}
	var counts [2]float64
	for n := range lookups {
		target := all[(n*7919+13)%len(all)]
		for side, program := range []string{reference("discv4lookup"), example("discv4_lookup")} {
			run := start("cold lookup", program, fmt.Sprintf("127.63.%d.%d:0", 98+side, 1+n), boot, target)
			got := run.object(time.Minute, "ms")
			run.wait(time.Minute)
			if got["found"] == true {
				counts[side]++
			}
			if side == 0 {
				seconds.reference = append(seconds.reference, got.number("ms")/1e3)
			} else {
				seconds.ours = append(seconds.ours, got.number("ms")/1e3)
			}
		}
	}
	network.kill()
	found.reference, found.ours = counts[:1], counts[1:]
	report(seconds)
	report(found)
}

func texts(list any) (all []string) {
	for _, one := range list.([]any) {
		all = append(all, one.(string))
	}
	return all
}

func middle(all []float64) float64 {
	sorted := slices.Sorted(slices.Values(all))
	return sorted[len(sorted)/2]
}
