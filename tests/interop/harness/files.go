package harness

import (
	"bufio"
	"encoding/json"
	"os"
	"testing"
)

// Object reads a file that holds one JSON object.
func Object(t testing.TB, path string) Event {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var e Event
	if err := json.Unmarshal(raw, &e); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return e
}

// Objects reads a file of one JSON object a line; any other line fails the test.
func Objects(t testing.TB, path string) []Event {
	t.Helper()
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	var all []Event
	lines := bufio.NewScanner(file)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var e Event
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			t.Fatalf("%s:%d: %v in %q", path, len(all)+1, err, lines.Text())
		}
		all = append(all, e)
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	return all
}

// Anchors reads the addresses in a file of anchors; there are none if there is no file.
func Anchors(t testing.TB, path string) (addresses []string) {
	t.Helper()
	raw, err := os.ReadFile(path)
	if os.IsNotExist(err) {
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Version int
		Anchors []struct{ Address string }
	}
	if err := json.Unmarshal(raw, &file); err != nil || file.Version != 1 {
		t.Fatalf("%s: %v: %s", path, err, raw)
	}
	for _, anchor := range file.Anchors {
		addresses = append(addresses, anchor.Address)
	}
	return addresses
}
