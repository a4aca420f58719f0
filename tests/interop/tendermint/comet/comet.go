// Package comet runs real CometBFT peers: p2p.Switch, MultiplexTransport, SecretConnection, NodeInfo handshake and
// MConnection, with a test reactor on one channel, or with the PEX reactor and its address book.
package comet

import (
	"fmt"
	"net"
	"path/filepath"
	"sync"
	"time"

	gogotypes "github.com/cosmos/gogoproto/types"

	"github.com/cometbft/cometbft/config"
	"github.com/cometbft/cometbft/crypto/ed25519"
	"github.com/cometbft/cometbft/libs/log"
	"github.com/cometbft/cometbft/p2p"
	"github.com/cometbft/cometbft/p2p/conn"
	"github.com/cometbft/cometbft/p2p/pex"
	"github.com/cometbft/cometbft/version"
)

// TestChannel carries google.protobuf.BytesValue: 0x0a, the length as uvarint, the payload; an empty payload is an empty message.
const TestChannel = byte(0x30)

// Config says what a switch is; zero values are CometBFT's defaults where there is one.
type Config struct {
	// Listen is ip:port; port 0 takes a free one.
	Listen, Network, Moniker string
	// OnMessage makes the switch have a test reactor on TestChannel. It runs on the connection's receive task.
	OnMessage func(from p2p.Peer, message []byte)
	// Pex makes it run the PEX reactor with an address book in Dir.
	Pex   bool
	Dir   string
	Seeds []string
	// SeedMode makes it crawl, answer one request and hang up.
	SeedMode bool
	// EnsurePeers is the period in which PEX looks for peers and asks one for addresses (CometBFT: 30 s). A node with the default period
	// hangs up on whoever asks it twice in 10 s.
	EnsurePeers time.Duration
	MaxInbound  int
	Log         log.Logger
}

// Switch is a running CometBFT peer.
type Switch struct {
	*p2p.Switch
	Address *p2p.NetAddress
	// Book is nil without PEX.
	Book pex.AddrBook

	transport *p2p.MultiplexTransport
	watcher   *watcher
}

// Start starts a switch.
func Start(cfg Config) (*Switch, error) {
	key := p2p.NodeKey{PrivKey: ed25519.GenPrivKey()}
	listen, err := freePort(cfg.Listen)
	if err != nil {
		return nil, err
	}
	address, err := p2p.NewNetAddressString(p2p.IDAddressString(key.ID(), listen))
	if err != nil {
		return nil, err
	}
	p2pConfig := config.DefaultP2PConfig()
	p2pConfig.AllowDuplicateIP = true
	p2pConfig.AddrBookStrict = false // strict books refuse loopback addresses without a word
	if cfg.MaxInbound > 0 {
		p2pConfig.MaxNumInboundPeers = cfg.MaxInbound
	}
	channels := []byte{TestChannel}
	if cfg.Pex {
		channels = append(channels, pex.PexChannel)
	}
	info := p2p.DefaultNodeInfo{
		ProtocolVersion: p2p.NewProtocolVersion(version.P2PProtocol, version.BlockProtocol, 0),
		DefaultNodeID:   key.ID(), ListenAddr: listen, Network: cfg.Network, Version: version.TMCoreSemVer,
		Channels: channels, Moniker: cfg.Moniker,
	}
	logger := cfg.Log
	if logger == nil {
		logger = log.NewNopLogger()
	}
	s := &Switch{Address: address, watcher: newWatcher(cfg.OnMessage)}
	s.transport = p2p.NewMultiplexTransport(info, key, p2p.MConnConfig(p2pConfig))
	s.Switch = p2p.NewSwitch(p2pConfig, s.transport)
	s.SetLogger(logger)
	s.AddReactor("TEST", s.watcher)
	if cfg.Pex {
		s.Book = pex.NewAddrBook(filepath.Join(cfg.Dir, string(key.ID())+".json"), false)
		s.Book.SetLogger(logger)
		s.Book.AddOurAddress(address)
		s.SetAddrBook(s.Book)
		reactor := pex.NewReactor(s.Book, &pex.ReactorConfig{SeedMode: cfg.SeedMode, Seeds: cfg.Seeds, SeedDisconnectWaitPeriod: 28 * time.Hour})
		reactor.SetLogger(logger)
		if cfg.EnsurePeers > 0 && !cfg.SeedMode {
			reactor.SetEnsurePeersPeriod(cfg.EnsurePeers)
		}
		s.AddReactor("PEX", reactor)
	}
	s.SetNodeInfo(info)
	s.SetNodeKey(&key)
	if err := s.transport.Listen(*address); err != nil {
		return nil, err
	}
	if err := s.Switch.Start(); err != nil {
		return nil, err
	}
	return s, nil
}

// Stop ends the switch and its listener; the address book is saved when it returns.
func (s *Switch) Stop() {
	s.Switch.Stop()
	s.transport.Close()
	if s.Book != nil {
		s.Book.(interface{ Wait() }).Wait()
	}
}

// Joined gives every peer once, when it is up.
func (s *Switch) Joined() <-chan p2p.Peer { return s.watcher.up }

// Gone gives the reason for every peer that went.
func (s *Switch) Gone() <-chan string { return s.watcher.gone }

// Send sends a message on the test channel; it waits up to 10 s for room and says whether there was any.
func Send(to p2p.Peer, message []byte) bool {
	return to.Send(p2p.Envelope{ChannelID: TestChannel, Message: &gogotypes.BytesValue{Value: message}})
}

// Dial connects to `id@host:port`.
func (s *Switch) Dial(address string) error {
	to, err := p2p.NewNetAddressString(address)
	if err != nil {
		return err
	}
	return s.DialPeerWithAddress(to)
}

func freePort(listen string) (string, error) {
	if _, port, err := net.SplitHostPort(listen); err != nil || port != "0" {
		return listen, err
	}
	l, err := net.Listen("tcp", listen)
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}

// eventBacklog bounds what nobody has read yet; more is dropped.
const eventBacklog = 1 << 12

// watcher is the reactor on the test channel; it also tells of peers that come and go.
type watcher struct {
	p2p.BaseReactor
	onMessage func(p2p.Peer, []byte)
	up        chan p2p.Peer
	gone      chan string
}

func newWatcher(onMessage func(p2p.Peer, []byte)) *watcher {
	w := &watcher{onMessage: onMessage, up: make(chan p2p.Peer, eventBacklog), gone: make(chan string, eventBacklog)}
	w.BaseReactor = *p2p.NewBaseReactor("TEST", w)
	return w
}

func (w *watcher) GetChannels() []*conn.ChannelDescriptor {
	return []*conn.ChannelDescriptor{{ID: TestChannel, Priority: 1, SendQueueCapacity: 100, RecvMessageCapacity: 1 << 22, MessageType: &gogotypes.BytesValue{}}}
}

func (w *watcher) AddPeer(p p2p.Peer) {
	select {
	case w.up <- p:
	default:
	}
}

func (w *watcher) RemovePeer(p p2p.Peer, reason any) {
	select {
	case w.gone <- fmt.Sprint(reason):
	default:
	}
}

func (w *watcher) Receive(e p2p.Envelope) {
	if w.onMessage != nil {
		w.onMessage(e.Src, e.Message.(*gogotypes.BytesValue).Value)
	}
}

// Network is many switches with PEX in this process.
type Network struct {
	Switches []*Switch
}

// StartNetwork starts n switches, each in a /16 of its own (address books count by /16): the first is everybody's seed.
// With seedMode it is one in CometBFT's sense; without, it is an ordinary node, a hub.
func StartNetwork(n int, network, dir string, second byte, seedMode bool, ensurePeers time.Duration) (*Network, error) {
	all := &Network{}
	for i := range n {
		cfg := Config{
			Listen: fmt.Sprintf("127.%d.%d.1:26656", int(second)+i, i), Network: network, Moniker: fmt.Sprintf("comet%d", i),
			Pex: true, Dir: dir, EnsurePeers: ensurePeers,
		}
		if i == 0 {
			cfg.SeedMode, cfg.MaxInbound = seedMode, n+10
		} else {
			cfg.Seeds = []string{all.Switches[0].Address.String()}
		}
		one, err := Start(cfg)
		if err != nil {
			all.Stop()
			return nil, fmt.Errorf("switch %d: %w", i, err)
		}
		all.Switches = append(all.Switches, one)
	}
	return all, nil
}

// Stop ends every switch.
func (n *Network) Stop() {
	var all sync.WaitGroup
	for _, s := range n.Switches {
		all.Go(s.Stop)
	}
	all.Wait()
}
