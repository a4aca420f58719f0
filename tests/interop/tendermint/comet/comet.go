// Package comet runs real CometBFT peers: p2p.Switch, MultiplexTransport, SecretConnection, NodeInfo handshake and
// MConnection, with a test reactor on one channel or several, and with the PEX reactor and its address book.
//
// It is built against v0.38 by go.mod, and against v1.0 by go.v1.mod with the build tag comet1; what differs between the two
// is in v0.38.go and v1.go.
package comet

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"time"
	"unsafe"

	gogotypes "github.com/cosmos/gogoproto/types"

	"github.com/cometbft/cometbft/config"
	"github.com/cometbft/cometbft/crypto"
	"github.com/cometbft/cometbft/crypto/ed25519"
	"github.com/cometbft/cometbft/libs/log"
	"github.com/cometbft/cometbft/p2p"
	"github.com/cometbft/cometbft/p2p/conn"
	"github.com/cometbft/cometbft/p2p/pex"
	"github.com/cometbft/cometbft/version"
)

// largestMessage is what a test channel takes: above the 20 MB that are sent.
const largestMessage = 1 << 25

// TestChannel carries google.protobuf.BytesValue: 0x0a, the length as uvarint, the payload; an empty payload is an empty message.
const TestChannel = byte(0x30)

// Config says what a switch is; zero values are CometBFT's defaults where there is one.
type Config struct {
	// Listen is ip:port; port 0 takes a free one.
	Listen, Network, Moniker string
	// Key is the identity; without, a new one.
	Key crypto.PrivKey
	// Channels of the test reactor; without, TestChannel with priority 1.
	Channels []Channel
	// OnMessage gets what comes on them. It runs on the connection's receive task.
	OnMessage func(from p2p.Peer, channel byte, message []byte)
	// Rate is the limit of sending and of receiving, bytes a second (CometBFT: 5,120,000).
	Rate int64
	// Block is the block protocol that it says it speaks; 0 is its true one.
	Block uint64
	// Payload is max_packet_msg_payload_size (CometBFT: 1024, Tendermint v0.35: 1400).
	Payload int
	// Ping and Pong are MConnection's interval and time-out (CometBFT: 60 s, 45 s).
	Ping, Pong time.Duration
	// Persistent peers are dialed when the switch starts, and again when they are gone.
	Persistent []string
	// Pex makes it run the PEX reactor with an address book in Dir that holds Known.
	Pex   bool
	Dir   string
	Seeds []string
	Known []*p2p.NetAddress
	// SeedMode makes it crawl, answer one request and hang up.
	SeedMode bool
	// EnsurePeers is the period in which PEX looks for peers and asks one for addresses (CometBFT: 30 s). A node with the default period
	// hangs up on whoever asks it twice in 10 s.
	EnsurePeers time.Duration
	MaxInbound  int
	// OnePerIP refuses a second connection with an IP, as a node does by default (allow_duplicate_ip = false).
	OnePerIP bool
	Log      log.Logger
}

// Channel is one of a test reactor.
type Channel struct {
	ID       byte
	Priority int
}

// NewKey makes an identity, for a switch that comes back.
func NewKey() crypto.PrivKey { return ed25519.GenPrivKey() }

// SaveKey writes an identity as CometBFT's node_key.json.
func SaveKey(key crypto.PrivKey, path string) error {
	nodeKey := p2p.NodeKey{PrivKey: key}
	if err := nodeKey.SaveAs(path); err != nil {
		return err
	}
	return os.Chmod(path, 0o600)
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
	if cfg.Key == nil {
		cfg.Key = NewKey()
	}
	if cfg.Channels == nil {
		cfg.Channels = []Channel{{ID: TestChannel, Priority: 1}}
	}
	key := p2p.NodeKey{PrivKey: cfg.Key}
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
	if cfg.Rate > 0 {
		p2pConfig.SendRate, p2pConfig.RecvRate = cfg.Rate, cfg.Rate
	}
	if cfg.Payload > 0 {
		p2pConfig.MaxPacketMsgPayloadSize = cfg.Payload
	}
	mconnConfig := p2p.MConnConfig(p2pConfig)
	if cfg.Ping > 0 {
		mconnConfig.PingInterval, mconnConfig.PongTimeout = cfg.Ping, cfg.Pong
	}
	var channels []byte
	for _, channel := range cfg.Channels {
		channels = append(channels, channel.ID)
	}
	if cfg.Pex {
		channels = append(channels, pex.PexChannel)
	}
	if cfg.Block == 0 {
		cfg.Block = version.BlockProtocol
	}
	info := p2p.DefaultNodeInfo{
		ProtocolVersion: p2p.NewProtocolVersion(version.P2PProtocol, cfg.Block, 0),
		DefaultNodeID:   key.ID(), ListenAddr: listen, Network: cfg.Network, Version: Version,
		Channels: channels, Moniker: cfg.Moniker,
	}
	logger := cfg.Log
	if logger == nil {
		logger = log.NewNopLogger()
	}
	s := &Switch{Address: address, watcher: newWatcher(cfg.Channels, cfg.OnMessage)}
	s.transport = p2p.NewMultiplexTransport(info, key, mconnConfig)
	if cfg.OnePerIP {
		p2p.MultiplexTransportConnFilters(p2p.ConnDuplicateIPFilter())(s.transport)
	}
	s.Switch = p2p.NewSwitch(p2pConfig, s.transport)
	s.SetLogger(logger)
	s.AddReactor("TEST", s.watcher)
	if cfg.Pex {
		s.Book = pex.NewAddrBook(filepath.Join(cfg.Dir, string(key.ID())+".json"), false)
		s.Book.SetLogger(logger)
		s.Book.AddOurAddress(address)
		for _, known := range cfg.Known {
			if err := s.Book.AddAddress(known, known); err != nil {
				return nil, err
			}
		}
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
	if err := s.AddPersistentPeers(cfg.Persistent); err != nil {
		return nil, err
	}
	if err := s.Switch.Start(); err != nil {
		return nil, err
	}
	return s, s.DialPeersAsync(cfg.Persistent)
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

// Connected gives the peers of this moment.
func (s *Switch) Connected() []p2p.Peer { return connected(s.Switch) }

// Send sends a message; it waits up to 10 s for room on the channel and says whether there was any.
func Send(to p2p.Peer, channel byte, message []byte) bool {
	return to.Send(p2p.Envelope{ChannelID: channel, Message: &gogotypes.BytesValue{Value: message}})
}

// Pretend makes a switch believe that its peer lists a channel: an honest one drops what the other does not list.
func Pretend(peer p2p.Peer, channel byte) {
	listed := reflect.ValueOf(peer).Elem().FieldByName("channels")
	channels := (*[]byte)(unsafe.Pointer(listed.UnsafeAddr()))
	*channels = append(slices.Clone(*channels), channel)
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

// watcher is the reactor on the test channels; it also tells of peers that come and go.
type watcher struct {
	p2p.BaseReactor
	channels  []Channel
	onMessage func(p2p.Peer, byte, []byte)
	up        chan p2p.Peer
	gone      chan string
}

func newWatcher(channels []Channel, onMessage func(p2p.Peer, byte, []byte)) *watcher {
	w := &watcher{channels: channels, onMessage: onMessage, up: make(chan p2p.Peer, eventBacklog), gone: make(chan string, eventBacklog)}
	w.BaseReactor = *p2p.NewBaseReactor("TEST", w)
	return w
}

func (w *watcher) GetChannels() []*conn.ChannelDescriptor {
	var all []*conn.ChannelDescriptor
	for _, channel := range w.channels {
		all = append(all, &conn.ChannelDescriptor{
			ID: channel.ID, Priority: channel.Priority, SendQueueCapacity: 100, RecvMessageCapacity: largestMessage, MessageType: &gogotypes.BytesValue{},
		})
	}
	return all
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
		w.onMessage(e.Src, e.ChannelID, e.Message.(*gogotypes.BytesValue).Value)
	}
}
