package main

import (
	"fmt"
	"time"
)

// secretConnection measures 64 KB writes through the encryption alone, one process to another.
func secretConnection() {
	rate := besideComets("SecretConnection, 64 KB writes", "MB/s", [2]string{"≥ 2.5×", "≥ 1.3×"}, largest)
	cost := besideComets("SecretConnection, 64 KB writes, CPU of both sides", "ns/B", same("–"), smallest)
	for range rounds {
		for i, version := range comets {
			got := comet(version, "sc", "-size", "65536")
			rate.theirs(i, got.receiver.number("MB_per_s"))
			cost.theirs(i, got.receiver.number("ns_per_byte_cpu")+got.sender.number("ns_per_byte_cpu"))
		}
		receiver := start("secret_throughput listen", example("secret_throughput"), "listen", "127.0.0.1:0")
		address := receiver.line(10 * time.Second)
		dialer := start("secret_throughput dial", example("secret_throughput"), "dial", address, "65536", fmt.Sprint(tcpSeconds))
		dialer.wait(time.Minute)
		got := receiver.object(10*time.Second, "MB_per_s")
		receiver.wait(10 * time.Second)
		rate.ours(got.number("MB_per_s"))
		cost.ours((dialer.used() + receiver.used()) / got.number("bytes") * 1e9)
	}
	rate.report()
	cost.report()
}

// handshakes are done one after the other; the processor time of both sides counts, sockets included.
const handshakes = 1000

func secretHandshake() {
	cost := besideComets("SecretConnection handshake, CPU per side", "µs", [2]string{"≤ 0.5×", "–"}, smallest)
	for range rounds {
		for i, version := range comets {
			p := start("cometbench handshake", cometBin(version, "cometbench"), "handshake", "-n", fmt.Sprint(handshakes))
			sides := p.object(time.Minute, "cpu_us_per_hs").number("cpu_us_per_hs") + p.object(time.Minute, "cpu_us_per_hs").number("cpu_us_per_hs")
			p.kill()
			cost.theirs(i, sides/2)
		}
		acceptor := start("secret_throughput accept", example("secret_throughput"), "accept", "127.0.0.1:0")
		address := acceptor.line(10 * time.Second)
		before := acceptor.cpu()
		dialer := start("secret_throughput handshakes", example("secret_throughput"), "handshakes", address, fmt.Sprint(handshakes))
		dialer.wait(time.Minute)
		cost.ours((acceptor.cpu() - before + dialer.used()) / 2 / handshakes * 1e6)
		acceptor.kill()
	}
	cost.report()
}

// sides are what the two processes of one of CometBFT's benches say.
type sides struct{ receiver, sender figures }

// comet runs one of CometBFT's benches, two processes.
func comet(version, bench string, args ...string) (s sides) {
	p := start("cometbench "+bench, append([]string{cometBin(version, "cometbench"), bench, "-dur", fmt.Sprintf("%ds", tcpSeconds)}, args...)...)
	defer p.kill()
	for s.receiver == nil || s.sender == nil {
		got := p.object(time.Minute, "bench")
		switch got["side"] {
		case "receiver":
			s.receiver = got
		case "sender":
			s.sender = got
		default:
			return sides{got, got}
		}
	}
	return s
}

// mconnection measures messages of one size, sent as fast as the connection takes them, without rate limits on either side.
func mconnection() {
	for _, size := range []struct {
		name, target string
		bytes        int
	}{{"64 B", "≥ 2.5×", 64}, {"1 KB", "≥ 3×", 1 << 10}, {"64 KB", "≥ 3×", 1 << 16}, {"1 MB", "≥ 3×", 1 << 20}} {
		rate := besideComets("MConnection, messages of "+size.name, "1/s", same(size.target), largest)
		cost := besideComets("MConnection, messages of "+size.name+", CPU of both sides", "µs", same("–"), smallest)
		for range rounds {
			for i, version := range comets {
				got := comet(version, "mconn", "-size", fmt.Sprint(size.bytes))
				rate.theirs(i, got.receiver.number("msgs_per_s"))
				cost.theirs(i, got.receiver.number("cpu_us_per_msg")+got.sender.number("cpu_us_per_msg"))
			}
			sink := start("mconn_peer listen", example("mconn_peer"), "listen", "--laddr", "127.0.0.1:0", "--mode", "sink")
			address := sink.line(10 * time.Second)
			flood := start("mconn_peer dial", example("mconn_peer"), "dial", address, "--mode", "flood", "--size", fmt.Sprint(size.bytes), "--seconds", fmt.Sprint(tcpSeconds))
			flood.wait(time.Minute)
			got := sink.object(10*time.Second, "msgs_per_s")
			rate.ours(got.number("msgs_per_s"))
			cost.ours((sink.cpu() + flood.used()) / got.number("messages") * 1e6)
			sink.kill()
		}
		rate.report()
		cost.report()
	}
}

// pingPong measures one message there and back, at each side's default flush time, while nothing else is sent.
func pingPong() {
	median := besideComets("64 B ping-pong, default flush, median", "ms", same("≤ 0.2 ms"), smallest)
	for range rounds {
		for i, version := range comets {
			median.theirs(i, comet(version, "pingpong", "-size", "64").receiver.number("p50_us")/1000)
		}
		echo := start("mconn_peer listen", example("mconn_peer"), "listen", "--laddr", "127.0.0.1:0", "--mode", "echo")
		address := echo.line(10 * time.Second)
		ping := start("mconn_peer dial", example("mconn_peer"), "dial", address, "--mode", "ping", "--size", "64", "--count", "2000")
		median.ours(ping.object(time.Minute, "p50_us").number("p50_us") / 1000)
		echo.kill()
		ping.kill()
	}
	median.report()
}

// idlePeers are connected to one listener, and say nothing.
const idlePeers = 400

// idle measures the memory that an idle peer costs whoever it dialed. CometBFT dials, each time with a new identity.
func idle() {
	memory := besideComets("live MConnection peer, idle, RSS", "KiB", same("≤ 20 KiB"), smallest)
	perPeer := func(listener *program, version, address string) float64 {
		before := listener.rss()
		load := start("mconnpeer hold", cometBin(version, "mconnpeer"), "-dial", address, "-mode", "hold", "-count", fmt.Sprint(idlePeers))
		load.object(time.Minute, "n")
		time.Sleep(time.Second)
		defer load.kill()
		return (listener.rss() - before) * 1024 / idlePeers
	}
	for range rounds {
		for i, version := range comets {
			listener := start("mconnpeer idle", cometBin(version, "mconnpeer"), "-listen", "127.0.0.1:0", "-mode", "idle", "-dur", "0s")
			address := fmt.Sprint(listener.object(10*time.Second, "addr")["addr"])
			memory.theirs(i, perPeer(listener, version, address))
			listener.kill()
		}
		listener := start("mconn_peer listen", example("mconn_peer"), "listen", "--laddr", "127.0.0.1:0", "--mode", "sink")
		address := listener.line(10 * time.Second)
		memory.ours(perPeer(listener, comets[0], address))
		listener.kill()
	}
	memory.report()
}
