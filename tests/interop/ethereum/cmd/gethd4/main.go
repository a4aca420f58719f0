// gethd4 runs one go-ethereum discv4 node on loopback; it prints its enode, then its ENR.
package main

import (
	"flag"
	"fmt"
	"net/netip"
	"os"
	"os/signal"
	"syscall"

	"kadwire/interop/ethereum/gethnet"
)

func main() {
	addr := flag.String("addr", "127.40.0.1:30301", "listen address")
	ping := flag.Duration("ping", 0, "PingInterval (0: go-ethereum's default of 3 s)")
	flag.Parse()
	gethnet.Quiet()
	at, err := netip.ParseAddrPort(*addr)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	node, err := gethnet.Start(at.Addr(), int(at.Port()), gethnet.Config{PingInterval: *ping})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println(node.Self().URLv4())
	fmt.Println(node.Self().String())
	end := make(chan os.Signal, 1)
	signal.Notify(end, os.Interrupt, syscall.SIGTERM)
	<-end
	node.Stop()
}
