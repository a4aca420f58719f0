package harness

import (
	"net"
	"sync"
	"testing"
	"time"
)

// Proxy carries TCP streams between two programs, and can fail them as networks do.
type Proxy struct {
	listener net.Listener
	target   string

	mu     sync.Mutex
	wake   *sync.Cond
	frozen bool
	rate   int
	open   []net.Conn
}

// StartProxy listens on `at` and carries every stream to `target`, until the test ends.
func StartProxy(t testing.TB, at, target string) *Proxy {
	t.Helper()
	listener, err := net.Listen("tcp", at)
	if err != nil {
		t.Fatal(err)
	}
	p := &Proxy{listener: listener, target: target}
	p.wake = sync.NewCond(&p.mu)
	t.Cleanup(p.Cut)
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			one, err := listener.Accept()
			if err != nil {
				return
			}
			other, err := net.Dial("tcp", target)
			if err != nil {
				one.Close()
				continue
			}
			p.mu.Lock()
			p.open = append(p.open, one, other)
			p.mu.Unlock()
			go p.carry(one, other)
			go p.carry(other, one)
		}
	}()
	return p
}

// Streams is how many it has open.
func (p *Proxy) Streams() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.open) / 2
}

// Address is where it listens.
func (p *Proxy) Address() string { return p.listener.Addr().String() }

// Freeze carries nothing more, in either direction, and closes nothing: as a cable that was pulled.
func (p *Proxy) Freeze() { p.set(func() { p.frozen = true }) }

// Thaw carries on, and what has waited first.
func (p *Proxy) Thaw() { p.set(func() { p.frozen = false }) }

// Limit carries at most so many bytes a second in each direction.
func (p *Proxy) Limit(bytesPerSecond int) { p.set(func() { p.rate = bytesPerSecond }) }

// Cut closes every stream.
func (p *Proxy) Cut() {
	p.set(func() {
		p.frozen = false
		for _, conn := range p.open {
			conn.Close()
		}
		p.open = nil
	})
}

func (p *Proxy) set(change func()) {
	p.mu.Lock()
	change()
	p.mu.Unlock()
	p.wake.Broadcast()
}

// A limited line that had bytes waiting and was woken late, as on a busy machine, makes up for that; not so one that waited for bytes, or
// was held up.
const waited, heldUp = 5 * time.Millisecond, time.Second

func (p *Proxy) carry(from, to net.Conn) {
	defer from.Close()
	defer to.Close()
	buffer := make([]byte, 16<<10)
	var free time.Time // when what was carried has gone over the line
	for {
		asked := time.Now()
		n, err := from.Read(buffer)
		if now := time.Now(); now.Sub(asked) > waited || now.Sub(free) > heldUp {
			free = now
		}
		p.mu.Lock()
		for p.frozen {
			p.wake.Wait()
		}
		rate := p.rate
		p.mu.Unlock()
		if n > 0 {
			if _, err := to.Write(buffer[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
		if rate > 0 {
			free = free.Add(time.Duration(n) * time.Second / time.Duration(rate))
			time.Sleep(time.Until(free))
		}
	}
}
