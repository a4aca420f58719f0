package tendermint

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cometbft/cometbft/p2p"

	"kadwire/interop/harness"
	"kadwire/interop/tendermint/comet"
)

// startSeed starts `kadwire seed` and gives its address, `id@ip:port`.
func startSeed(t *testing.T, ip, chainID, home string, args ...string) (process *harness.Process, mconn string) {
	t.Helper()
	args = append([]string{"seed", "--home", home, "--laddr", "tcp://" + ip + ":26656", "--chain-id", chainID, "--json", "--status-every", "0.1"}, args...)
	process = harness.Start(t, "seed "+ip, harness.Kadwire(t), args...)
	first := process.Until(startup, "listening", func(harness.Event) bool { return true })
	if first.Text("event") != "listening" || first.Text("chain_id") != chainID {
		t.Fatalf("the first line is not of the event listening: %v", first)
	}
	return process, first.Text("mconn")
}

// untilReachable waits until a seed passes on so many addresses.
func untilReachable(seed *harness.Process, count int, within time.Duration) harness.Event {
	return seed.Until(within, fmt.Sprintf("%d reachable", count), func(e harness.Event) bool {
		return e.Text("event") == "status" && int(e.Number("reachable")) == count
	})
}

// inBook gives the addresses in an addrbook.json, by id.
func inBook(t *testing.T, file string) map[string]string {
	t.Helper()
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var book struct {
		Addrs []struct {
			Addr struct {
				ID, IP string
				Port   int
			}
		}
	}
	if err := json.Unmarshal(raw, &book); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	all := map[string]string{}
	for _, entry := range book.Addrs {
		all[entry.Addr.ID] = fmt.Sprintf("%s:%d", entry.Addr.IP, entry.Addr.Port)
	}
	return all
}

// told gives what a CometBFT switch, new to the network, learns from its only seed. The switch is there until it is stopped.
func told(t *testing.T, seed string) (answer []*p2p.NetAddress, stop func()) {
	t.Helper()
	// Its PEX period is long: it asks the seed, and those it is told of, once. It says that it listens on a port that nobody gets to.
	s, stop := startStoppable(t, comet.Config{Listen: "127.112.250.1:0", Network: network, Moniker: "newcomer", Pex: true, Dir: t.TempDir()})
	if err := s.Dial(seed); err != nil {
		t.Fatal(err)
	}
	nextGone(t, s)
	return s.Book.GetSelection(), stop
}

// startStoppable starts a CometBFT switch that may be stopped before the test ends.
func startStoppable(t *testing.T, cfg comet.Config) (s *comet.Switch, stop func()) {
	t.Helper()
	s, err := comet.Start(cfg)
	if err != nil {
		t.Fatalf("CometBFT switch on %s: %v", cfg.Listen, err)
	}
	stop = sync.OnceFunc(s.Stop)
	t.Cleanup(stop)
	return s, stop
}

// TestSeedKnowsEverySwitchBehindAHub: one ordinary CometBFT node knows 99 others. CometBFT's own seed takes 30 s from there, because it
// crawls every 30 s. Ours takes less than a second on a machine with nothing else to do, which benches/versus measures.
func TestSeedKnowsEverySwitchBehindAHub(t *testing.T) {
	const size = 100
	switches, err := comet.StartNetwork(size, network, t.TempDir(), 1, false, 5*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(switches.Stop)
	waitForBook(t, switches.Switches[0], size-1, time.Minute)
	home := t.TempDir()
	begin := time.Now()
	seed, _ := startSeed(t, "127.111.1.1", network, home, "--seeds", switches.Switches[0].Address.String())
	untilReachable(seed, size, time.Minute)
	t.Logf("reached %d of %d real switches in %.2f s", size, size, time.Since(begin).Seconds())
	seed.Interrupt()
	if code := seed.Exited(startup); code != 0 {
		t.Errorf("exit code %d after SIGINT", code)
	}
	known := inBook(t, filepath.Join(home, "config", "addrbook.json"))
	for _, s := range switches.Switches {
		if known[string(s.Address.ID)] != s.Address.DialString() {
			t.Errorf("%v is not in the saved book: %q", s.Address, known[string(s.Address.ID)])
		}
	}
	if len(known) != size {
		t.Errorf("%d addresses in the saved book", len(known))
	}
}

// TestSeedServesOnlyWhatItReached: one real peer tells of 900 addresses where nobody is; others die. A CometBFT node that asks the seed hears
// of the living only.
func TestSeedServesOnlyWhatItReached(t *testing.T) {
	var switches []*comet.Switch
	var stops []func()
	for i := range 6 {
		s, stop := startStoppable(t, comet.Config{
			Listen: fmt.Sprintf("127.112.%d.1:26656", i), Network: network, Moniker: fmt.Sprintf("comet%d", i), Pex: true, Dir: t.TempDir(),
		})
		switches, stops = append(switches, s), append(stops, stop)
	}
	liar, honest := switches[0], switches[1]
	for _, s := range switches[2:] {
		if err := honest.Book.AddAddress(s.Address, honest.Address); err != nil {
			t.Fatal(err)
		}
	}
	lies := 0
	for i := range 900 {
		false_, err := p2p.NewNetAddressString(fmt.Sprintf("%040x@127.%d.%d.77:26656", i+1, 130+i%100, i/100))
		if err != nil {
			t.Fatal(err)
		}
		if liar.Book.AddAddress(false_, liar.Address) == nil {
			lies++
		}
	}
	seed, mconn := startSeed(t, "127.111.2.1", network, t.TempDir(), "--recheck", "2",
		"--seeds", liar.Address.String()+","+honest.Address.String())
	untilReachable(seed, len(switches), startup)
	lied := seed.Until(startup, "false addresses, none of them reached", func(e harness.Event) bool {
		unreachable, _ := e["unreachable"].(map[string]any)
		refused, _ := unreachable["refused"].(float64)
		return refused >= 50
	})
	t.Logf("%d false addresses in the liar's book; the seed: known %v, reachable %v, unreachable %v", liar.Book.Size()-1, lied["known"], lied["reachable"], lied["unreachable"])
	if lies < 800 {
		t.Errorf("CometBFT took only %d of 900 false addresses", lies)
	}
	expect := func(living []*comet.Switch) (stop func()) {
		t.Helper()
		answer, stop := told(t, mconn)
		var want, got []string
		for _, s := range living {
			want = append(want, string(s.Address.ID))
		}
		for _, address := range answer {
			// The seed introduces itself, too.
			if !strings.HasPrefix(mconn, string(address.ID)) {
				got = append(got, string(address.ID))
			}
		}
		slices.Sort(want)
		slices.Sort(got)
		if !slices.Equal(want, got) {
			t.Errorf("a CometBFT node was told of %d peers %v, want %v", len(got), got, want)
		}
		return stop
	}
	leaves := expect(switches)
	// The newcomer is reached while it is there, and demoted when it is visited again, which is not before 10 s are over.
	untilReachable(seed, len(switches)+1, startup)
	leaves()
	untilReachable(seed, len(switches), startup)
	for _, stop := range stops[4:] {
		stop()
	}
	died := time.Now()
	untilReachable(seed, 4, startup)
	t.Logf("two dead switches demoted %.1f s after their end, with re-checks every 2 s", time.Since(died).Seconds())
	expect(switches[:4])
}

// TestCometBFTNodesThatTakeOneConnectionPerIPMeetThroughOurSeed: by default a CometBFT node refuses our visit while it is connected with us,
// and looks for peers every 30 s only. Nobody is known, and both ask at once.
func TestCometBFTNodesThatTakeOneConnectionPerIPMeetThroughOurSeed(t *testing.T) {
	seed, mconn := startSeed(t, "127.111.3.1", network, t.TempDir())
	var switches []*comet.Switch
	begin := time.Now()
	for i := range 2 {
		switches = append(switches, start(t, comet.Config{
			Listen: fmt.Sprintf("127.112.%d.1:26656", 200+i), Network: network, Moniker: fmt.Sprintf("comet%d", i), Pex: true, Dir: t.TempDir(),
			Seeds: []string{mconn}, OnePerIP: true,
		}))
	}
	waitUntil(t, startup, "the two are peers", func() bool {
		return switches[0].Peers().Has(switches[1].Address.ID) && switches[1].Peers().Has(switches[0].Address.ID)
	})
	t.Logf("met %.1f s after the first one was started", time.Since(begin).Seconds())
	untilReachable(seed, 2, startup)
}

// TestCometBFTNetworkWithOurSeed runs four real validators whose only way to each other is our seed.
func TestCometBFTNetworkWithOurSeed(t *testing.T) {
	t.Parallel()
	const validators = 4
	cometbft, dir := harness.CometBFT(t), t.TempDir()
	if out, err := exec.Command(cometbft, "testnet", "--v", fmt.Sprint(validators), "--n", "0", "--o", dir,
		"--starting-ip-address", "127.111.0.11", "--populate-persistent-peers=false").CombinedOutput(); err != nil {
		t.Fatalf("cometbft testnet: %v\n%s", err, out)
	}
	genesis := harness.Object(t, filepath.Join(dir, "node0/config/genesis.json"))
	home := t.TempDir()
	seed, mconn := startSeed(t, "127.111.0.1", genesis.Text("chain_id"), home)
	begin := time.Now()
	want := map[string]string{}
	for i := range validators {
		ip, home := fmt.Sprintf("127.111.0.%d", 11+i), filepath.Join(dir, fmt.Sprintf("node%d", i))
		configure(t, filepath.Join(home, "config/config.toml"), map[string]string{
			"seeds": mconn, "persistent_peers": "", "external_address": ip + ":26656",
		})
		out, err := exec.Command(cometbft, "show-node-id", "--home", home).Output()
		if err != nil {
			t.Fatal(err)
		}
		want[strings.TrimSpace(string(out))] = ip + ":26656"
		harness.Start(t, "cometbft "+ip, cometbft, "node", "--home", home, "--proxy_app", "kvstore", "--log_level", "info",
			"--p2p.laddr", "tcp://"+ip+":26656", "--rpc.laddr", "tcp://"+ip+":26657")
	}
	t.Cleanup(func() {
		if t.Failed() {
			tellNetwork(t, seed, validators)
		}
	})
	untilReachable(seed, validators, time.Minute)
	t.Logf("all reached by the seed %.1f s after the first validator was started", time.Since(begin).Seconds())
	for i := range validators {
		rpc := fmt.Sprintf("http://127.111.0.%d:26657", 11+i)
		waitUntil(t, time.Minute, rpc+" has the other validators as peers", func() bool { return number(rpc+"/net_info", "n_peers") >= validators-1 })
		t.Logf("%s has all peers after %.1f s", rpc, time.Since(begin).Seconds())
		waitUntil(t, time.Minute, rpc+" has block 3", func() bool { return number(rpc+"/status", "sync_info", "latest_block_height") >= 3 })
	}
	t.Logf("meshed, and at block 3, %.1f s after the first validator was started", time.Since(begin).Seconds())
	seed.Interrupt()
	if code := seed.Exited(startup); code != 0 {
		t.Errorf("exit code %d after SIGINT", code)
	}
	if got := inBook(t, filepath.Join(home, "config/addrbook.json")); !maps.Equal(got, want) {
		t.Errorf("the seed's book holds %v, want exactly the validators %v", got, want)
	}
	nodeAmongValidators(t, "127.111.0.2", genesis.Text("chain_id"), want)
}

// tellNetwork says who has whom as a peer, and what the seed made of each of its visits.
func tellNetwork(t *testing.T, seed *harness.Process, validators int) {
	last := ""
	for _, line := range seed.Said() {
		// The same numbers again and again are no news.
		if text := regexp.MustCompile(`"(seconds|uptime|time)":[^,}]*`).ReplaceAllString(line, ""); text != last {
			t.Logf("seed: %s", line)
			last = text
		}
	}
	for i := range validators {
		rpc := fmt.Sprintf("http://127.111.0.%d:26657", 11+i)
		for _, path := range []string{"/net_info", "/status"} {
			answer, err := http.Get(rpc + path)
			if err != nil {
				t.Logf("%s%s: %v", rpc, path, err)
				continue
			}
			raw, _ := io.ReadAll(answer.Body)
			answer.Body.Close()
			t.Logf("%s%s: %.3000s", rpc, path, raw)
		}
	}
}

// nodeAmongValidators has `kadwire node` know one validator, find the others by PEX, and stay a peer of all while they make blocks.
func nodeAmongValidators(t *testing.T, ip, chainID string, validators map[string]string) {
	t.Helper()
	var one string
	for id, at := range validators {
		one = id + "@" + at
	}
	node, _ := startNode(t, ip, chainID, "--persistent-peers", one)
	up := func() (count int) {
		for id := range validators {
			for _, event := range node.Events() {
				if event.Text("event") == "peer_up" && event.Text("peer") == id {
					count++
				}
			}
		}
		return count
	}
	begin := time.Now()
	waitUntil(t, time.Minute, "our node has all validators as peers", func() bool { return up() == len(validators) })
	t.Logf("our node had all validators as peers after %.1f s", time.Since(begin).Seconds())
	time.Sleep(3 * time.Second)
	for _, event := range node.Events() {
		if event.Text("event") == "peer_down" {
			t.Errorf("our node lost a validator: %v", event)
		}
	}
}

// configure sets texts in a config.toml.
func configure(t *testing.T, file string, values map[string]string) {
	t.Helper()
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for key, value := range values {
		line := regexp.MustCompile(`(?m)^` + key + ` = .*$`)
		if len(line.FindAll(raw, -1)) != 1 {
			t.Fatalf("%s: not one line %s", file, key)
		}
		raw = line.ReplaceAll(raw, []byte(fmt.Sprintf("%s = %q", key, value)))
	}
	if err := os.WriteFile(file, raw, 0o600); err != nil {
		t.Fatal(err)
	}
}

// number is a field of a CometBFT RPC answer, which writes numbers as texts; 0 while there is none.
func number(url string, path ...string) (n int) {
	answer, err := http.Get(url)
	if err != nil {
		return 0
	}
	defer answer.Body.Close()
	raw, _ := io.ReadAll(answer.Body)
	var body map[string]any
	if json.Unmarshal(raw, &body) != nil {
		return 0
	}
	value := body["result"]
	for _, field := range path {
		object, _ := value.(map[string]any)
		value = object[field]
	}
	text, _ := value.(string)
	fmt.Sscan(text, &n)
	return n
}
