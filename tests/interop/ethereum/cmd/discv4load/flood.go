package main

import (
	"encoding/json"
	"os"
	"sort"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ethereum/go-ethereum/p2p/discover/v4wire"
)

// floodSent is what a flood has sent, and got back.
type floodSent struct {
	packets, bytes, replies, replyBytes uint64
	// pings are the server's own, and pingsMost those to the identity that got most of them: nobody answers any.
	pings, pingsMost uint64
	seconds          float64
}

// sendFlood sends at -rate for so long, burst by burst. Whatever comes back is read and counted, never answered: every identity stays unbonded.
func sendFlood(ids []*ident, within time.Duration) (f floodSent) {
	var over atomic.Bool
	var readers sync.WaitGroup
	var replies, replyBytes, pings, pingsMost atomic.Uint64
	for _, id := range ids {
		readers.Go(func() {
			var mine uint64
			for !over.Load() {
				if b, err := id.recv(time.Now().Add(200 * time.Millisecond)); err == nil && b != nil {
					replies.Add(1)
					replyBytes.Add(uint64(len(b)))
					if b[headSize] == v4wire.PingPacket {
						mine++
					}
				}
			}
			pings.Add(mine)
			for most := pingsMost.Load(); mine > most && !pingsMost.CompareAndSwap(most, mine); most = pingsMost.Load() {
			}
		})
	}
	const burst = 16
	start := time.Now()
	for end := start.Add(within); time.Now().Before(end); {
		for range burst {
			p := ids[int(f.packets)%len(ids)].nextPkt()
			ids[int(f.packets)%len(ids)].write(p)
			f.packets++
			f.bytes += uint64(len(p))
		}
		if *rate > 0 {
			if d := time.Until(start.Add(time.Duration(float64(f.packets) / *rate * 1e9))); d > 0 {
				time.Sleep(d)
			}
		}
	}
	f.seconds = time.Since(start).Seconds()
	time.Sleep(300 * time.Millisecond) // let the server's socket buffer drain
	over.Store(true)
	readers.Wait()
	f.replies, f.replyBytes, f.pings, f.pingsMost = replies.Load(), replyBytes.Load(), pings.Load(), pingsMost.Load()
	return f
}

func (f floodSent) report(out map[string]any) {
	out["sent"], out["sent_per_s"] = f.packets, float64(f.packets)/f.seconds
	out["replies"], out["reply_bytes"], out["bytes_out"] = f.replies, f.replyBytes, f.bytes
	out["bytes_back_per_byte"] = float64(f.replyBytes) / float64(max(1, f.bytes))
	out["server_pings"], out["server_pings_most"] = f.pings, f.pingsMost
}

// runFlood floods and nothing else.
func runFlood(ids []*ident, out map[string]any) {
	p0, c0, s0 := readProc(*pid), selfCPU(), time.Now()
	udp0 := udpDrops(srv.Port())
	f := sendFlood(ids, time.Duration(*seconds*float64(time.Second)))
	p1, c1 := readProc(*pid), selfCPU()
	drops := udpDrops(srv.Port()) - udp0
	f.report(out)
	out["seconds"], out["socket_drops"] = f.seconds, drops
	out["handled_per_s"] = float64(int64(f.packets)-drops) / f.seconds
	out["gen_cpu_us_per_req"] = float64((c1 - c0).Microseconds()) / float64(max(1, f.packets))
	procOut(out, p0, p1, time.Since(s0), uint64(max(1, int64(f.packets)-drops)))
}

// asked is what the bonded identities asked for in one phase, and what was answered.
type asked struct {
	sent, answered int
	latency        []int64
}

func (a asked) report(out map[string]any, phase string) {
	sort.Slice(a.latency, func(i, j int) bool { return a.latency[i] < a.latency[j] })
	out[phase+"_sent"], out[phase+"_answered"] = a.sent, a.answered
	out[phase+"_kept"] = float64(a.answered) / float64(max(1, a.sent))
	out[phase+"_lat_us_p50"], out[phase+"_lat_us_p99"] = pct(a.latency, .5), pct(a.latency, .99)
}

// underFlood bonds the identities, lets them ask at a steady rate for -seconds, and again while others flood.
func underFlood() {
	ids := identities("steady", *nID, *base, *step, int(*ask**seconds*3))
	flooders := identities(*flood, *floodN, *floodAt, *step, *presign)
	out := map[string]any{"flood": *flood, "n": *nID, "flooders": *floodN, "bonded": bondAll(ids), "nodes_per_answer_at_start": awaitNodes(ids)}

	var phase atomic.Int32 // 0: before, 1: flooded, 2: over
	phases := make([][2]asked, len(ids))
	var clients sync.WaitGroup
	begin := time.Now()
	for i, id := range ids {
		clients.Go(func() {
			interval := time.Duration(float64(len(ids)) / *ask * float64(time.Second))
			due := begin.Add(interval * time.Duration(i) / time.Duration(len(ids)))
			for id.next = i % 2; ; due = due.Add(interval) {
				for time.Now().Before(due) {
					if b, err := id.recv(due); err == nil && b != nil {
						id.answer(b)
					}
				}
				at := int(phase.Load())
				if at > 1 {
					return
				}
				took, ok := id.ask(id.nextPkt())
				a := &phases[i][at]
				a.sent++
				if ok {
					a.answered++
					a.latency = append(a.latency, int64(took))
				}
			}
		})
	}
	whole := time.Duration(*seconds * float64(time.Second))
	time.Sleep(whole)
	p0, s0, udp0 := readProc(*pid), time.Now(), udpDrops(srv.Port())
	phase.Store(1)
	f := sendFlood(flooders, whole)
	phase.Store(2)
	p1, drops := readProc(*pid), udpDrops(srv.Port())-udp0
	clients.Wait()
	var all [2]asked
	for _, client := range phases {
		for at, a := range client {
			all[at].sent += a.sent
			all[at].answered += a.answered
			all[at].latency = append(all[at].latency, a.latency...)
		}
	}
	f.report(out)
	all[0].report(out, "quiet")
	all[1].report(out, "flooded")
	out["seconds"], out["socket_drops"] = f.seconds, drops
	procOut(out, p0, p1, time.Since(s0), f.packets)
	json.NewEncoder(os.Stdout).Encode(out)
}

// ask sends a request and waits for its answer.
func (id *ident) ask(request []byte) (took time.Duration, ok bool) {
	want, start, got := wantFor(request[headSize]), time.Now(), 0
	id.write(request)
	for {
		b, err := id.recv(start.Add(*timeout))
		if err != nil {
			return 0, false
		}
		if b == nil {
			continue
		}
		if b[headSize] != want {
			id.answer(b)
			continue
		}
		if want == v4wire.NeighborsPacket {
			n := nnodes(b)
			if got += n; n >= v4wire.MaxNeighbors && got < 16 {
				continue
			}
		}
		return time.Since(start), true
	}
}
