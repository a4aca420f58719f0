package gethnet

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/ethereum/go-ethereum/crypto"
	"github.com/ethereum/go-ethereum/log"
	"github.com/ethereum/go-ethereum/p2p"
	"github.com/ethereum/go-ethereum/p2p/enode"
	"github.com/ethereum/go-ethereum/p2p/nat"
)

// TCPPort is where the servers listen.
const TCPPort = 30303

// Server is a real p2p.Server on an address of its own, from which its dials leave too. It remembers what happened to each connection.
type Server struct {
	*p2p.Server
	IP netip.Addr

	events chan *p2p.PeerEvent
	mu     sync.Mutex
	stream []Incident
	heard  func(Incident)
}

// Incident is something that happened to a connection.
type Incident struct {
	At time.Time
	// What: "dial" (the server dials), "accept" (it was dialed), "throttled" (it closed an accepted stream unread), "refuse" (one of its
	// handshakes or checks failed), "add" and "drop" (of a peer).
	What string
	// Who is the other side: its IP.
	Who string
	// Why says a refusal or the end of a peer, in go-ethereum's words.
	Why string
}

// ServerConfig is what a p2p.Config does not say of itself.
type ServerConfig struct {
	p2p.Config
	// Heard is called with each incident; it must not wait.
	Heard func(Incident)
}

// StartServer starts a server on ip. What cfg leaves open: a new key, 50 peers, port 30303, no discovery.
func StartServer(ip netip.Addr, cfg ServerConfig) (*Server, error) {
	if cfg.PrivateKey == nil {
		key, err := crypto.GenerateKey()
		if err != nil {
			return nil, err
		}
		cfg.PrivateKey = key
	}
	if cfg.MaxPeers == 0 {
		cfg.MaxPeers = 50
	}
	if cfg.Name == "" {
		cfg.Name = "go-ethereum/interop"
	}
	if cfg.ListenAddr == "" {
		cfg.ListenAddr = netip.AddrPortFrom(ip, TCPPort).String()
	}
	cfg.NoDiscovery = !cfg.DiscoveryV4
	cfg.NAT = nat.ExtIP(ip.AsSlice()) // without it the record says 127.0.0.1
	s := &Server{IP: ip, events: make(chan *p2p.PeerEvent, 64), heard: cfg.Heard}
	cfg.Logger = log.NewLogger(ear{server: s})
	cfg.Dialer = dialer{s}
	s.Server = &p2p.Server{Config: cfg.Config}
	subscription := s.SubscribeEvents(s.events)
	if err := s.Start(); err != nil {
		subscription.Unsubscribe()
		return nil, fmt.Errorf("p2p.Server on %v: %w", ip, err)
	}
	go func() {
		for event := range s.events {
			if event.Type == p2p.PeerEventTypeAdd || event.Type == p2p.PeerEventTypeDrop {
				s.note(string(event.Type), host(event.RemoteAddress), event.Error)
			}
		}
	}()
	return s, nil
}

// Incidents gives what happened so far, of one kind ("": of every kind).
func (s *Server) Incidents(what string) (all []Incident) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, incident := range s.stream {
		if what == "" || incident.What == what {
			all = append(all, incident)
		}
	}
	return all
}

// Places counts its peers by who dialed.
func (s *Server) Places() (dialed, inbound int) {
	for _, peer := range s.Peers() {
		if peer.Inbound() {
			inbound++
		} else {
			dialed++
		}
	}
	return dialed, inbound
}

func (s *Server) note(what, who, why string) {
	incident := Incident{At: time.Now(), What: what, Who: who, Why: why}
	s.mu.Lock()
	s.stream = append(s.stream, incident)
	s.mu.Unlock()
	if s.heard != nil {
		s.heard(incident)
	}
}

// dialer dials from the server's own address, so that the other side can tell the servers of this machine apart.
type dialer struct{ server *Server }

func (d dialer) Dial(ctx context.Context, dest *enode.Node) (net.Conn, error) {
	endpoint, ok := dest.TCPEndpoint()
	if !ok {
		return nil, fmt.Errorf("no TCP endpoint: %v", dest)
	}
	d.server.note("dial", endpoint.Addr().String(), "")
	from := net.Dialer{Timeout: 15 * time.Second, LocalAddr: &net.TCPAddr{IP: d.server.IP.AsSlice()}}
	return from.DialContext(ctx, "tcp", endpoint.String())
}

// ear picks out of go-ethereum's log what it says of connections; nothing else tells of those that never became a peer.
type ear struct {
	server *Server
	attrs  []slog.Attr
}

// said are the messages of go-ethereum v1.17.10's p2p/server.go, and the incident that each is.
var said = map[string]string{
	"Accepted connection":             "accept",
	"Rejected inbound connection":     "throttled",
	"Failed RLPx handshake":           "refuse",
	"Rejected peer":                   "refuse",
	"Failed p2p handshake":            "refuse",
	"Wrong devp2p handshake identity": "refuse",
	"Setting up connection failed":    "refuse",
}

func (e ear) Enabled(context.Context, slog.Level) bool { return true }

func (e ear) Handle(_ context.Context, record slog.Record) error {
	what, ok := said[record.Message]
	if !ok {
		return nil
	}
	who, why := "", record.Message
	take := func(attr slog.Attr) bool {
		switch attr.Key {
		case "addr":
			who = host(fmt.Sprint(attr.Value.Any()))
		case "err":
			why = fmt.Sprint(attr.Value.Any())
		}
		return true
	}
	for _, attr := range e.attrs {
		take(attr)
	}
	record.Attrs(take)
	if what == "accept" {
		why = ""
	}
	e.server.note(what, who, why)
	return nil
}

func (e ear) WithAttrs(attrs []slog.Attr) slog.Handler {
	return ear{server: e.server, attrs: append(append([]slog.Attr(nil), e.attrs...), attrs...)}
}

func (e ear) WithGroup(string) slog.Handler { return e }

func host(address string) string {
	ip, _, err := net.SplitHostPort(address)
	if err != nil {
		return address
	}
	return ip
}
