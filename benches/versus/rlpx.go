package main

import (
	"fmt"
	"time"
)

// rlpxSide is a program that can be either end of an RLPx connection.
type rlpxSide struct {
	// listen starts a receiver, which prints its enode first and a line for each peer that left.
	listen func() *program
	// dial starts a sender of messages of one size.
	dial func(enode string, bytes int) *program
}

var gethRlpx = rlpxSide{
	listen: func() *program { return start("rlpxpeer listen", reference("rlpxpeer"), "listen") },
	dial: func(enode string, bytes int) *program {
		return start("rlpxpeer dial", reference("rlpxpeer"), "dial", "-size", fmt.Sprint(bytes), "-dur", fmt.Sprintf("%ds", tcpSeconds), enode)
	},
}

var ourRlpx = rlpxSide{
	listen: func() *program {
		return start("rlpx_peer listen", rlpxPeer(builds[0]), "listen", "--laddr", "127.0.0.1:0", "--mode", "sink")
	},
	dial: func(enode string, bytes int) *program {
		return start("rlpx_peer dial", rlpxPeer(builds[0]), "dial", enode, "--mode", "flood", "--size", fmt.Sprint(bytes), "--seconds", fmt.Sprint(tcpSeconds))
	},
}

// rlpxPeer is our example program, by the library that signs.
func rlpxPeer(build string) string { return reference("rlpx_peer-" + build) }

// transfer sends messages of one size in one direction: how many a second arrive, and the processor time of both sides for each, in µs.
func transfer(from, to rlpxSide, bytes int) (rate, cost float64) {
	sink := to.listen()
	defer sink.kill()
	flood := from.dial(sink.line(10*time.Second), bytes)
	flood.wait(time.Minute)
	got := sink.object(10*time.Second, "msgs_per_s")
	return got.number("msgs_per_s"), (sink.cpu() + flood.used()) / got.number("messages") * 1e6
}

// rlpxMessages measures random bytes with snappy on, as between any two peers of today: both ends go-ethereum's, both ours, and one of each.
func rlpxMessages() {
	for _, size := range []struct {
		name, target string
		bytes        int
	}{{"100 B", "≥ 1.5×", 100}, {"64 KB", "≥ 2.2×", 1 << 16}} {
		path := "RLPx, messages of " + size.name
		rate := row{path: path, unit: "1/s", target: size.target, best: largest}
		cost := row{path: path + ", CPU of both sides", unit: "µs", target: "–", best: smallest}
		toGeth := row{path: path + ", from us to go-ethereum", unit: "1/s", target: "–", best: largest}
		fromGeth := row{path: path + ", from go-ethereum to us", unit: "1/s", target: "–", best: largest}
		for range rounds {
			theirs, theirCost := transfer(gethRlpx, gethRlpx, size.bytes)
			ours, ourCost := transfer(ourRlpx, ourRlpx, size.bytes)
			rate.reference, rate.ours = append(rate.reference, theirs), append(rate.ours, ours)
			cost.reference, cost.ours = append(cost.reference, theirCost), append(cost.ours, ourCost)
			mixed, _ := transfer(ourRlpx, gethRlpx, size.bytes)
			toGeth.reference, toGeth.ours = append(toGeth.reference, theirs), append(toGeth.ours, mixed)
			mixed, _ = transfer(gethRlpx, ourRlpx, size.bytes)
			fromGeth.reference, fromGeth.ours = append(fromGeth.reference, theirs), append(fromGeth.ours, mixed)
		}
		for _, row := range []row{rate, cost, toGeth, fromGeth} {
			report(row)
		}
	}
}

// rlpxHandshake measures the encryption handshake alone, without Hello, sockets included, one after the other: processor time of both sides.
func rlpxHandshake() {
	path := "RLPx handshake, CPU of both sides"
	by := make([]row, len(builds))
	for i, build := range builds {
		by[i] = row{path: path + " (" + build + ")", unit: "µs", target: "≤ 0.7×", best: smallest}
	}
	measure := func(acceptor *program, dial func(enode string) *program) float64 {
		defer acceptor.kill()
		enode := acceptor.line(10 * time.Second)
		before := acceptor.cpu()
		dialer := dial(enode)
		dialer.wait(time.Minute)
		return (acceptor.cpu() - before + dialer.used()) / handshakes * 1e6
	}
	for range rounds {
		theirs := measure(start("rlpxpeer accept", reference("rlpxpeer"), "accept"), func(enode string) *program {
			return start("rlpxpeer handshakes", reference("rlpxpeer"), "handshakes", "-n", fmt.Sprint(handshakes), enode)
		})
		for i, build := range builds {
			ours := measure(start("rlpx_peer accept", rlpxPeer(build), "listen", "--laddr", "127.0.0.1:0", "--mode", "accept"), func(enode string) *program {
				return start("rlpx_peer handshakes", rlpxPeer(build), "dial", enode, "--mode", "handshakes", "--count", fmt.Sprint(handshakes))
			})
			by[i].reference, by[i].ours = append(by[i].reference, theirs), append(by[i].ours, ours)
		}
	}
	for _, row := range by {
		report(row)
	}
}
