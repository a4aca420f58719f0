// versus measures kadwire beside go-ethereum v1.17.10 and CometBFT v0.38.26 and v1.0.1 on this machine, all sides in turns, and prints one
// table. It is started by `run`, which builds everything; arguments name the parts to measure (discv4, flood, lookup, crawl, mconn, rlpx,
// idle, book, pex), all without.
package main

import (
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"syscall"
	"time"
)

// Paths of the programs, set by `run`.
var (
	bin     = os.Getenv("VERSUS_BIN")     // the Go programs
	release = os.Getenv("VERSUS_RELEASE") // cargo's release directory
)

func reference(name string) string { return filepath.Join(bin, name) }
func kadwire() string              { return filepath.Join(release, "kadwire") }

// builds are ours, by the library that signs; the first is the default.
var builds = []string{"k256", "libsecp256k1"}

func kadwireWith(build string) string { return filepath.Join(bin, "kadwire-"+build) }
func example(name string) string      { return filepath.Join(release, "examples", name) }

// Trials may be shorter than a measurement worth keeping: VERSUS_ROUNDS, VERSUS_SECONDS.
var (
	// rounds is how often each side is measured; they alternate.
	rounds = fromEnv("VERSUS_ROUNDS", 3)
	// tcpSeconds is how long one round of a TCP measurement takes.
	tcpSeconds = fromEnv("VERSUS_SECONDS", 2)
)

func fromEnv(name string, otherwise int) int {
	if n, err := strconv.Atoi(os.Getenv(name)); err == nil && n > 0 {
		return n
	}
	return otherwise
}

func main() {
	if bin == "" || release == "" {
		fail("start it with benches/versus/run")
	}
	end := make(chan os.Signal, 1)
	signal.Notify(end, os.Interrupt, syscall.SIGTERM)
	go func() { <-end; fail("interrupted") }()
	wanted := func(part string) bool { return len(os.Args) == 1 || slices.Contains(os.Args[1:], part) }
	begin := time.Now()
	if wanted("discv4") {
		discv4()
	}
	if wanted("flood") {
		flood()
	}
	if wanted("lookup") {
		lookup()
	}
	if wanted("crawl") {
		crawl(networkSize, "127.77.0.0", "≤ 3 s")
		crawl(2*networkSize, "127.79.0.0", "≤ 6 s")
	}
	if wanted("mconn") {
		secretHandshake()
		secretConnection()
		mconnection()
		pingPong()
	}
	if wanted("rlpx") {
		rlpxHandshake()
		rlpxMessages()
	}
	if wanted("idle") {
		idle()
	}
	if wanted("book") {
		book()
	}
	if wanted("pex") {
		pex()
	}
	killAll()
	fmt.Printf("\n`benches/versus/run`, %s, %d cores, %.0f s\n\n", time.Now().Format("2006-01-02"), runtime.NumCPU(), time.Since(begin).Seconds())
	printTable()
}
