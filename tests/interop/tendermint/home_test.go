package tendermint

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cometbft/cometbft/config"
	"github.com/cometbft/cometbft/p2p"

	"kadwire/interop/harness"
	"kadwire/interop/tendermint/comet"
)

// TestHomeOfCometBFT starts our node on a folder that CometBFT made, as `cometbft init` does: config.toml with CometBFT's own text, and
// node_key.json. The node is who CometBFT would be there, warns about nothing, and a real switch has it as a persistent peer.
func TestHomeOfCometBFT(t *testing.T) {
	t.Parallel()
	home := t.TempDir()
	config.EnsureRoot(home)
	cfg := config.DefaultConfig()
	cfg.SetRoot(home)
	cfg.Moniker = "made by CometBFT"
	cfg.P2P.ListenAddress = "tcp://127.110.3.1:26656"
	cfg.P2P.AddrBookStrict = false
	config.WriteConfigFile(filepath.Join(home, "config", "config.toml"), cfg)
	key, err := p2p.LoadOrGenNodeKey(cfg.NodeKeyFile())
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(cfg.GenesisFile(), []byte(`{"genesis_time":"2026-01-01T00:00:00Z","chain_id":"`+network+`"}`), 0o644); err != nil {
		t.Fatal(err)
	}

	node := harness.Start(t, "node --home", harness.Kadwire(t), "node", "--json", "--home", home, "--addr", "127.110.3.1:30303")
	mconn := node.Until(startup, "listening", func(harness.Event) bool { return true }).Text("mconn")
	if want := string(key.ID()) + "@127.110.3.1:26656"; mconn != want {
		t.Fatalf("it is %v, CometBFT would be %v", mconn, want)
	}
	s := start(t, comet.Config{Listen: "127.0.0.1:0", Network: network, Moniker: "comet", Persistent: []string{mconn}})
	waitUntil(t, startup, "each is the other's peer", func() bool { return s.Peers().Size() == 1 && peersUp(node) == 1 })
	if moniker := s.Peers().Get(key.ID()).NodeInfo().(p2p.DefaultNodeInfo).Moniker; moniker != "made by CometBFT" {
		t.Fatalf("the moniker is %q", moniker)
	}
	// CometBFT's connections all come from 127.0.0.1, and allow_duplicate_ip is false: a second one is refused, as by CometBFT.
	second := start(t, comet.Config{Listen: "127.0.0.1:0", Network: network, Moniker: "second", Persistent: []string{mconn}})
	time.Sleep(3 * time.Second)
	if up := peersUp(node); second.Peers().Size() != 0 || up != 1 {
		t.Fatalf("the second switch has %d peers, our node saw %d", second.Peers().Size(), up)
	}
	if strings.Contains(node.Stderr(), "unknown") {
		t.Fatalf("it does not know all of CometBFT's keys:\n%s", node.Stderr())
	}
}

func peersUp(node *harness.Process) (up int) {
	for _, event := range node.Events() {
		if event.Text("event") == "peer_up" {
			up++
		}
	}
	return up
}

// TestCometBFTReadsOurKey starts our node on an empty folder: CometBFT finds its own format in the key that it makes.
func TestCometBFTReadsOurKey(t *testing.T) {
	t.Parallel()
	home := t.TempDir()
	node := harness.Start(t, "node --home", harness.Kadwire(t), "node", "--json", "--home", home, "--chain-id", network,
		"--addr", "127.110.3.2:30303", "--laddr", "127.110.3.2:26656")
	mconn := node.Until(startup, "listening", func(harness.Event) bool { return true }).Text("mconn")
	key, err := p2p.LoadNodeKey(filepath.Join(home, "config", "node_key.json"))
	if err != nil {
		t.Fatal(err)
	}
	if id, _, _ := strings.Cut(mconn, "@"); id != string(key.ID()) {
		t.Fatalf("our node is %v, its file says %v", id, key.ID())
	}
}

// TestHomesOfATestnet starts our node on each home folder that `cometbft testnet` makes. CometBFT gives all of them the same persistent peers,
// themselves included: nobody dials itself, and they have each other. So has our seed, which is one of them.
func TestHomesOfATestnet(t *testing.T) {
	t.Parallel()
	const nodes = 4
	dir := t.TempDir()
	if out, err := exec.Command(harness.CometBFT(t), "testnet", "--v", fmt.Sprint(nodes), "--n", "0", "--o", dir,
		"--starting-ip-address", "127.121.1.1").CombinedOutput(); err != nil {
		t.Fatalf("cometbft testnet: %v\n%s", err, out)
	}
	home := func(i int) string { return filepath.Join(dir, fmt.Sprintf("node%d", i)) }
	var started []*harness.Process
	for i := range nodes - 1 {
		ip := fmt.Sprintf("127.121.1.%d", i+1)
		node := harness.Start(t, "node --home "+ip, harness.Kadwire(t), "node", "--json", "--home", home(i), "--laddr", "tcp://"+ip+":26656", "--addr", ip+":30303")
		mconn := node.Until(startup, "listening", func(harness.Event) bool { return true }).Text("mconn")
		config, err := os.ReadFile(filepath.Join(home(i), "config/config.toml"))
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(config), mconn) {
			t.Fatalf("the folder's persistent_peers do not name %v", mconn)
		}
		started = append(started, node)
	}
	for _, node := range started {
		waitUntil(t, startup, "it has all others", func() bool { return peersUp(node) >= nodes-2 })
		if !node.Running() {
			t.Fatal("it ended")
		}
	}
	ip := fmt.Sprintf("127.121.1.%d", nodes)
	seed := harness.Start(t, "seed --home", harness.Kadwire(t), "seed", "--home", home(nodes-1), "--laddr", "tcp://"+ip+":26656", "--json", "--status-every", "0.1")
	untilReachable(seed, nodes-1, time.Minute)
}
