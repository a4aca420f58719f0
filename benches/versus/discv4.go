package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// server is one of the three that are measured in turns.
type server struct {
	// build is "" for the reference.
	build string
	*program
	url string
}

// servers starts go-ethereum and both builds of ours, each on 127.net.0.1 and the two networks behind it.
func servers(net int) []*server {
	at := func(i int) string { return fmt.Sprintf("127.%d.0.1", net+i) }
	all := []*server{{build: "", program: start("gethd4", reference("gethd4"), "-addr", at(0)+":30301", "-ping", "100ms")}}
	for i, build := range builds {
		ours := start("kadwire bootnode, "+build, kadwireWith(build), "bootnode", "--addr", at(i+1)+":30301", "--nat", "extip:"+at(i+1))
		all = append(all, &server{build: build, program: ours})
	}
	for _, s := range all {
		s.url = s.line(20 * time.Second)
	}
	return all
}

// comparison is one row for each build of ours, beside the one reference.
type comparison struct{ rows map[string]*row }

func compare(path, unit string, targets map[string]string, best func([]float64) float64) comparison {
	v := comparison{rows: map[string]*row{}}
	for _, build := range builds {
		v.rows[build] = &row{path: path + ", " + build, unit: unit, target: targets[build], best: best}
	}
	return v
}

// add notes a figure of a round.
func (v comparison) add(s *server, figure float64) {
	for build, row := range v.rows {
		if s.build == "" {
			row.reference = append(row.reference, figure)
		} else if s.build == build {
			row.ours = append(row.ours, figure)
		}
	}
}

func (v comparison) report() {
	for _, build := range builds {
		report(*v.rows[build])
	}
}

// both is a target that does not depend on the build.
func both(target string) map[string]string {
	return map[string]string{"k256": target, "libsecp256k1": target}
}

func either(k256, libsecp256k1 string) map[string]string {
	return map[string]string{"k256": k256, "libsecp256k1": libsecp256k1}
}

// discv4 measures what a node that answers pays for a ping, a findnode of 16 nodes and a record, how many it answers with all cores, and what a
// datagram of rubbish costs it.
func discv4() {
	all := servers(80)
	modes := []struct {
		mode, name, presign string
		cpu, rate           map[string]string
		load                []*program
	}{
		{mode: "ping", name: "discv4 ping", presign: "60000", cpu: either("≤ 0.65×", "≤ 0.45×"), rate: either("≥ 2.2×", "≥ 3×")},
		{mode: "findnode", name: "discv4 findnode, 16 nodes", presign: "50000", cpu: either("≤ 0.55×", "≤ 0.40×"), rate: either("≥ 2.2×", "≥ 3×")},
		{mode: "enr", name: "discv4 ENRRequest", presign: "50000", cpu: both("–"), rate: both("–")},
	}
	for m := range modes {
		for i, s := range all {
			net := fmt.Sprintf("127.%d.0.1", 83+3*m+i)
			modes[m].load = append(modes[m].load, start("discv4load "+modes[m].mode, reference("discv4load"), "-rounds", "-mode", modes[m].mode, "-target", s.url, "-n", "200",
				"-inflight", "64", "-seconds", "3", "-base", net, "-step", "256", "-presign", modes[m].presign, "-pid", s.pid(), "-warmmax", "60s"))
		}
		for _, load := range modes[m].load {
			load.object(2*time.Minute, "event")
		}
	}
	memory := compare("discv4, RSS after all of it, full table", "MB", both("≤ 20 MB"), largest)
	for _, mode := range modes {
		cpu := compare(mode.name+", CPU", "µs/request", mode.cpu, smallest)
		rate := compare(mode.name+", answered", "1/s", mode.rate, largest)
		for range rounds {
			for i, s := range all {
				mode.load[i].say("go")
				got := mode.load[i].object(time.Minute, "answered_per_s")
				if lost := got.number("timeouts"); lost > got.number("sent")/50 {
					fmt.Fprintf(os.Stderr, "versus: %s of %s: %v of %v requests got no answer\n", mode.name, s.name, lost, got.number("sent"))
				}
				if nodes, ok := got["nodes_per_answer"].(float64); ok && nodes < 15.5 {
					fmt.Fprintf(os.Stderr, "versus: %s of %s: only %.1f nodes an answer\n", mode.name, s.name, nodes)
				}
				cpu.add(s, got.number("server_cpu_us_per_req"))
				rate.add(s, got.number("answered_per_s"))
			}
		}
		cpu.report()
		rate.report()
	}
	garbage := compare("discv4, datagram of rubbish, CPU", "µs", both("≤ 0.5×"), smallest)
	for range rounds {
		for i, s := range all {
			got := start("discv4load garbage", reference("discv4load"), "-mode", "garbage", "-target", s.url, "-n", "200", "-seconds", "3", "-base", fmt.Sprintf("127.%d.0.1", 92+i),
				"-presign", "60000", "-pid", s.pid()).object(time.Minute, "sent_per_s")
			garbage.add(s, got.number("server_cpu_us_per_req"))
		}
	}
	garbage.report()
	for i, s := range all {
		memory.add(s, s.rss())
		for _, mode := range modes {
			mode.load[i].kill()
		}
		s.kill()
	}
	memory.report()
}

// flood measures what is left for 200 nodes that ask 400 times a second while 200 strangers ping 20,000 times a second and answer nothing.
// The generator of both shares the cores with the server.
func flood() {
	kept := compare("unbonded ping flood, 20,000/s from 200 addresses: answers kept", "%", both("≥ 99 %"), smallest)
	memory := compare("the same: RSS after", "MB", both("≤ 20 MB"), largest)
	all := servers(95)
	for range rounds {
		for i, s := range all {
			got := start("discv4load flood", reference("discv4load"), "-flood", "newping", "-target", s.url, "-pid", s.pid(), "-seconds", "4", "-rate", "20000", "-presign", "80000",
				"-base", fmt.Sprintf("127.%d.0.1", 98+i), "-floodbase", fmt.Sprintf("127.%d.0.1", 101+i), "-step", "256").object(2*time.Minute, "flooded_kept")
			if sent := got.number("sent_per_s"); sent < 19_000 {
				fmt.Fprintf(os.Stderr, "versus: flood of %s: only %.0f a second\n", s.name, sent)
			}
			if quiet := got.number("quiet_kept"); quiet < 0.99 {
				fmt.Fprintf(os.Stderr, "versus: flood of %s: only %.1f %% were answered before it\n", s.name, 100*quiet)
			}
			kept.add(s, 100*got.number("flooded_kept"))
			memory.add(s, got.number("server_rss_mb"))
		}
	}
	kept.report()
	memory.report()
	// A few pings, as somebody would send them in another's name: below every limit on rates.
	back := compare("200 pings of one stranger: bytes sent back for each byte", "", both("≤ 1.6"), largest)
	pings := compare("200 pings of one stranger: pings sent back", "", both("≤ 5"), largest)
	for round := range rounds {
		for i, s := range all {
			got := start("discv4load newping", reference("discv4load"), "-mode", "newping", "-target", s.url, "-n", "1", "-seconds", "1", "-rate", "200", "-presign", "300",
				"-base", fmt.Sprintf("127.%d.%d.1", 104+i, round)).object(time.Minute, "sent_per_s")
			back.add(s, got.number("bytes_back_per_byte"))
			pings.add(s, got.number("server_pings_most"))
		}
	}
	back.report()
	pings.report()
	for _, s := range all {
		s.kill()
	}
}

// networkSize is the number of real go-ethereum nodes that are searched and crawled.
const networkSize = 300

// crawled runs a crawl of ours and gives what it wrote to crawl.json.
func crawled(world string, args ...string) (got figures) {
	out, err := os.MkdirTemp("", "versus")
	must(err)
	defer os.RemoveAll(out)
	start("kadwire crawl "+world, append([]string{kadwire(), "crawl", world, "--out", out}, args...)...).wait(2 * time.Minute)
	raw, err := os.ReadFile(filepath.Join(out, "crawl.json"))
	must(err)
	must(json.Unmarshal(raw, &got))
	return got
}

// crawl measures how long it takes to find all nodes of a network of go-ethereum nodes: ours, go-ethereum's way, ours again.
func crawl(size int, base, target string) {
	// At most so long until all have found each other, on two cores.
	settle := time.Duration(size) * 300 * time.Millisecond
	network := start("discv4net", reference("discv4net"), "-n", fmt.Sprint(size), "-base", base, "-settle", settle.String())
	ready := network.object(5*time.Minute+settle, "bootnodes")
	if visible := ready.number("visible"); visible < float64(size) {
		fmt.Fprintf(os.Stderr, "versus: only %v of %d go-ethereum nodes can be found by asking: the machine is too busy\n", visible, size)
	}
	boot := strings.Join(texts(ready["bootnodes"]), ",")
	found := row{path: fmt.Sprintf("crawl of %d go-ethereum nodes, found", size), unit: "nodes", target: "all", best: smallest}
	seconds := row{path: fmt.Sprintf("crawl of %d go-ethereum nodes, time", size), unit: "s", target: target, best: smallest}
	ours := func() {
		got := crawled("eth", "--bootnodes", boot)
		found.ours = append(found.ours, got.number("reachable"))
		seconds.ours = append(seconds.ours, got.number("seconds"))
	}
	ours()
	got := start("discv4crawl", reference("discv4crawl"), "-bootnodes", boot, "-addr", "127.78.0.1:0", "-expect", fmt.Sprint(size), "-timeout", "45s").object(2*time.Minute, "found")
	found.reference = append(found.reference, got.number("found"))
	seconds.reference = append(seconds.reference, got.number("seconds"))
	ours()
	network.kill()
	report(found)
	report(seconds)
}
