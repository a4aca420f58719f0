package tendermint

import (
	"fmt"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"kadwire/interop/tendermint/comet"
)

// silentSockets is how many connect and say nothing: a CometBFT node of 40 inbound peers locks everybody out for 36 s.
const silentSockets = 500

// getsInWithin is a third of that; with nothing else to do it takes some 20 ms.
const getsInWithin = 12 * time.Second

// TestSilentSocketsKeepNobodyOut: they connect to `kadwire node`, say nothing, or a byte of the handshake now and then, and come back
// whenever they are thrown out, from one IP or from as many as they are. An honest CometBFT switch gets in at once.
func TestSilentSocketsKeepNobodyOut(t *testing.T) {
	one := func(int) string { return "127.115.1.1" }
	many := func(i int) string { return fmt.Sprintf("127.%d.%d.%d", 116+i%3, i/250, 1+i%250) }
	for _, siege := range []struct {
		name string
		from func(i int) string
		drip time.Duration
	}{{"from one IP", one, 0}, {"from 500 IPs", many, 0}, {"a byte now and then", many, 500 * time.Millisecond}} {
		t.Run(siege.name, func(t *testing.T) {
			_, mconn := startNode(t, "127.119.1.1", network)
			besiege(t, "127.119.1.1:26656", siege.from, siege.drip)
			for i := range 5 {
				// CometBFT dials from 127.0.0.1.
				honest := start(t, comet.Config{Listen: fmt.Sprintf("127.119.1.%d:26656", 10+i), Network: network, Moniker: "honest"})
				begin := time.Now()
				// CometBFT gives a dial one second, and its handshake three: on a very busy machine a first one may fail.
				waitUntil(t, getsInWithin, fmt.Sprintf("switch %d gets in", i), func() bool { return honest.Dial(mconn) == nil })
				t.Logf("switch %d got in after %v", i, time.Since(begin))
				time.Sleep(200 * time.Millisecond)
				if len(honest.Connected()) != 1 {
					t.Errorf("switch %d did not stay", i)
				}
			}
		})
	}
}

// ephemeralKey begins the message that begins a handshake, and goes on for longer than anybody waits.
var ephemeralKey = append([]byte{0x22, 0x0a, 0x20}, make([]byte, 1000)...)

// besiege keeps so many silent sockets open until the test ends, and returns when all have been connected once. With drip each sends a byte
// so often: an ephemeral key that never ends.
func besiege(t *testing.T, to string, from func(i int) string, drip time.Duration) {
	var connected atomic.Int64
	stop := make(chan struct{})
	t.Cleanup(func() { close(stop) })
	for i := range silentSockets {
		dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from(i))}, Timeout: time.Second}
		go func() {
			for first := true; ; {
				conn, err := dialer.Dial("tcp", to)
				if err == nil && first {
					connected.Add(1)
					first = false
				}
				for n := 0; err == nil && drip > 0; n++ { // until it is thrown out
					_, err = conn.Write(ephemeralKey[n : n+1])
					time.Sleep(drip)
				}
				for err == nil {
					conn.SetReadDeadline(time.Now().Add(time.Minute))
					_, err = conn.Read(make([]byte, 64))
				}
				if conn != nil {
					conn.Close()
				}
				select {
				case <-stop:
					return
				case <-time.After(50 * time.Millisecond):
				}
			}
		}()
	}
	waitUntil(t, time.Minute, "all silent sockets have connected", func() bool { return connected.Load() == silentSockets })
}
