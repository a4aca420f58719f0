package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// discv4 measures what a node that answers pays for a ping and for a findnode of 16 nodes, and how many it answers with all cores.
func discv4() {
	type side struct {
		server         *program
		ping, findnode *program
	}
	var geth, ours side
	geth.server = start("gethd4", reference("gethd4"), "-addr", "127.71.0.1:30301", "-ping", "100ms")
	ours.server = start("kadwire bootnode", kadwire(), "bootnode", "--addr", "127.72.0.1:30301", "--nat", "extip:127.72.0.1")
	for i, s := range []*side{&geth, &ours} {
		url := s.server.line(20 * time.Second)
		load := func(mode string, net int, presign string) *program {
			return start("discv4load "+mode, reference("discv4load"), "-rounds", "-mode", mode, "-target", url, "-n", "200", "-inflight", "64", "-seconds", "4",
				"-base", fmt.Sprintf("127.%d.0.1", net+i), "-step", "256", "-presign", presign, "-pid", s.server.pid(), "-warmmax", "60s")
		}
		s.ping, s.findnode = load("ping", 73, "60000"), load("findnode", 75, "40000")
	}
	for _, s := range []*side{&geth, &ours} {
		s.ping.object(2*time.Minute, "event")
		s.findnode.object(2*time.Minute, "event")
	}
	for _, mode := range []struct {
		name, what, cpuTarget, rateTarget string
		load                              func(*side) *program
	}{
		{"discv4 ping", "answered", "≤ 0.65×", "≥ 2.2×", func(s *side) *program { return s.ping }},
		{"discv4 findnode, 16 nodes", "answered", "≤ 0.55×", "≥ 2.2×", func(s *side) *program { return s.findnode }},
	} {
		cpu := row{path: mode.name + ", CPU", unit: "µs/request", target: mode.cpuTarget, best: smallest}
		rate := row{path: mode.name + ", " + mode.what, unit: "1/s", target: mode.rateTarget, best: largest}
		memory := row{path: mode.name + ", RSS after", unit: "MB", target: "≤ 20 MB", best: largest}
		for range rounds {
			for _, s := range []*side{&geth, &ours} {
				load := mode.load(s)
				load.say("go")
				got := load.object(time.Minute, "answered_per_s")
				if lost := got.number("timeouts"); lost > got.number("sent")/50 {
					fmt.Fprintf(os.Stderr, "versus: %s: %v of %v requests got no answer\n", load.name, lost, got.number("sent"))
				}
				if nodes, ok := got["nodes_per_answer"].(float64); ok && nodes < 15.5 {
					fmt.Fprintf(os.Stderr, "versus: %s: only %.1f nodes an answer\n", load.name, nodes)
				}
				if s == &geth {
					cpu.reference = append(cpu.reference, got.number("server_cpu_us_per_req"))
					rate.reference = append(rate.reference, got.number("answered_per_s"))
					memory.reference = append(memory.reference, got.number("server_rss_mb"))
				} else {
					cpu.ours = append(cpu.ours, got.number("server_cpu_us_per_req"))
					rate.ours = append(rate.ours, got.number("answered_per_s"))
					memory.ours = append(memory.ours, got.number("server_rss_mb"))
				}
			}
		}
		report(cpu)
		report(rate)
		if mode.name == "discv4 ping" {
			report(memory)
		}
	}
	for _, s := range []*side{&geth, &ours} {
		s.ping.kill()
		s.findnode.kill()
		s.server.kill()
	}
}

// networkSize is the number of real go-ethereum nodes that are crawled.
const networkSize = 300

// crawl measures how long it takes to find all nodes of a network of go-ethereum nodes: ours, go-ethereum's way, ours again.
func crawl() {
	network := start("discv4net", reference("discv4net"), "-n", fmt.Sprint(networkSize), "-base", "127.77.0.0", "-settle", "60s")
	ready := network.object(4*time.Minute, "bootnodes")
	if visible := ready.number("visible"); visible < networkSize {
		fmt.Fprintf(os.Stderr, "versus: only %v of %d go-ethereum nodes can be found by asking: the machine is too busy\n", visible, networkSize)
	}
	var bootnodes []string
	for _, b := range ready["bootnodes"].([]any) {
		bootnodes = append(bootnodes, b.(string))
	}
	boot := strings.Join(bootnodes, ",")
	found := row{path: fmt.Sprintf("crawl of %d go-ethereum nodes, found", networkSize), unit: "nodes", target: "all", best: smallest}
	seconds := row{path: fmt.Sprintf("crawl of %d go-ethereum nodes, time", networkSize), unit: "s", target: "≤ 3 s", best: smallest}
	ours := func() {
		out, err := os.MkdirTemp("", "versus")
		must(err)
		defer os.RemoveAll(out)
		start("kadwire crawl eth", kadwire(), "crawl", "eth", "--bootnodes", boot, "--out", out).wait(2 * time.Minute)
		raw, err := os.ReadFile(filepath.Join(out, "crawl.json"))
		must(err)
		var got figures
		must(json.Unmarshal(raw, &got))
		found.ours = append(found.ours, got.number("reachable"))
		seconds.ours = append(seconds.ours, got.number("seconds"))
	}
	ours()
	got := start("discv4crawl", reference("discv4crawl"), "-bootnodes", boot, "-addr", "127.78.0.1:0", "-expect", fmt.Sprint(networkSize), "-timeout", "45s").object(2*time.Minute, "found")
	found.reference = append(found.reference, got.number("found"))
	seconds.reference = append(seconds.reference, got.number("seconds"))
	ours()
	network.kill()
	report(found)
	report(seconds)
}
