package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// program is a subprocess whose stdout is read line by line; its stderr goes to ours.
type program struct {
	name  string
	cmd   *exec.Cmd
	stdin io.WriteCloser
	lines chan string
}

// running are killed at the end, whatever happens.
var running []*program

func start(name string, args ...string) *program {
	p := &program{name: name, cmd: exec.Command(args[0], args[1:]...), lines: make(chan string, 1<<14)}
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if os.Getenv("VERSUS_VERBOSE") != "" {
		p.cmd.Stderr = os.Stderr
	}
	var err error
	p.stdin, err = p.cmd.StdinPipe()
	must(err)
	stdout, err := p.cmd.StdoutPipe()
	must(err)
	must(p.cmd.Start())
	running = append(running, p)
	go func() {
		defer close(p.lines)
		in := bufio.NewScanner(stdout)
		in.Buffer(nil, 1<<20)
		for in.Scan() {
			p.lines <- in.Text()
		}
	}()
	return p
}

// line is the next line on stdout.
func (p *program) line(within time.Duration) string {
	select {
	case line, ok := <-p.lines:
		if !ok {
			fail("%s ended without a word", p.name)
		}
		return line
	case <-time.After(within):
		fail("%s said nothing within %v", p.name, within)
	}
	return ""
}

// figures is one JSON object.
type figures map[string]any

func (f figures) number(field string) float64 {
	n, ok := f[field].(float64)
	if !ok {
		fail("no figure %q in %v", field, map[string]any(f))
	}
	return n
}

// object is the next line on stdout that is a JSON object with that field.
func (p *program) object(within time.Duration, field string) figures {
	for end := time.Now().Add(within); ; {
		var f figures
		if json.Unmarshal([]byte(p.line(time.Until(end))), &f) == nil {
			if _, ok := f[field]; ok {
				return f
			}
		}
	}
}

func (p *program) say(line string) {
	_, err := io.WriteString(p.stdin, line+"\n")
	must(err)
}

func (p *program) pid() string { return fmt.Sprint(p.cmd.Process.Pid) }

// cpu is the processor time the program has used, children not counted.
func (p *program) cpu() float64 {
	raw, err := os.ReadFile("/proc/" + p.pid() + "/stat")
	must(err)
	var user, system float64
	fields := afterName(string(raw))
	fmt.Sscan(fields[11], &user)
	fmt.Sscan(fields[12], &system)
	return (user + system) / 100
}

// used is the processor time that a program which has ended used.
func (p *program) used() float64 {
	return (p.cmd.ProcessState.UserTime() + p.cmd.ProcessState.SystemTime()).Seconds()
}

// rss is the memory the program has now, MB.
func (p *program) rss() float64 {
	raw, err := os.ReadFile("/proc/" + p.pid() + "/status")
	must(err)
	for _, line := range strings.Split(string(raw), "\n") {
		var kb float64
		if n, _ := fmt.Sscanf(line, "VmRSS: %f kB", &kb); n == 1 {
			return kb / 1024
		}
	}
	fail("%s: no VmRSS", p.name)
	return 0
}

// wait waits for the program to end by itself.
func (p *program) wait(within time.Duration) {
	ended := make(chan error, 1)
	go func() {
		for range p.lines {
		}
		ended <- p.cmd.Wait()
	}()
	select {
	case err := <-ended:
		if err != nil {
			fail("%s: %v", p.name, err)
		}
	case <-time.After(within):
		fail("%s still runs after %v", p.name, within)
	}
	p.forget()
}

func (p *program) kill() {
	syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL)
	go func() {
		for range p.lines {
		}
	}()
	p.cmd.Wait()
	p.forget()
}

func (p *program) forget() {
	for i, other := range running {
		if other == p {
			running = append(running[:i], running[i+1:]...)
			return
		}
	}
}

func killAll() {
	for len(running) > 0 {
		running[0].kill()
	}
}

func fail(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "versus: "+format+"\n", args...)
	killAll()
	os.Exit(1)
}

func must(err error) {
	if err != nil {
		fail("%v", err)
	}
}
