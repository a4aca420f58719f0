// mconnpeer: a REAL CometBFT p2p endpoint (p2p.Switch + MultiplexTransport + SecretConnection +
// NodeInfo handshake + MConnection) with one test reactor, for interop and load tests.
//
// Messages on the test channel are protobuf google.protobuf.BytesValue:
//
//	0x0a <uvarint len> <payload bytes>      (an empty payload is an empty message)
//
// Roles:   -listen 127.0.0.1:26656          accept peers
//
//	-dial   <id>@127.0.0.1:26656     dial one peer
//
// Modes:   -mode sink      count what arrives (default)
//
//	-mode echo      send every message back unchanged
//	-mode flood     send -size byte messages as fast as Send allows for -dur (or -count)
//	-mode ping      send one message, wait for its echo, -count times; prints latency
//	-mode handshake (with -dial) -count times: TCP + SecretConnection + NodeInfo, close
//	-mode hold      (with -dial) the same, each with a key of its own, but keep all open until killed
//	-mode idle      connect and stay
//
// Output: JSON lines. First {"event":"ready","id":...,"listen":...}; {"event":"peer",...} as peers come and go;
//
//	{"event":"stats",...} each -report and at the end: msgs/s, MB/s (payload bytes), CPU.
//
// A listener ends after -dur (0: runs until killed or, with -once, until its first peer leaves).
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"net"
	"os"
	"sort"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	gogotypes "github.com/cosmos/gogoproto/types"

	"github.com/cometbft/cometbft/config"
	"github.com/cometbft/cometbft/crypto/ed25519"
	"github.com/cometbft/cometbft/libs/log"
	"github.com/cometbft/cometbft/libs/protoio"
	"github.com/cometbft/cometbft/p2p"
	"github.com/cometbft/cometbft/p2p/conn"
	"github.com/cometbft/cometbft/version"

	"kadwire/interop/tendermint/comet"
)

var (
	listen  = flag.String("listen", "", "accept on host:port (port 0 is allowed)")
	dial    = flag.String("dial", "", "dial id@host:port")
	mode    = flag.String("mode", "sink", "sink|echo|flood|ping|handshake|hold|idle")
	size    = flag.Int("size", 1024, "payload bytes of each message (flood, ping)")
	count   = flag.Int("count", 0, "flood: stop after this many messages; ping, handshake: how many (default 1000)")
	dur     = flag.Duration("dur", 5*time.Second, "flood: how long; listener: 0 runs until killed")
	channel = flag.Uint("channel", 0x30, "channel id")
	prio    = flag.Int("priority", 1, "channel priority")
	queue   = flag.Int("queue", 100, "channel send queue capacity")
	network = flag.String("network", "interop-test", "NodeInfo.network (must match)")
	moniker = flag.String("moniker", "mconnpeer", "NodeInfo.moniker")
	keyfile = flag.String("key", "", "node_key.json (made if absent); empty: a fresh key")
	payload = flag.Int("payload", 1024, "max_packet_msg_payload_size")
	flush   = flag.Duration("flush", conn.DefaultMConnConfig().FlushThrottle, "flush_throttle_timeout (v0.38 and older: default 100ms; v0.39+ and v1.0: 10ms)")
	rate    = flag.Int64("rate", 1<<40, "send_rate and recv_rate, bytes/s (config default 5120000)")
	recvMax = flag.Int("recv-max", 1<<25, "channel RecvMessageCapacity")
	block   = flag.Uint64("block", version.BlockProtocol, "ProtocolVersion.block (must match)")
	report  = flag.Duration("report", 0, "print stats this often")
	once    = flag.Bool("once", false, "listener: exit when the first peer leaves")
	verbose = flag.Bool("v", false, "library log to stderr")
	maxIn   = flag.Int("max-inbound", 10000, "max_num_inbound_peers")
)

var outMu sync.Mutex

func out(m map[string]any) {
	b, _ := json.Marshal(m)
	outMu.Lock()
	fmt.Println(string(b))
	outMu.Unlock()
}
func must(err error) {
	if err != nil {
		out(map[string]any{"event": "error", "err": err.Error()})
		os.Exit(1)
	}
}
func cpu() float64 {
	var r syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &r)
	return float64(r.Utime.Sec+r.Stime.Sec) + float64(r.Utime.Usec+r.Stime.Usec)/1e6
}

type reactor struct {
	p2p.BaseReactor
	msgs, bytes, sent     int64
	firstNs, lastNs, cpu0 int64
	peers                 chan p2p.Peer
	gone                  chan string
	echo                  chan struct{}
}

func newReactor() *reactor {
	r := &reactor{peers: make(chan p2p.Peer, 1024), gone: make(chan string, 1024), echo: make(chan struct{}, 1)}
	r.BaseReactor = *p2p.NewBaseReactor("TEST", r)
	return r
}
func (r *reactor) GetChannels() []*conn.ChannelDescriptor {
	return []*conn.ChannelDescriptor{{ID: byte(*channel), Priority: *prio, SendQueueCapacity: *queue,
		RecvMessageCapacity: *recvMax, MessageType: &gogotypes.BytesValue{}}}
}
func (r *reactor) AddPeer(p p2p.Peer) {
	ni := p.NodeInfo().(p2p.DefaultNodeInfo)
	out(map[string]any{"event": "peer", "id": p.ID(), "outbound": p.IsOutbound(), "moniker": ni.Moniker, "listen_addr": ni.ListenAddr, "version": ni.Version, "channels": fmt.Sprintf("%X", []byte(ni.Channels))})
	select {
	case r.peers <- p:
	default:
	}
}
func (r *reactor) RemovePeer(p p2p.Peer, reason any) {
	out(map[string]any{"event": "peer_gone", "id": p.ID(), "reason": fmt.Sprint(reason)})
	select {
	case r.gone <- string(p.ID()):
	default:
	}
}
func (r *reactor) Receive(e p2p.Envelope) {
	m := e.Message.(*gogotypes.BytesValue)
	now := time.Now().UnixNano()
	if atomic.AddInt64(&r.msgs, 1) == 1 {
		atomic.StoreInt64(&r.firstNs, now)
		atomic.StoreInt64(&r.cpu0, int64(cpu()*1e9))
	}
	atomic.StoreInt64(&r.lastNs, now)
	atomic.AddInt64(&r.bytes, int64(len(m.Value)))
	switch *mode {
	case "echo":
		if e.Src.Send(p2p.Envelope{ChannelID: e.ChannelID, Message: m}) {
			atomic.AddInt64(&r.sent, 1)
		}
	case "ping":
		select {
		case r.echo <- struct{}{}:
		default:
		}
	}
}
func (r *reactor) stats(event string) {
	n, b := atomic.LoadInt64(&r.msgs), atomic.LoadInt64(&r.bytes)
	el := float64(atomic.LoadInt64(&r.lastNs)-atomic.LoadInt64(&r.firstNs)) / 1e9
	m := map[string]any{"event": event, "mode": *mode, "recv_msgs": n, "recv_bytes": b, "sent_msgs": atomic.LoadInt64(&r.sent), "cpu_s": cpu()}
	if n > 1 && el > 0 {
		c := cpu() - float64(r.cpu0)/1e9
		m["secs"], m["msgs_per_s"], m["MB_per_s"], m["cpu_us_per_msg"] = el, float64(n)/el, float64(b)/1e6/el, c*1e6/float64(n)
	}
	out(m)
}

func nodeInfo(nk p2p.NodeKey, laddr string) p2p.DefaultNodeInfo {
	return p2p.DefaultNodeInfo{
		ProtocolVersion: p2p.NewProtocolVersion(version.P2PProtocol, *block, 0),
		DefaultNodeID:   nk.ID(), ListenAddr: laddr, Network: *network, Version: comet.Version,
		Channels: []byte{byte(*channel)}, Moniker: *moniker,
		Other: p2p.DefaultNodeInfoOther{TxIndex: "off", RPCAddress: ""},
	}
}

func main() {
	flag.Parse()
	if (*listen == "") == (*dial == "") {
		fmt.Fprintln(os.Stderr, "give one of -listen and -dial")
		flag.Usage()
		os.Exit(2)
	}
	nk := &p2p.NodeKey{PrivKey: ed25519.GenPrivKey()}
	if *keyfile != "" {
		var err error
		nk, err = p2p.LoadOrGenNodeKey(*keyfile)
		must(err)
	}
	if (*mode == "handshake" || *mode == "hold") && *dial != "" {
		handshakes()
		if *mode == "hold" {
			select {}
		}
		return
	}
	laddr := *listen
	if laddr == "" {
		laddr = "127.0.0.1:0"
	}
	if _, port, _ := net.SplitHostPort(laddr); port == "0" {
		l, err := net.Listen("tcp", laddr)
		must(err)
		laddr = l.Addr().String()
		l.Close()
	}
	cfg := config.DefaultP2PConfig()
	cfg.AllowDuplicateIP = true
	cfg.AddrBookStrict = false
	cfg.PexReactor = false
	cfg.SendRate, cfg.RecvRate = *rate, *rate
	cfg.FlushThrottleTimeout = *flush
	cfg.MaxPacketMsgPayloadSize = *payload
	cfg.MaxNumInboundPeers = *maxIn
	mc := p2p.MConnConfig(cfg)
	ni := nodeInfo(*nk, laddr)
	tr := p2p.NewMultiplexTransport(ni, *nk, mc)
	sw := p2p.NewSwitch(cfg, tr)
	lg := log.NewNopLogger()
	if *verbose {
		lg = log.NewTMLogger(os.Stderr)
	}
	sw.SetLogger(lg)
	r := newReactor()
	r.SetLogger(lg)
	sw.AddReactor("TEST", r)
	sw.SetNodeInfo(ni)
	sw.SetNodeKey(nk)
	na, err := p2p.NewNetAddressString(p2p.IDAddressString(nk.ID(), laddr))
	must(err)
	must(tr.Listen(*na))
	must(sw.Start())
	out(map[string]any{"event": "ready", "id": nk.ID(), "listen": laddr, "addr": na.String(), "network": *network, "channel": *channel, "version": comet.Version})

	if *dial != "" {
		da, err := p2p.NewNetAddressString(*dial)
		must(err)
		must(sw.DialPeerWithAddress(da))
	}
	if *report > 0 {
		go func() {
			for range time.Tick(*report) {
				r.stats("stats")
			}
		}()
	}
	var end <-chan time.Time
	if *listen != "" && *dur > 0 && *mode != "flood" {
		end = time.After(*dur)
	}
	switch *mode {
	case "flood", "ping":
		p := <-r.peers
		if *mode == "flood" {
			flood(r, p)
		} else {
			ping(r, p)
		}
	default:
		if *dial != "" && *dur > 0 {
			end = time.After(*dur)
		}
		for {
			stop := false
			select {
			case <-end:
				stop = true
			case <-r.gone:
				stop = *once || *dial != ""
			}
			if stop {
				break
			}
		}
	}
	r.stats("final")
	tr.Close()
}

func flood(r *reactor, p p2p.Peer) {
	msg := &gogotypes.BytesValue{Value: make([]byte, *size)}
	t0, c0 := time.Now(), cpu()
	n := 0
	for (*count > 0 && n < *count) || (*count == 0 && time.Since(t0) < *dur) {
		if !p.Send(p2p.Envelope{ChannelID: byte(*channel), Message: msg}) {
			break
		}
		n++
	}
	atomic.StoreInt64(&r.sent, int64(n))
	p.FlushStop()
	el := time.Since(t0).Seconds()
	out(map[string]any{"event": "flood", "size": *size, "sent_msgs": n, "secs": el, "msgs_per_s": float64(n) / el, "MB_per_s": float64(n) * float64(*size) / 1e6 / el, "cpu_us_per_msg": (cpu() - c0) * 1e6 / float64(n)})
}
func ping(r *reactor, p p2p.Peer) {
	k := *count
	if k == 0 {
		k = 1000
	}
	msg := &gogotypes.BytesValue{Value: make([]byte, *size)}
	var lat []time.Duration
	t0 := time.Now()
	for i := 0; i < k && (*dur == 0 || time.Since(t0) < *dur); i++ {
		s := time.Now()
		if !p.Send(p2p.Envelope{ChannelID: byte(*channel), Message: msg}) {
			break
		}
		select {
		case <-r.echo:
			lat = append(lat, time.Since(s))
		case <-time.After(5 * time.Second):
			out(map[string]any{"event": "error", "err": "no echo in 5s"})
			return
		}
	}
	sort.Slice(lat, func(i, j int) bool { return lat[i] < lat[j] })
	if len(lat) == 0 {
		return
	}
	out(map[string]any{"event": "ping", "size": *size, "n": len(lat), "min_us": lat[0].Microseconds(), "p50_us": lat[len(lat)/2].Microseconds(), "p90_us": lat[len(lat)*9/10].Microseconds(), "p99_us": lat[len(lat)*99/100].Microseconds()})
}

// handshakes dials -count times: TCP, SecretConnection, NodeInfo both ways, ID check; closes unless they are held.
func handshakes() {
	k := *count
	if k == 0 {
		k = 1000
	}
	da, err := p2p.NewNetAddressString(*dial)
	must(err)
	var lat []time.Duration
	c0, t0 := cpu(), time.Now()
	peer := p2p.DefaultNodeInfo{}.ToProto()
	for i := 0; i < k; i++ {
		nk := p2p.NodeKey{PrivKey: ed25519.GenPrivKey()}
		s := time.Now()
		c, err := da.DialTimeout(time.Second)
		must(err)
		must(c.SetDeadline(time.Now().Add(5 * time.Second)))
		sc, err := conn.MakeSecretConnection(c, nk.PrivKey)
		must(err)
		if got := p2p.PubKeyToID(sc.RemotePubKey()); got != da.ID {
			must(fmt.Errorf("dialed %s, got %s", da.ID, got))
		}
		ni := nodeInfo(nk, "127.0.0.1:1")
		errc := make(chan error, 1)
		go func() { _, err := protoio.NewDelimitedWriter(sc).WriteMsg(ni.ToProto()); errc <- err }()
		_, err = protoio.NewDelimitedReader(sc, p2p.MaxNodeInfoSize()).ReadMsg(peer)
		must(err)
		must(<-errc)
		lat = append(lat, time.Since(s))
		if *mode != "hold" {
			c.Close()
		}
	}
	el := time.Since(t0).Seconds()
	sort.Slice(lat, func(i, j int) bool { return lat[i] < lat[j] })
	out(map[string]any{"event": "handshake", "n": k, "secs": el, "per_s": float64(k) / el, "p50_us": lat[k/2].Microseconds(), "p99_us": lat[k*99/100].Microseconds(), "cpu_us_per_hs": (cpu() - c0) * 1e6 / float64(k), "peer_moniker": peer.Moniker, "peer_version": peer.Version})
}
