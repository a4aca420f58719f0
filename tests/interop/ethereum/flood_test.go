package ethereum

import (
	"encoding/json"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"kadwire/interop/harness"
)

// TestAFloodOfStrangersCostsAcquaintancesNothing has 200 bonded identities ping and ask while 200 strangers ping 10,000 times a second and never
// answer. What the bootnode reads of its acquaintances it must answer. A machine that does other things too may keep it from reading: then the
// kernel drops datagrams, no matter whose, and an answer may be late. Neither is counted here: `benches/versus/run discv4` does, with 20,000 a
// second.
func TestAFloodOfStrangersCostsAcquaintancesNothing(t *testing.T) {
	load := filepath.Join(t.TempDir(), "discv4load")
	if out, err := exec.Command("go", "build", "-o", load, "./cmd/discv4load").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	bootnode, url, _ := startBootnode(t, "127.36.0.1")
	got := harness.Run(t, 3*time.Minute, "discv4load", load, "-flood", "newping", "-target", url.URLv4(), "-pid", strconv.Itoa(bootnode.Pid()), "-seconds", "3",
		"-timeout", "10s", "-ask", "200", "-rate", "10000", "-presign", "30000", "-warmmax", "2s", "-n", "200", "-base", "127.36.1.1", "-floodbase", "127.36.2.1")
	var e harness.Event
	if err := json.Unmarshal([]byte(got.Stdout), &e); got.Code != 0 || err != nil {
		t.Fatalf("exit %d, %v: %s %s", got.Code, err, got.Stdout, got.Stderr)
	}
	t.Log(got.Stdout)
	sent, asked := e.Number("sent"), e.Number("flooded_sent")
	if sent < 5*asked {
		t.Errorf("only %v packets beside %v requests: no flood", sent, asked)
	}
	// Half as much again, since they are drops of whole bursts.
	unread := 1.5 * e.Number("socket_drops") / (sent + asked)
	if kept := e.Number("flooded_kept"); kept < 0.95-unread {
		t.Errorf("%.1f %% of the acquaintances' requests were answered during the flood, want 95 less the %.1f that it could not read (before it: %.1f)",
			100*kept, 100*unread, 100*e.Number("quiet_kept"))
	}
	if most := e.Number("server_pings_most"); most > 5 {
		t.Errorf("%v pings to an endpoint that never answered, want 5 at most", most)
	}
	if back := e.Number("bytes_back_per_byte"); back > 1.6 {
		t.Errorf("%.2f bytes back for each byte of the flood, want 1.6 at most", back)
	}
	if grown := e.Number("server_rss_mb") - e.Number("server_rss_start_mb"); grown > 16 {
		t.Errorf("the flood made the bootnode grow by %.1f MB", grown)
	}
}
