package tendermint

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/cometbft/cometbft/p2p"
	"github.com/cometbft/cometbft/p2p/pex"

	"kadwire/interop/harness"
)

// addresses is how many the books have: ten times what a book wants before it stops asking.
const addresses = 10_000

// addrbook is the file; a bucket_type of 2 is an address that was reached.
type addrbook struct {
	Key   string
	Addrs []struct {
		Addr       p2p.NetAddress
		Buckets    []int
		BucketType int `json:"bucket_type"`
	}
}

// summary is what the example address_book prints.
type summary struct {
	Tried, Kept, Reached int
	LeftOut              int `json:"left_out"`
}

func ours(t *testing.T, args ...string) (s summary) {
	t.Helper()
	command := exec.Command(harness.AddressBook(t), args...)
	command.Stderr = os.Stderr
	out, err := command.Output()
	if err != nil {
		t.Fatalf("address_book %v: %v", args, err)
	}
	if err := json.Unmarshal(out, &s); err != nil {
		t.Fatalf("address_book %v printed %q: %v", args, out, err)
	}
	return s
}

func read(t *testing.T, path string) (book addrbook) {
	t.Helper()
	bytes, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(bytes, &book); err != nil {
		t.Fatal(err)
	}
	return book
}

// theirs loads a file into CometBFT's book.
func theirs(t *testing.T, path string) pex.AddrBook {
	t.Helper()
	book := pex.NewAddrBook(path, true)
	if err := book.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { book.Stop() })
	return book
}

// inBuckets draws from CometBFT's buckets until every address came up. A bias of 0 draws from old ones only, of 100 from new ones.
func inBuckets(t *testing.T, book pex.AddrBook, want int) {
	t.Helper()
	seen := map[p2p.ID]bool{}
	for range 5_000 {
		for _, bias := range []int{0, 100} {
			for _, address := range book.GetSelectionWithBias(bias) {
				seen[address.ID] = true
			}
		}
		if len(seen) == want {
			return
		}
	}
	t.Fatalf("%d of %d addresses are in CometBFT's buckets", len(seen), want)
}

// TestCometBFTReadsOurAddressBook: 10,000 addresses, every third reached, many of those demoted again for want of room.
func TestCometBFTReadsOurAddressBook(t *testing.T) {
	path := filepath.Join(t.TempDir(), "addrbook.json")
	wrote := ours(t, "fill", path, fmt.Sprint(addresses))
	file := read(t, path)
	if wrote.Kept != len(file.Addrs) || wrote.Kept < addresses*9/10 {
		t.Fatalf("ours kept %+v, the file has %d", wrote, len(file.Addrs))
	}
	book := theirs(t, path)
	if book.Size() != wrote.Kept {
		t.Fatalf("CometBFT loaded %d of %d", book.Size(), wrote.Kept)
	}
	good := 0
	for _, entry := range file.Addrs {
		if !book.HasAddress(&entry.Addr) || book.IsGood(&entry.Addr) != (entry.BucketType == 2) {
			t.Fatalf("CometBFT has not %v as it was written", entry.Addr)
		}
		if book.IsGood(&entry.Addr) {
			good++
		}
	}
	if good != wrote.Reached {
		t.Fatalf("%d are good, not %d", good, wrote.Reached)
	}
	inBuckets(t, book, wrote.Kept)

	// And back again: what CometBFT saves, ours reads whole and marks good without losing any.
	book.Save()
	again := ours(t, "good", path)
	if again.LeftOut != 0 || again.Tried != wrote.Kept || again.Kept != wrote.Kept {
		t.Fatalf("ours read and kept %+v of %d", again, wrote.Kept)
	}
	t.Logf("%d addresses, %d reached; after all were marked good %d are kept, %d as reached", wrote.Kept, wrote.Reached, again.Kept, again.Reached)
}

// TestOursReadsCometBFTsAddressBook: 10,000 addresses that CometBFT added, every third marked good by it.
func TestOursReadsCometBFTsAddressBook(t *testing.T) {
	path := filepath.Join(t.TempDir(), "addrbook.json")
	book := theirs(t, path)
	at := func(n int) *p2p.NetAddress {
		return &p2p.NetAddress{ID: p2p.ID(fmt.Sprintf("%040x", n+1)), IP: net.IPv4(44, byte(n>>8), byte(n), 1), Port: 26656}
	}
	for n := range addresses {
		if err := book.AddAddress(at(n), at(n%997*64)); err != nil {
			t.Fatal(err)
		}
		if n%3 == 0 {
			book.MarkGood(at(n).ID)
		}
	}
	book.Save()
	file := read(t, path)
	good := ours(t, "good", path)
	if good.LeftOut != 0 || good.Tried != len(file.Addrs) || good.Kept != len(file.Addrs) {
		t.Fatalf("CometBFT wrote %d addresses, ours has %+v", len(file.Addrs), good)
	}
	written := read(t, path)
	if written.Key != file.Key {
		t.Fatalf("the key %s became %s", file.Key, written.Key)
	}
	for _, entry := range written.Addrs {
		most := map[int]int{1: 256, 2: 64}[entry.BucketType]
		for _, bucket := range entry.Buckets {
			if bucket < 0 || bucket >= most {
				t.Fatalf("%v is in bucket %d of %d", entry.Addr, bucket, most)
			}
		}
	}
	back := theirs(t, path)
	if back.Size() != good.Kept {
		t.Fatalf("CometBFT loaded %d of %d", back.Size(), good.Kept)
	}
	inBuckets(t, back, good.Kept)
	t.Logf("of %d added CometBFT kept %d; ours kept all of them, %d as reached", addresses, good.Tried, good.Reached)
}
