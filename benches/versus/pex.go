package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// hubSize is the number of CometBFT switches of which one, the hub, knows all.
const hubSize = 100

// pex measures how long it takes to know them all, from the hub's address: ours by `kadwire crawl tendermint`, CometBFT's own seed by its
// crawl. Ours, CometBFT, ours; then the same in a network of the other version.
func pex() {
	for i, version := range comets {
		path := fmt.Sprintf("PEX crawl from a hub of %d real switches (CometBFT %s)", hubSize, version)
		found := row{path: path + ", found", unit: "nodes", target: "all", best: smallest}
		seconds := row{path: path, unit: "s", target: "≤ 3 s", best: smallest}
		network := start("pexnet", cometBin(version, "pexnet"), "-n", fmt.Sprint(hubSize), "-second", fmt.Sprint(20+i))
		hub := fmt.Sprint(network.object(2*time.Minute, "address")["address"])
		ours := func() {
			out, err := os.MkdirTemp("", "versus")
			must(err)
			defer os.RemoveAll(out)
			start("kadwire crawl tendermint", kadwire(), "crawl", "tendermint", "--seeds", hub, "--chain-id", "pexnet", "--out", out).wait(2 * time.Minute)
			raw, err := os.ReadFile(filepath.Join(out, "crawl.json"))
			must(err)
			var got figures
			must(json.Unmarshal(raw, &got))
			found.ours = append(found.ours, got.number("reachable"))
			seconds.ours = append(seconds.ours, got.number("seconds"))
		}
		ours()
		network.say("seed")
		got := network.object(2*time.Minute, "known")
		found.reference = append(found.reference, got.number("known"))
		seconds.reference = append(seconds.reference, got.number("seconds"))
		ours()
		network.kill()
		report(found)
		report(seconds)
	}
}
