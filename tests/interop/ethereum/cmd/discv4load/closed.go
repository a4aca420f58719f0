package main

import (
	"bufio"
	"encoding/json"
	"os"
	"sort"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ethereum/go-ethereum/p2p/discover/v4wire"
)

type stats struct {
	sent, answered, timeouts, replies, nodes, bytesIn, bytesOut, other, srvPings, live atomic.Uint64
}

var (
	st        stats
	measuring atomic.Bool
	stop      atomic.Bool
)

// lane keeps depth requests in flight, taking its identities in turn.
func lane(ids []*ident, depth int, lat *[]int64) {
	for k := 0; !stop.Load(); k++ {
		id := ids[k%len(ids)]
		type pend struct {
			t    time.Time
			want byte
			got  int
		}
		var q []pend
		send := func() {
			p := id.nextPkt()
			q = append(q, pend{time.Now(), wantFor(p[headSize]), 0})
			id.write(p)
			if measuring.Load() {
				st.sent.Add(1)
				st.bytesOut.Add(uint64(len(p)))
			}
		}
		for i := 0; i < depth; i++ {
			send()
		}
		single := len(ids) == 1 // then stay on the identity and keep the pipe full
		for len(q) > 0 {
			b, err := id.recv(q[0].t.Add(*timeout))
			m := measuring.Load()
			if err != nil {
				if m {
					if q[0].got > 0 { // a part answer counts (server has fewer nodes)
						st.answered.Add(1)
					} else {
						st.timeouts.Add(1)
					}
				}
				q = q[1:]
				if stop.Load() {
					return
				}
				if single {
					send()
				}
				continue
			}
			if b == nil {
				continue
			}
			if m {
				st.bytesIn.Add(uint64(len(b)))
			}
			t := b[headSize]
			idx := -1
			for i := range q {
				if q[i].want == t {
					idx = i
					break
				}
			}
			if idx < 0 {
				if t == v4wire.PingPacket || t == v4wire.FindnodePacket {
					id.answer(b)
					if m {
						st.srvPings.Add(1)
					}
				} else if m {
					st.other.Add(1)
				}
				continue
			}
			if m {
				st.replies.Add(1)
			}
			done := true
			if t == v4wire.NeighborsPacket {
				n := nnodes(b)
				q[idx].got += n
				done = n < v4wire.MaxNeighbors || q[idx].got >= 16
				if m {
					st.nodes.Add(uint64(n))
				}
			}
			if !done {
				continue
			}
			if m {
				st.answered.Add(1)
				*lat = append(*lat, int64(time.Since(q[idx].t)))
			}
			q = append(q[:idx], q[idx+1:]...)
			if single && !stop.Load() {
				send()
			}
		}
	}
}

// bondAll bonds the identities, a few at a time, and gives how many it could.
func bondAll(ids []*ident) int64 {
	t0 := time.Now()
	sem := make(chan struct{}, 32)
	var bonded atomic.Int64
	var wg sync.WaitGroup
	for _, id := range ids {
		wg.Add(1)
		sem <- struct{}{}
		go func() {
			if id.bond() {
				bonded.Add(1)
			}
			<-sem
			wg.Done()
		}()
	}
	wg.Wait()
	logf("bonded %d of %d in %v", bonded.Load(), len(ids), time.Since(t0))
	return bonded.Load()
}

// awaitNodes asks until an answer has -minnodes nodes, at most -warmmax; the others answer the server's pings meanwhile.
func awaitNodes(ids []*ident) (best int) {
	idle := answerWhileIdle(ids[1:])
	defer idle()
	for end := time.Now().Add(*warmMax); best < *minNodes && time.Now().Before(end); {
		id := ids[0]
		id.write(id.findnode(int(time.Now().UnixMicro())))
		got, end := 0, time.Now().Add(200*time.Millisecond)
		for {
			b, err := id.recv(end)
			if err != nil {
				break
			}
			if b == nil {
				continue
			}
			if b[headSize] == v4wire.NeighborsPacket {
				got += nnodes(b)
			} else {
				id.answer(b)
			}
		}
		best = max(best, got)
	}
	return best
}

func runClosed(ids []*ident, out map[string]any) {
	t0 := time.Now()
	bonded := bondAll(ids)
	out["bonded"] = bonded
	out["bond_s"] = time.Since(t0).Seconds()
	if (*mode == "findnode" || *mode == "mixed") && *minNodes > 0 {
		best := awaitNodes(ids)
		out["nodes_per_answer_at_start"] = best
		out["fill_s"] = time.Since(t0).Seconds()
		logf("answers have %d nodes after %v", best, time.Since(t0))
	}

	if !*rounds {
		measure(ids, out)
		return
	}
	json.NewEncoder(os.Stdout).Encode(map[string]any{"event": "ready", "bonded": bonded, "nodes_per_answer": out["nodes_per_answer_at_start"], "seconds": time.Since(t0).Seconds()})
	lines := bufio.NewScanner(os.Stdin)
	for {
		idle := answerWhileIdle(ids)
		more := lines.Scan()
		idle()
		if !more {
			return
		}
		round := map[string]any{"mode": *mode}
		measure(ids, round)
		json.NewEncoder(os.Stdout).Encode(round)
	}
}

// measure runs the closed loop once.
func measure(ids []*ident, out map[string]any) {
	st = stats{}
	stop.Store(false)
	// Lanes.
	w := *inflight
	nl := min(w, len(ids))
	lats := make([][]int64, nl)
	var lw sync.WaitGroup
	for l := 0; l < nl; l++ {
		var mine []*ident
		for i := l; i < len(ids); i += nl {
			mine = append(mine, ids[i])
		}
		depth := 1
		if w > len(ids) {
			depth = w / len(ids)
		}
		lats[l] = make([]int64, 0, 1<<14)
		lw.Add(1)
		go func() { defer lw.Done(); lane(mine, depth, &lats[l]) }()
	}
	time.Sleep(*warm)
	p0, c0, s0 := readProc(*pid), selfCPU(), time.Now()
	measuring.Store(true)
	time.Sleep(time.Duration(*seconds * float64(time.Second)))
	measuring.Store(false)
	el := time.Since(s0)
	p1, c1 := readProc(*pid), selfCPU()
	stop.Store(true)
	lw.Wait()

	var lat []int64
	for _, l := range lats {
		lat = append(lat, l...)
	}
	sort.Slice(lat, func(i, j int) bool { return lat[i] < lat[j] })
	a := st.answered.Load()
	out["inflight"] = w
	out["seconds"] = el.Seconds()
	out["sent"], out["answered"], out["timeouts"] = st.sent.Load(), a, st.timeouts.Load()
	out["answered_per_s"] = float64(a) / el.Seconds()
	out["reply_packets"], out["server_requests"], out["other"] = st.replies.Load(), st.srvPings.Load(), st.other.Load()
	if *mode == "findnode" {
		out["nodes_per_answer"] = float64(st.nodes.Load()) / float64(max(1, a))
	}
	out["bytes_in"], out["bytes_out"] = st.bytesIn.Load(), st.bytesOut.Load()
	out["lat_us_p50"], out["lat_us_p90"], out["lat_us_p99"] = pct(lat, .5), pct(lat, .9), pct(lat, .99)
	out["gen_cpu_us_per_req"] = float64((c1 - c0).Microseconds()) / float64(max(1, a))
	out["signed_live"] = st.live.Load()
	procOut(out, p0, p1, el, st.sent.Load())
}
