package main

import (
	"path/filepath"
)

// comets are the CometBFT versions that are measured beside ours, in turns.
var comets = []string{"0.38.26", "1.0.1"}

// cometBin is a program of tests/interop/tendermint/cmd, built against one of them.
func cometBin(version, name string) string { return filepath.Join(bin, "comet-"+version, name) }

// beside is one row for each CometBFT, beside the same figures of ours.
type beside struct{ rows []*row }

// besideComets begins the rows of one path; a target for each version.
func besideComets(path, unit string, targets [2]string, best func([]float64) float64) beside {
	var b beside
	for i, version := range comets {
		b.rows = append(b.rows, &row{path: path + " (CometBFT " + version + ")", unit: unit, target: targets[i], best: best})
	}
	return b
}

// theirs notes a figure of the i-th version.
func (b beside) theirs(i int, figure float64) {
	b.rows[i].reference = append(b.rows[i].reference, figure)
}

// ours notes a figure of ours, in every row.
func (b beside) ours(figure float64) {
	for _, row := range b.rows {
		row.ours = append(row.ours, figure)
	}
}

func (b beside) report() {
	for _, row := range b.rows {
		report(*row)
	}
}

func same(target string) [2]string { return [2]string{target, target} }
