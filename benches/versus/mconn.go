package main

import (
	"fmt"
	"time"
)

// tcpSeconds is how long one round of a TCP measurement takes.
const tcpSeconds = 2

// secretConnection measures 64 KB writes through the encryption alone, one process to another.
func secretConnection() {
	rate := row{path: "SecretConnection, 64 KB writes", unit: "MB/s", target: "≥ 2.5×", best: largest}
	for range rounds {
		rate.reference = append(rate.reference, comet("sc", "MB_per_s", "-size", "65536"))
		receiver := start("secret_throughput listen", example("secret_throughput"), "listen", "127.0.0.1:0")
		address := receiver.line(10 * time.Second)
		start("secret_throughput dial", example("secret_throughput"), "dial", address, "65536", fmt.Sprint(tcpSeconds)).wait(time.Minute)
		rate.ours = append(rate.ours, receiver.object(10*time.Second, "MB_per_s").number("MB_per_s"))
		receiver.kill()
	}
	report(rate)
}

// handshakes are done one after the other; the processor time of both sides counts, sockets included.
const handshakes = 1000

func secretHandshake() {
	cost := row{path: "SecretConnection handshake, CPU per side", unit: "µs", target: "≤ 0.5×", best: smallest}
	for range rounds {
		p := start("cometbench handshake", reference("cometbench"), "handshake", "-n", fmt.Sprint(handshakes))
		sides := p.object(time.Minute, "cpu_us_per_hs").number("cpu_us_per_hs") + p.object(time.Minute, "cpu_us_per_hs").number("cpu_us_per_hs")
		p.kill()
		cost.reference = append(cost.reference, sides/2)
		acceptor := start("secret_throughput accept", example("secret_throughput"), "accept", "127.0.0.1:0")
		address := acceptor.line(10 * time.Second)
		before := acceptor.cpu()
		dialer := start("secret_throughput handshakes", example("secret_throughput"), "handshakes", address, fmt.Sprint(handshakes))
		dialer.wait(time.Minute)
		used := dialer.cmd.ProcessState.UserTime() + dialer.cmd.ProcessState.SystemTime()
		cost.ours = append(cost.ours, (acceptor.cpu()-before+used.Seconds())/2/handshakes*1e6)
		acceptor.kill()
	}
	report(cost)
}

// comet runs one of CometBFT's benches, two processes, and gives a figure of its receiving side.
func comet(bench, field string, args ...string) float64 {
	p := start("cometbench "+bench, append([]string{reference("cometbench"), bench, "-dur", fmt.Sprintf("%ds", tcpSeconds)}, args...)...)
	defer p.kill()
	for {
		got := p.object(time.Minute, "bench")
		if got["side"] != "sender" {
			return got.number(field)
		}
	}
}

// mconnection measures messages of one size, sent as fast as the connection takes them, without rate limits on either side.
func mconnection() {
	for _, size := range []struct {
		name, target string
		bytes        int
	}{{"64 B", "≥ 2.5×", 64}, {"1 KB", "≥ 3×", 1 << 10}, {"64 KB", "≥ 3×", 1 << 16}, {"1 MB", "≥ 3×", 1 << 20}} {
		rate := row{path: "MConnection, messages of " + size.name, unit: "1/s", target: size.target, best: largest}
		for range rounds {
			rate.reference = append(rate.reference, comet("mconn", "msgs_per_s", "-size", fmt.Sprint(size.bytes)))
			sink := start("mconn_peer listen", example("mconn_peer"), "listen", "--laddr", "127.0.0.1:0", "--mode", "sink")
			address := sink.line(10 * time.Second)
			start("mconn_peer dial", example("mconn_peer"), "dial", address, "--mode", "flood", "--size", fmt.Sprint(size.bytes), "--seconds", fmt.Sprint(tcpSeconds)).wait(time.Minute)
			rate.ours = append(rate.ours, sink.object(10*time.Second, "msgs_per_s").number("msgs_per_s"))
			sink.kill()
		}
		report(rate)
	}
}

// pingPong measures one message there and back, at each side's default flush time, while nothing else is sent.
func pingPong() {
	median := row{path: "64 B ping-pong, default flush, median", unit: "ms", target: "≤ 0.2 ms", best: smallest}
	for range rounds {
		median.reference = append(median.reference, comet("pingpong", "p50_us", "-size", "64")/1000)
		echo := start("mconn_peer listen", example("mconn_peer"), "listen", "--laddr", "127.0.0.1:0", "--mode", "echo")
		address := echo.line(10 * time.Second)
		ping := start("mconn_peer dial", example("mconn_peer"), "dial", address, "--mode", "ping", "--size", "64", "--count", "2000")
		median.ours = append(median.ours, ping.object(time.Minute, "p50_us").number("p50_us")/1000)
		echo.kill()
		ping.kill()
	}
	report(median)
}
