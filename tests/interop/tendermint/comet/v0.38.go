//go:build !comet1

package comet

import (
	"github.com/cometbft/cometbft/p2p"
	"github.com/cometbft/cometbft/version"
)

// Version is the CometBFT that the peers are.
const Version = version.TMCoreSemVer

func connected(s *p2p.Switch) []p2p.Peer { return s.Peers().List() }
