// Package ethereum shows kadwire among real go-ethereum nodes and tools. Every scenario has a 127.x network of its own:
//
//	127.31 devp2p tools    127.32 crawl    127.33 sixteen nodes    127.34 bootnode for go-ethereum    127.35 bad input    127.36 flood
//	127.61 both families    127.63 through us, restarts, lookups
//	127.136 RLPx's Hello    127.137 RLPx messages    127.138, 127.139 RLPx refusals and ends    127.140 fifty nodes    127.142 both wires    127.132.9 why
package ethereum

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/crypto"
	"github.com/ethereum/go-ethereum/p2p/enode"

	"kadwire/interop/ethereum/gethnet"
	"kadwire/interop/harness"
)

// startup is the longest wait for what takes a moment, unless the machine is very busy.
const startup = time.Minute

func TestMain(m *testing.M) {
	gethnet.Quiet()
	if len(os.Args) == 3 && os.Args[1] == serversArg {
		fmt.Fprintln(os.Stderr, runServers(os.Args[2]))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// startBootnode starts `kadwire bootnode` on ip:30301 and gives what it says of itself in its first two lines.
func startBootnode(t *testing.T, ip string, args ...string) (process *harness.Process, url, record *enode.Node) {
	t.Helper()
	args = append([]string{"bootnode", "--addr", ip + ":30301", "--nat", "extip:" + ip}, args...)
	process = harness.Start(t, "bootnode "+ip, harness.Kadwire(t), args...)
	first, second := process.Line(startup), process.Line(startup)
	if !strings.HasPrefix(first, "enode://") || !strings.HasPrefix(second, "enr:") {
		t.Fatalf("the first two lines are not an enode and an ENR:\n%s\n%s", first, second)
	}
	url, record = mustParse(t, first), mustParse(t, second)
	return process, url, record
}

func mustParse(t *testing.T, text string) *enode.Node {
	t.Helper()
	node, err := enode.Parse(enode.ValidSchemes, text)
	if err != nil {
		t.Fatalf("go-ethereum does not accept %q: %v", text, err)
	}
	return node
}

// newKey is a fresh node key as the 64 hex digits of --nodekey.
func newKey(t *testing.T) (hex string, id enode.ID) {
	t.Helper()
	key, err := crypto.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	return common.Bytes2Hex(crypto.FromECDSA(key)), enode.PubkeyToIDV4(&key.PublicKey)
}

func TestBootnodePrintsItsEnodeThenItsRecord(t *testing.T) {
	key, id := newKey(t)
	_, url, record := startBootnode(t, "127.31.1.1", "--nodekey", key)
	for what, node := range map[string]*enode.Node{"enode": url, "ENR": record} {
		endpoint, ok := node.UDPEndpoint()
		if node.ID() != id || !ok || endpoint.String() != "127.31.1.1:30301" {
			t.Errorf("%s: id %v at %v, want %v at 127.31.1.1:30301", what, node.ID(), endpoint, id)
		}
	}
	if record.Seq() == 0 {
		t.Error("the ENR has sequence number 0")
	}
}

// devp2p runs go-ethereum's tool, which waits half a second for a datagram. On a busy machine one may take longer, so it has three tries.
func devp2p(t *testing.T, args ...string) (got harness.Result) {
	t.Helper()
	for range 3 {
		got = harness.Run(t, startup, "devp2p "+strings.Join(args[:2], " "), harness.Devp2p(t), args...)
		if got.Code == 0 {
			break
		}
		t.Logf("devp2p %s: exit %d: %s", strings.Join(args, " "), got.Code, got.Stderr)
	}
	return got
}

func TestDevp2pPingIsAnswered(t *testing.T) {
	_, url, _ := startBootnode(t, "127.31.2.1")
	got := devp2p(t, "discv4", "ping", "--bootnodes", "", "--addr", "127.31.2.2:0", url.URLv4())
	if got.Code != 0 || !strings.Contains(got.Stdout, "node responded to ping") {
		t.Fatalf("exit %d: %s %s", got.Code, got.Stdout, got.Stderr)
	}
	t.Log(got.Stdout)
}

func TestDevp2pRequestENRGivesThePrintedRecord(t *testing.T) {
	_, url, record := startBootnode(t, "127.31.3.1")
	got := devp2p(t, "discv4", "requestenr", "--bootnodes", "", "--addr", "127.31.3.2:0", url.URLv4())
	if got.Code != 0 || strings.TrimSpace(got.Stdout) != record.String() {
		t.Fatalf("exit %d: got %s, want %s\n%s", got.Code, got.Stdout, record, got.Stderr)
	}
}

// conformanceGoal is the number of cases of go-ethereum's discv4 suite that must pass: all that v1.17.10 has.
const conformanceGoal = 15

// suiteRuns is how often the suite must pass in a row: five times against one bootnode, then against a new one each time.
const suiteRuns = 10

// suitePatience is how long the suite waits for an answer, at most. A run that fails while the bootnode was ready to run and waited longer for
// a processor says nothing of it, and is repeated; so many in all.
const (
	suitePatience = 300 * time.Millisecond
	suiteRepeats  = 20
)

func TestDevp2pDiscv4Suite(t *testing.T) {
	t.Parallel()
	boot, url, _ := startBootnode(t, "127.31.4.1")
	repeats := 0
	for run := 1; run <= suiteRuns; run++ {
		if run > suiteRuns/2 {
			boot, url, _ = startBootnode(t, fmt.Sprintf("127.31.4.%d", run+repeats))
		}
		before := boot.Waited()
		got := harness.Run(t, 5*time.Minute, "devp2p discv4 test", harness.Devp2p(t), "discv4", "test", "--tap", "--remote", url.URLv4(),
			"--listen1", fmt.Sprintf("127.31.5.%d", run+repeats), "--listen2", fmt.Sprintf("127.31.6.%d", run+repeats))
		passed := len(regexp.MustCompile(`(?m)^ok `).FindAllString(got.Stdout, -1))
		failed := len(regexp.MustCompile(`(?m)^not ok `).FindAllString(got.Stdout, -1))
		waited := boot.Waited() - before
		t.Logf("go-ethereum's discv4 suite, run %d: %d passed, %d failed, in %.1f s; the bootnode waited %v for a processor", run, passed, failed,
			got.Took.Seconds(), waited.Round(time.Millisecond))
		if passed == conformanceGoal && failed == 0 {
			continue
		}
		if waited <= suitePatience || repeats == suiteRepeats {
			t.Fatalf("want %d passed:\n%s", conformanceGoal, got.Stdout)
		}
		repeats, run = repeats+1, run-1
	}
}

// TestGethNodesFindEachOtherThroughUs gives real go-ethereum nodes our bootnode and nothing else.
func TestGethNodesFindEachOtherThroughUs(t *testing.T) {
	t.Parallel()
	_, url, _ := startBootnode(t, "127.34.0.1")
	const nodes = 6
	network, err := gethnet.StartNetwork(gethnet.NetworkConfig{
		Config: gethnet.Config{Bootnodes: []*enode.Node{url}},
		Nodes:  nodes, Base: gethnet.Offset(loopback, 34<<16+256), Port: 30303,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(network.Stop)
	start := time.Now()
	// A node that knows nobody but us looks up the others' keys: the answers must come from us, then from those we named.
	for i, node := range network.Nodes {
		for j, other := range network.Nodes {
			if i == j {
				continue
			}
			for !contains(node.LookupPubkey(other.Self().Pubkey()), other.Self().ID()) {
				if time.Since(start) > 3*time.Minute {
					all, live := node.Live()
					t.Fatalf("node %d does not find node %d after three minutes; its table has %d nodes, %d of them live", i, j, all, live)
				}
				time.Sleep(200 * time.Millisecond)
			}
		}
	}
	t.Logf("%d go-ethereum nodes found each other in %.1f s", nodes, time.Since(start).Seconds())
}

func contains(nodes []*enode.Node, id enode.ID) bool {
	for _, n := range nodes {
		if n.ID() == id {
			return true
		}
	}
	return false
}

// percent prints a share for the log.
func percent(part, whole int) string {
	return fmt.Sprintf("%d of %d (%.1f %%)", part, whole, 100*float64(part)/float64(whole))
}
