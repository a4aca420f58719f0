package comet

import (
	"fmt"
	"sync"
	"time"

	"github.com/cometbft/cometbft/p2p"
)

// Network is many switches with PEX in this process.
type Network struct {
	Switches []*Switch
}

// networkListen gives each switch of a network a /16 of its own: address books count by /16.
func networkListen(second byte, i int) string {
	return fmt.Sprintf("127.%d.%d.1:26656", int(second)+i, 101+i)
}

// StartNetwork starts n switches: the first is everybody's seed. With seedMode it is one in CometBFT's sense; without, it is an
// ordinary node, a hub.
func StartNetwork(n int, network, dir string, second byte, seedMode bool, ensurePeers time.Duration) (*Network, error) {
	return startNetwork(n, func(i int, before []*Switch) Config {
		cfg := networkConfig(i, network, dir, second, ensurePeers)
		if i == 0 {
			cfg.SeedMode, cfg.MaxInbound = seedMode, n+10
		} else {
			cfg.Seeds = []string{before[0].Address.String()}
		}
		return cfg
	})
}

// StartTree starts n switches of which each, but the first, knows one other in the beginning: i knows (i-1)/2.
func StartTree(n int, network, dir string, second byte, ensurePeers time.Duration) (*Network, error) {
	return startNetwork(n, func(i int, before []*Switch) Config {
		cfg := networkConfig(i, network, dir, second, ensurePeers)
		if i > 0 {
			cfg.Known = []*p2p.NetAddress{before[(i-1)/2].Address}
		}
		return cfg
	})
}

func networkConfig(i int, network, dir string, second byte, ensurePeers time.Duration) Config {
	return Config{
		Listen: networkListen(second, i), Network: network, Moniker: fmt.Sprintf("comet%d", i), Pex: true, Dir: dir, EnsurePeers: ensurePeers,
	}
}

func startNetwork(n int, config func(i int, before []*Switch) Config) (*Network, error) {
	all := &Network{}
	for i := range n {
		one, err := Start(config(i, all.Switches))
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
