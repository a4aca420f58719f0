// Package harness starts the programs under test as subprocesses and listens to what they say.
// A process and everything it starts die with the test (own process group, t.Cleanup).
package harness

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Kadwire is the path of the binary under test: KADWIRE_BIN, which tests/interop/run sets.
func Kadwire(t testing.TB) string { return fromEnv(t, "KADWIRE_BIN") }

// Devp2p is the path of go-ethereum's devp2p tool: DEVP2P_BIN.
func Devp2p(t testing.TB) string { return fromEnv(t, "DEVP2P_BIN") }

// CometBFT is the path of a real CometBFT node: COMETBFT_BIN.
func CometBFT(t testing.TB) string { return fromEnv(t, "COMETBFT_BIN") }

// MconnPeer is the path of kadwire-wire's example mconn_peer: MCONN_PEER_BIN.
func MconnPeer(t testing.TB) string { return fromEnv(t, "MCONN_PEER_BIN") }

// Discv4Lookup is the path of kadwire-discovery's example discv4_lookup: DISCV4_LOOKUP_BIN.
func Discv4Lookup(t testing.TB) string { return fromEnv(t, "DISCV4_LOOKUP_BIN") }

// AddressBook is the path of kadwire's example address_book: ADDRESS_BOOK_BIN.
func AddressBook(t testing.TB) string { return fromEnv(t, "ADDRESS_BOOK_BIN") }

// EchoProtocols is the path of kadwire's example echo_protocols: ECHO_PROTOCOLS_BIN.
func EchoProtocols(t testing.TB) string { return fromEnv(t, "ECHO_PROTOCOLS_BIN") }

func fromEnv(t testing.TB, name string) string {
	t.Helper()
	path := os.Getenv(name)
	if path == "" {
		t.Fatalf("%s is not set: start these tests with tests/interop/run", name)
	}
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return path
}

// lineBacklog is how many stdout lines may wait unread; a process that prints more waits for its reader.
const lineBacklog = 1 << 14

// Process is a running subprocess whose stdout is read line by line.
type Process struct {
	t     testing.TB
	name  string
	cmd   *exec.Cmd
	stdin io.WriteCloser
	lines chan string
	done  chan struct{}
	code  int

	mu     sync.Mutex
	stderr bytes.Buffer
	said   []string
}

// Start starts a program. Its stderr is kept and shown when the test fails.
func Start(t testing.TB, name, program string, args ...string) *Process {
	t.Helper()
	p := &Process{t: t, name: name, cmd: exec.Command(program, args...), lines: make(chan string, lineBacklog), done: make(chan struct{})}
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	stderr, err := p.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if p.stdin, err = p.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	var readers sync.WaitGroup
	readers.Add(2)
	go func() {
		defer readers.Done()
		defer close(p.lines)
		in := bufio.NewReaderSize(stdout, 1<<16)
		for {
			line, err := in.ReadString('\n')
			if line = strings.TrimRight(line, "\r\n"); line != "" {
				p.mu.Lock()
				p.said = append(p.said, line)
				p.mu.Unlock()
				p.lines <- line
			}
			if err != nil {
				return
			}
		}
	}()
	go func() {
		defer readers.Done()
		buf := make([]byte, 4096)
		for {
			n, err := stderr.Read(buf)
			p.mu.Lock()
			p.stderr.Write(buf[:n])
			p.mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	go func() {
		readers.Wait()
		p.code = exitCode(p.cmd.Wait())
		close(p.done)
	}()
	t.Cleanup(func() {
		p.Kill()
		if t.Failed() {
			t.Logf("---- %s: stdout\n%s\n---- %s: stderr\n%s", name, tail(strings.Join(p.Said(), "\n")), name, tail(p.Stderr()))
		}
	})
	return p
}

func exitCode(err error) int {
	var exit *exec.ExitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &exit):
		return exit.ExitCode()
	default:
		return -1
	}
}

func tail(s string) string {
	const most = 8000
	if len(s) > most {
		return "…" + s[len(s)-most:]
	}
	return s
}

// Kill ends the process and its group at once.
func (p *Process) Kill() {
	select {
	case <-p.done:
	default:
		syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL)
		// Unblock the stdout reader: nobody will read these lines.
		go func() {
			for range p.lines {
			}
		}()
		<-p.done
	}
}

// Interrupt asks the process to end by itself (SIGINT).
func (p *Process) Interrupt() { syscall.Kill(p.cmd.Process.Pid, syscall.SIGINT) }

// Pid is the process id.
func (p *Process) Pid() int { return p.cmd.Process.Pid }

// Waited is how long its threads have been ready to run, and were not: the machine did other things. 0 where Linux does not say.
func (p *Process) Waited() (waited time.Duration) {
	threads, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", p.Pid()))
	for _, thread := range threads {
		raw, _ := os.ReadFile(thread)
		var ran, waits time.Duration
		fmt.Sscan(string(raw), &ran, &waits)
		waited += waits
	}
	return waited
}

// Write gives one line to the process's stdin.
func (p *Process) Write(line string) {
	p.t.Helper()
	if _, err := io.WriteString(p.stdin, line+"\n"); err != nil {
		p.t.Fatalf("%s: stdin: %v", p.name, err)
	}
}

// Stderr is everything said on stderr so far.
func (p *Process) Stderr() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.stderr.String()
}

// Said is every stdout line so far, read or not.
func (p *Process) Said() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]string(nil), p.said...)
}

// Line is the next stdout line.
func (p *Process) Line(within time.Duration) string {
	p.t.Helper()
	line, err := p.next(time.After(within))
	if err != "" {
		p.t.Fatalf("%s: no line on stdout: %s\nstderr: %s", p.name, err, tail(p.Stderr()))
	}
	return line
}

func (p *Process) next(timeout <-chan time.Time) (string, string) {
	select {
	case line, ok := <-p.lines:
		if !ok {
			return "", "it ended"
		}
		return line, ""
	case <-timeout:
		return "", "too late"
	}
}

// Event is one JSON object of a process that prints one a line.
type Event map[string]any

// Text is a field as a string, "" when it is absent.
func (e Event) Text(field string) string {
	s, _ := e[field].(string)
	return s
}

// Number is a field as a number, 0 when it is absent.
func (e Event) Number(field string) float64 {
	n, _ := e[field].(float64)
	return n
}

// Events gives every stdout line so far, read or not, as JSON objects; any other line fails the test.
func (p *Process) Events() []Event {
	p.t.Helper()
	var all []Event
	for _, line := range p.Said() {
		var e Event
		if json.Unmarshal([]byte(line), &e) != nil {
			p.t.Fatalf("%s: not a JSON object: %q", p.name, line)
		}
		all = append(all, e)
	}
	return all
}

// Until reads JSON lines until one satisfies wanted; anything that is not a JSON object fails the test.
func (p *Process) Until(within time.Duration, what string, wanted func(Event) bool) Event {
	p.t.Helper()
	timeout := time.After(within)
	for {
		line, err := p.next(timeout)
		if err != "" {
			p.t.Fatalf("%s: waiting for %s: %s\nlast lines: %s\nstderr: %s", p.name, what, err, lastLines(p.Said(), 5), tail(p.Stderr()))
		}
		var e Event
		if json.Unmarshal([]byte(line), &e) != nil {
			p.t.Fatalf("%s: not a JSON object: %q", p.name, line)
		}
		if wanted(e) {
			return e
		}
	}
}

func lastLines(lines []string, n int) string {
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

// Exited waits for the process to end by itself and gives its exit code.
func (p *Process) Exited(within time.Duration) int {
	p.t.Helper()
	go func() {
		for range p.lines {
		}
	}()
	select {
	case <-p.done:
		return p.code
	case <-time.After(within):
		p.t.Fatalf("%s: still running after %v\nstderr: %s", p.name, within, tail(p.Stderr()))
		return -1
	}
}

// Running says whether the process has not ended yet.
func (p *Process) Running() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// Result is what a program that ended by itself left behind.
type Result struct {
	Code           int
	Stdout, Stderr string
	Took           time.Duration
}

// Run runs a program to its end.
func Run(t testing.TB, within time.Duration, name, program string, args ...string) Result {
	t.Helper()
	start := time.Now()
	p := Start(t, name, program, args...)
	p.stdin.Close()
	code := p.Exited(within)
	return Result{Code: code, Stdout: strings.Join(p.Said(), "\n"), Stderr: p.Stderr(), Took: time.Since(start)}
}
