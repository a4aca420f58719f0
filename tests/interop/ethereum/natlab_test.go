package ethereum

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"kadwire/interop/harness"
)

// A home network, a gateway and an internet, in three network namespaces of their own:
//
//	lan 192.168.77.2 ── 192.168.77.1 gateway 24.61.0.1 ── 24.61.0.9, 24.61.0.10 internet
//
// The gateway is Linux with nftables, which masquerades; miniupnpd opens ports in it. Needs root, since it makes namespaces.
type natLab struct {
	t                    *testing.T
	lan, gateway, inside string // names of the namespaces; inside is a second host of the home network
	internet             string
	dir                  string
}

const (
	lanIP, gatewayIP  = "192.168.77.2", "192.168.77.1"
	neighbourIP       = "192.168.77.3"
	externalIP        = "24.61.0.1"
	stunIP, stunOther = "24.61.0.9", "24.61.0.10"
)

// program gives the path of a program, and installs the Debian package that has it if it is missing.
func program(t *testing.T, name, debianPackage string) string {
	t.Helper()
	find := func() string {
		for _, dir := range append(filepath.SplitList(os.Getenv("PATH")), "/usr/sbin", "/sbin") {
			path := filepath.Join(dir, name)
			if info, err := os.Stat(path); err == nil && info.Mode()&0o111 != 0 {
				return path
			}
		}
		return ""
	}
	if path := find(); path != "" {
		return path
	}
	for _, args := range [][]string{{"update"}, {"install", "-y", "--no-install-recommends", debianPackage}} {
		apt := exec.Command("apt-get", args...)
		apt.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
		if out, err := apt.CombinedOutput(); err != nil {
			t.Fatalf("%s is missing, and apt-get %s failed: %v\n%s", name, strings.Join(args, " "), err, out)
		}
	}
	path := find()
	if path == "" {
		t.Fatalf("%s is not in the Debian package %s", name, debianPackage)
	}
	return path
}

func newNatLab(t *testing.T) *natLab {
	t.Helper()
	ip, nft := program(t, "ip", "iproute2"), program(t, "nft", "nftables")
	name := func(what string) string { return fmt.Sprintf("kw%d-%s", os.Getpid(), what) }
	l := &natLab{t: t, lan: name("lan"), inside: name("near"), gateway: name("gw"), internet: name("net"), dir: t.TempDir()}
	run := func(line string) {
		t.Helper()
		args := strings.Fields(line)
		if out, err := exec.Command(ip, args...).CombinedOutput(); err != nil {
			t.Fatalf("ip %s: %v: %s (these tests make network namespaces, which takes root)", line, err, out)
		}
	}
	for _, ns := range []string{l.lan, l.inside, l.gateway, l.internet} {
		run("netns add " + ns)
		t.Cleanup(func() { exec.Command(ip, "netns", "del", ns).Run() })
		run("-n " + ns + " link set lo up")
	}
	// The home network is a bridge in the gateway.
	run("-n " + l.gateway + " link add home type bridge")
	for ns, address := range map[string]string{l.lan: lanIP, l.inside: neighbourIP} {
		port := "p" + address[len(address)-1:]
		run("link add " + port + " netns " + l.gateway + " type veth peer name eth0 netns " + ns)
		run("-n " + l.gateway + " link set " + port + " master home up")
		run("-n " + ns + " addr add " + address + "/24 dev eth0")
		run("-n " + ns + " link set eth0 up")
		run("-n " + ns + " route add default via " + gatewayIP)
	}
	run("-n " + l.gateway + " addr add " + gatewayIP + "/24 dev home")
	run("-n " + l.gateway + " link set home up")
	run("link add wan netns " + l.gateway + " type veth peer name eth0 netns " + l.internet)
	run("-n " + l.gateway + " addr add " + externalIP + "/24 dev wan")
	run("-n " + l.gateway + " link set wan up")
	run("-n " + l.internet + " addr add " + stunIP + "/24 dev eth0")
	run("-n " + l.internet + " addr add " + stunOther + "/24 dev eth0")
	run("-n " + l.internet + " link set eth0 up")

	rules := filepath.Join(l.dir, "nft")
	l.write(rules, `table inet filter {
	chain forward { type filter hook forward priority 0; policy drop; ct state established,related accept; iifname "home" accept; jump miniupnpd; }
	chain miniupnpd { }
	chain prerouting_miniupnpd { }
	chain postrouting_miniupnpd { }
	chain prerouting { type nat hook prerouting priority -100; jump prerouting_miniupnpd; }
	chain postrouting { type nat hook postrouting priority 100; oifname "wan" masquerade; }
}
`)
	l.must(l.gateway, nft, "-f", rules)
	l.must(l.gateway, "sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward")
	return l
}

func (l *natLab) write(path, text string) {
	l.t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		l.t.Fatal(err)
	}
}

// must runs a program in a namespace to its end.
func (l *natLab) must(ns string, args ...string) {
	l.t.Helper()
	if got := l.run(ns, args...); got.Code != 0 {
		l.t.Fatalf("%v in %s: exit %d: %s %s", args, ns, got.Code, got.Stdout, got.Stderr)
	}
}

func (l *natLab) run(ns string, args ...string) harness.Result {
	l.t.Helper()
	return harness.Run(l.t, startup, args[0], program(l.t, "ip", "iproute2"), append([]string{"netns", "exec", ns}, args...)...)
}

// start starts a program in a namespace. `ip netns exec` becomes the program, so that signals reach it.
func (l *natLab) start(ns string, args ...string) *harness.Process {
	l.t.Helper()
	return harness.Start(l.t, filepath.Base(args[0]), program(l.t, "ip", "iproute2"), append([]string{"netns", "exec", ns}, args...)...)
}

// openGateway starts miniupnpd: UPnP IGD, NAT-PMP and PCP.
func (l *natLab) openGateway() {
	l.t.Helper()
	daemon := program(l.t, "miniupnpd", "miniupnpd-nftables")
	conf := filepath.Join(l.dir, "miniupnpd.conf")
	l.write(conf, strings.Join([]string{
		"ext_ifname=wan", "listening_ip=home", "enable_natpmp=yes", "enable_upnp=yes", "secure_mode=yes", "min_lifetime=2",
		"lease_file=" + l.leaseFile(), "uuid=6b616477-6972-4652-8000-000000000001", "allow 1024-65535 192.168.77.0/24 1024-65535", "",
	}, "\n"))
	l.write(l.leaseFile(), "")
	p := l.start(l.gateway, daemon, "-d", "-f", conf, "-P", filepath.Join(l.dir, "miniupnpd.pid"))
	within(l.t, startup, "miniupnpd listens", func() bool {
		return strings.Contains(p.Stderr(), "Listening for NAT-PMP")
	})
}

func (l *natLab) leaseFile() string { return filepath.Join(l.dir, "leases") }

// leases are the mappings that miniupnpd has now, as PROTOCOL:OUTSIDE:HOST:PORT.
func (l *natLab) leases() []string {
	l.t.Helper()
	raw, err := os.ReadFile(l.leaseFile())
	if err != nil && !os.IsNotExist(err) {
		l.t.Fatal(err)
	}
	var leases []string
	for _, line := range strings.Fields(string(raw)) {
		if parts := strings.Split(line, ":"); len(parts) >= 4 {
			leases = append(leases, strings.Join(parts[:4], ":"))
		}
	}
	return leases
}

// isMapped says whether the gateway really forwards: whether its firewall has a rule for the port.
func (l *natLab) isMapped(outside string) bool {
	l.t.Helper()
	rules := l.run(l.gateway, program(l.t, "nft", "nftables"), "list", "chain", "inet", "filter", "prerouting_miniupnpd")
	return strings.Contains(rules.Stdout, "dport "+outside+" ")
}

func within(t *testing.T, limit time.Duration, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(limit); ; time.Sleep(20 * time.Millisecond) {
		if is() {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("not within %v: %s", limit, what)
		}
	}
}

// terminate ends a process as an init system does.
func terminate(t *testing.T, p *harness.Process) {
	t.Helper()
	syscall.Kill(p.Pid(), syscall.SIGTERM)
	if code := p.Exited(startup); code != 0 {
		t.Fatalf("exit code %d after SIGTERM: %s", code, p.Stderr())
	}
}
