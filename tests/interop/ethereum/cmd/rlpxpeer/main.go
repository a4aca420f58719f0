// rlpxpeer is one end of go-ethereum's RLPx connection (p2p/rlpx, Hello and snappy as its p2p.Server has them, without the server), to be
// measured beside ours and against it.
//
//	rlpxpeer listen                              prints its enode, then one JSON line for each peer that leaves
//	rlpxpeer dial -size 65536 -dur 2s ENODE      sends messages of one size, as fast as the connection takes them
//	rlpxpeer accept                              prints its enode, then answers encryption handshakes until it is killed
//	rlpxpeer handshakes -n 1000 ENODE            as many, one after the other
package main

import (
	"crypto/ecdsa"
	crand "crypto/rand"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"time"

	"github.com/ethereum/go-ethereum/crypto"
	"github.com/ethereum/go-ethereum/p2p/enode"
	"github.com/ethereum/go-ethereum/p2p/rlpx"
	"github.com/ethereum/go-ethereum/rlp"
)

// Codes of the base protocol, and the first of the only other one.
const (
	hello      = 0
	disconnect = 1
	ping       = 2
	pong       = 3
	first      = 16
)

type capability struct {
	Name    string
	Version uint
}

// handshake is the Hello of devp2p version 5.
type handshake struct {
	Version    uint64
	Name       string
	Caps       []capability
	ListenPort uint64
	ID         []byte
	Rest       []rlp.RawValue `rlp:"tail"`
}

func main() {
	flags := flag.NewFlagSet("rlpxpeer", flag.ExitOnError)
	addr := flags.String("addr", "127.0.0.1:0", "where to listen")
	size := flags.Int("size", 65536, "bytes of a message")
	dur := flags.Duration("dur", 2*time.Second, "how long to send")
	n := flags.Int("n", 1000, "handshakes")
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "usage: rlpxpeer listen|dial|accept|handshakes [flags] [ENODE]")
		os.Exit(2)
	}
	must(flags.Parse(os.Args[2:]))
	key, err := crypto.GenerateKey()
	must(err)
	switch os.Args[1] {
	case "listen":
		listen(*addr, key, func(fd net.Conn) {
			c := connect(fd, key, nil)
			sink(c)
		})
	case "accept":
		listen(*addr, key, func(fd net.Conn) {
			if _, err := rlpx.NewConn(fd, nil).Handshake(key); err != nil {
				fmt.Fprintln(os.Stderr, "rlpxpeer:", err)
			}
		})
	case "dial":
		send(connect(dial(flags.Arg(0)), key, public(flags.Arg(0))), *size, *dur)
	case "handshakes":
		for range *n {
			fd := dial(flags.Arg(0))
			_, err := rlpx.NewConn(fd, public(flags.Arg(0))).Handshake(key)
			must(err)
			fd.Close()
		}
	}
}

func listen(addr string, key *ecdsa.PrivateKey, serve func(net.Conn)) {
	ln, err := net.Listen("tcp", addr)
	must(err)
	at := ln.Addr().(*net.TCPAddr)
	fmt.Println(enode.NewV4(&key.PublicKey, at.IP, at.Port, 0).URLv4())
	for {
		fd, err := ln.Accept()
		must(err)
		go func() {
			defer fd.Close()
			serve(fd)
		}()
	}
}

func dial(url string) net.Conn {
	node := enode.MustParse(url)
	fd, err := net.Dial("tcp", fmt.Sprintf("%v:%d", node.IP(), node.TCP()))
	must(err)
	return fd
}

func public(url string) *ecdsa.PublicKey { return enode.MustParse(url).Pubkey() }

// connect is what go-ethereum's transport does before a peer runs; remote is nil for whoever dialed us.
func connect(fd net.Conn, key *ecdsa.PrivateKey, remote *ecdsa.PublicKey) *rlpx.Conn {
	c := rlpx.NewConn(fd, remote)
	_, err := c.Handshake(key)
	must(err)
	ours := handshake{Version: 5, Name: "rlpxpeer", Caps: []capability{{"bench", 1}}, ID: crypto.FromECDSAPub(&key.PublicKey)[1:]}
	raw, err := rlp.EncodeToBytes(&ours)
	must(err)
	written := make(chan error, 1)
	go func() { _, err := c.Write(hello, raw); written <- err }()
	code, data, _, err := c.Read()
	must(err)
	must(<-written)
	var theirs handshake
	if code != hello || rlp.DecodeBytes(data, &theirs) != nil {
		must(fmt.Errorf("no Hello: code %d, %x", code, data))
	}
	c.SetSnappy(theirs.Version >= 5)
	return c
}

// sink reads until the peer leaves.
func sink(c *rlpx.Conn) {
	var messages, bytes uint64
	var begin, end time.Time
	for {
		code, data, _, err := c.Read()
		if err != nil || code == disconnect {
			break
		}
		switch code {
		case ping:
			_, err = c.Write(pong, []byte{0xc0})
			must(err)
		case first:
			if end = time.Now(); begin.IsZero() {
				begin = end
			}
			messages++
			bytes += uint64(len(data))
		}
	}
	out(messages, bytes, end.Sub(begin).Seconds())
}

func send(c *rlpx.Conn, size int, dur time.Duration) {
	data := make([]byte, size)
	crand.Read(data)
	var messages uint64
	begin := time.Now()
	for ; messages&63 != 0 || time.Since(begin) < dur; messages++ {
		_, err := c.Write(first, data)
		must(err)
	}
	// Reason 8: we are quitting.
	_, err := c.Write(disconnect, []byte{0xc1, 8})
	must(err)
	out(messages, messages*uint64(size), time.Since(begin).Seconds())
	// Until the peer has read all that, and leaves.
	for err == nil {
		_, _, _, err = c.Read()
	}
	c.Close()
}

func out(messages, bytes uint64, seconds float64) {
	must(json.NewEncoder(os.Stdout).Encode(map[string]any{
		"messages": messages, "bytes": bytes, "seconds": seconds,
		"msgs_per_s": float64(messages) / seconds, "MB_per_s": float64(bytes) / 1e6 / seconds,
	}))
}

func must(err error) {
	if err != nil && !errors.Is(err, net.ErrClosed) {
		fmt.Fprintln(os.Stderr, "rlpxpeer:", err)
		os.Exit(1)
	}
}
