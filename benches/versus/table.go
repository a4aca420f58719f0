package main

import (
	"fmt"
	"os"
	"slices"
	"strings"
)

// row compares one path: figures of several rounds, taken in turns.
type row struct {
	path, unit string
	// target is the ratio that design asks for, e.g. "≤ 0.65×".
	target string
	// reference and ours are one figure a round.
	reference, ours []float64
	// best says which figure of the rounds counts: smallest for times and costs, largest for rates; what else ran on the machine can only make it worse.
	best func([]float64) float64
}

func smallest(all []float64) float64 { return slices.Min(all) }
func largest(all []float64) float64  { return slices.Max(all) }

var rows []row

func report(r row) {
	rows = append(rows, r)
	fmt.Fprintf(os.Stderr, "%s: reference %s, ours %s %s\n", r.path, list(r.reference), list(r.ours), r.unit)
}

func list(all []float64) string {
	texts := make([]string, len(all))
	for i, n := range all {
		texts[i] = figure(n)
	}
	return strings.Join(texts, " ")
}

func figure(n float64) string {
	switch {
	case n >= 1000:
		return grouped(fmt.Sprintf("%.0f", n))
	case n >= 100:
		return fmt.Sprintf("%.0f", n)
	case n >= 10:
		return fmt.Sprintf("%.1f", n)
	default:
		return fmt.Sprintf("%.2f", n)
	}
}

// grouped puts a comma before every three digits.
func grouped(digits string) string {
	if len(digits) <= 3 {
		return digits
	}
	return grouped(digits[:len(digits)-3]) + "," + digits[len(digits)-3:]
}

func ratio(n float64) string {
	if n < 0.01 {
		return fmt.Sprintf("%.4f×", n)
	}
	return fmt.Sprintf("%.2f×", n)
}

func printTable() {
	fmt.Println("| path | unit | reference | ours | ours / reference | target |")
	fmt.Println("|---|---|---|---|---|---|")
	for _, r := range rows {
		reference, ours := r.best(r.reference), r.best(r.ours)
		fmt.Printf("| %s | %s | %s | %s | %s | %s |\n", r.path, r.unit, figure(reference), figure(ours), ratio(ours/reference), r.target)
	}
}

// afterName gives the fields of /proc/PID/stat that follow the program's name, which may hold anything.
func afterName(stat string) []string {
	return strings.Fields(stat[strings.LastIndexByte(stat, ')')+2:])
}
