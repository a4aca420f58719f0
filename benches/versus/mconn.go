package main

import (
	"fmt"
	"time"
)

const tcpSeconds = "2s"

// secretConnection measures 64 KB writes through the encryption alone.
func secretConnection() {
	rate := row{path: "SecretConnection, 64 KB writes", unit: "MB/s", target: "≥ 2.5×", best: largest}
	for range rounds {
		rate.reference = append(rate.reference, reference0("sc", "MB_per_s", "-size", "65536"))
		rate.ours = append(rate.ours, 0)
	}
	report(rate)
}

// reference0 runs one of CometBFT's benches and gives a figure of its receiving side.
func reference0(bench, field string, args ...string) float64 {
	p := start("cometbench "+bench, append([]string{reference("cometbench"), bench, "-dur", tcpSeconds}, args...)...)
	defer p.kill()
	for {
		got := p.object(time.Minute, "bench")
		if got["side"] != "sender" {
			return got.number(field)
		}
	}
}

func mconnection() {
	for _, size := range []struct {
		name, target string
		bytes        int
	}{{"64 B", "≥ 2.5×", 64}, {"1 KB", "≥ 3×", 1024}, {"64 KB", "≥ 3×", 65536}} {
		rate := row{path: "MConnection, messages of " + size.name, unit: "1/s", target: size.target, best: largest}
		for range rounds {
			rate.reference = append(rate.reference, reference0("mconn", "msgs_per_s", "-size", fmt.Sprint(size.bytes)))
			rate.ours = append(rate.ours, 0)
		}
		report(rate)
	}
}

func pingPong() {
	median := row{path: "64 B ping-pong, default flush, median", unit: "ms", target: "≤ 0.2 ms", best: smallest}
	median.reference = append(median.reference, reference0("pingpong", "p50_us", "-size", "64")/1000)
	report(median)
}
