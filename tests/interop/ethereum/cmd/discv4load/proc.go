package main

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
)

type proc struct {
	cpu        time.Duration
	user, sys  time.Duration
	rssKB, hwm int
	threads    int
}

func readProc(pid int) (p proc) {
	if pid == 0 {
		return
	}
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		die("pid %d: %v", pid, err)
	}
	f := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+2:]))
	u, _ := strconv.ParseInt(f[11], 10, 64)
	s, _ := strconv.ParseInt(f[12], 10, 64)
	p.user, p.sys = time.Duration(u)*10*time.Millisecond, time.Duration(s)*10*time.Millisecond
	p.cpu = p.user + p.sys
	b, _ = os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	for _, l := range strings.Split(string(b), "\n") {
		g := strings.Fields(l)
		if len(g) < 2 {
			continue
		}
		switch g[0] {
		case "VmRSS:":
			p.rssKB, _ = strconv.Atoi(g[1])
		case "VmHWM:":
			p.hwm, _ = strconv.Atoi(g[1])
		case "Threads:":
			p.threads, _ = strconv.Atoi(g[1])
		}
	}
	return
}

func selfCPU() time.Duration {
	var ru syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &ru)
	return time.Duration(ru.Utime.Nano() + ru.Stime.Nano())
}

func pct(l []int64, p float64) float64 {
	if len(l) == 0 {
		return 0
	}
	return float64(l[min(len(l)-1, int(float64(len(l))*p))]) / 1e3
}

func procOut(out map[string]any, p0, p1 proc, el time.Duration, reqs uint64) {
	if *pid == 0 {
		return
	}
	cpu := p1.cpu - p0.cpu
	out["server_cpu_us_per_req"] = float64(cpu.Microseconds()) / float64(max(1, reqs))
	out["server_cpu_cores"] = cpu.Seconds() / el.Seconds()
	out["server_user_share"] = float64(p1.user-p0.user) / float64(max(1, cpu))
	out["server_rss_mb"], out["server_rss_start_mb"] = float64(p1.rssKB)/1024, float64(p0.rssKB)/1024
	out["server_rss_peak_mb"] = float64(p1.hwm) / 1024
	out["server_threads"] = p1.threads
}

// udpDrops reads the kernel's drop counter of the server's socket.
func udpDrops(port uint16) (d int64) {
	for _, f := range []string{"/proc/net/udp", "/proc/net/udp6"} {
		b, _ := os.ReadFile(f)
		for _, l := range strings.Split(string(b), "\n") {
			g := strings.Fields(l)
			a := srv.Addr().As4()
			own := fmt.Sprintf("%02X%02X%02X%02X:%04X", a[3], a[2], a[1], a[0], port)
			if len(g) < 13 || (g[1] != own && strings.Trim(g[1], "0:") != strings.Trim(fmt.Sprintf(":%04X", port), "0:")) || !strings.HasSuffix(g[1], fmt.Sprintf(":%04X", port)) {
				continue
			}
			v, _ := strconv.ParseInt(g[12], 10, 64)
			d += v
		}
	}
	return
}
