package main

import (
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// hubSize is the number of CometBFT switches of which one, the hub, knows all.
const hubSize = 100

// pex measures how long it takes to know them all, from the hub's address: CometBFT's own seed by its crawl, ours by `kadwire crawl
// tendermint` and `kadwire seed`. Ours, CometBFT, ours; then the same in a network of the other version.
func pex() {
	for i, version := range comets {
		path := fmt.Sprintf("PEX crawl from a hub of %d real switches (CometBFT %s)", hubSize, version)
		found := row{path: path + ", found", unit: "nodes", target: "all", best: smallest}
		seconds := row{path: path, unit: "s", target: "≤ 3 s", best: smallest}
		seed := row{path: path + ", by a seed that has reached all", unit: "s", target: "≤ 3 s", best: smallest}
		network := start("pexnet", cometBin(version, "pexnet"), "-n", fmt.Sprint(hubSize), "-second", fmt.Sprint(20+i))
		hub := fmt.Sprint(network.object(2*time.Minute, "address")["address"])
		ours := func() {
			got := crawled("tendermint", "--seeds", hub, "--chain-id", "pexnet")
			found.ours = append(found.ours, got.number("reachable"))
			seconds.ours = append(seconds.ours, got.number("seconds"))

			home, err := os.MkdirTemp("", "versus")
			must(err)
			defer os.RemoveAll(home)
			begin := time.Now()
			ours := start("kadwire seed", kadwire(), "seed", "--json", "--laddr", fmt.Sprintf("tcp://127.%d.98.1:26656", 20+i), "--chain-id", "pexnet", "--seeds", hub, "--home", home, "--status-every", "0.1")
			for ours.object(time.Minute, "reachable").number("reachable") < hubSize {
			}
			seed.ours = append(seed.ours, time.Since(begin).Seconds())
			ours.kill()
		}
		ours()
		network.say("seed")
		got := network.object(2*time.Minute, "known")
		found.reference = append(found.reference, got.number("known"))
		seconds.reference = append(seconds.reference, got.number("seconds"))
		seed.reference = seconds.reference
		ours()
		network.kill()
		report(found)
		report(seconds)
		report(seed)
	}
}

// bookSize is the number of addresses that are added to a book; some find no room.
const bookSize = 10_000

// book measures the address book alone: a seed's answer, and a save with its file.
func book() {
	answer := besideComets("address book of 10,000: a seed's answer", "ms", same("≤ 0.1 ms"), smallest)
	save := besideComets("address book of 10,000: save", "ms", same("≤ 30 ms"), smallest)
	held := besideComets("address book of 10,000: not to be had while it is saved", "ms", same("–"), smallest)
	dir, err := os.MkdirTemp("", "versus")
	must(err)
	defer os.RemoveAll(dir)
	for range rounds {
		for i, version := range comets {
			got := start("cometbench addrbook", cometBin(version, "cometbench"), "addrbook", "-n", fmt.Sprint(bookSize)).object(time.Minute, "save_ms")
			answer.theirs(i, got.number("getselectionbias_ns")/1e6)
			save.theirs(i, got.number("save_ms"))
			held.theirs(i, got.number("save_ms"))
		}
		got := start("address_book time", example("address_book"), "time", filepath.Join(dir, "addrbook.json"), fmt.Sprint(bookSize)).object(time.Minute, "save_ms")
		answer.ours(got.number("answer_us") / 1e3)
		save.ours(got.number("save_ms"))
		held.ours(got.number("held_ms"))
	}
	answer.report()
	save.report()
	held.report()
}
