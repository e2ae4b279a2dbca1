// One member of HashiCorp's memberlist with its defaults for local networks, as a process of its
// own, for bench/bench_gossip. Built from the Debian package, without a network.
//
//	memberlist ID
//
// Member ID of 127.0.0.1, port 10000 + ID, encrypted; joins at 1..3. Prints what it believes, with
// the monotonic clock in ns: "<ns> <state> <peer>". Ends with its parent.
package main

import (
	"fmt"
	"io/ioutil"
	"log"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unsafe"

	"github.com/hashicorp/memberlist"
)

const port, seeds = 10000, 3

func now() int64 {
	var t syscall.Timespec
	syscall.Syscall(syscall.SYS_CLOCK_GETTIME, 1, uintptr(unsafe.Pointer(&t)), 0)
	return t.Nano()
}

type events struct{}

func say(state string, n *memberlist.Node) {
	fmt.Printf("%d %s %s\n", now(), state, strings.TrimPrefix(n.Name, "worker-"))
}

func (events) NotifyJoin(n *memberlist.Node)   { say("alive", n) }
func (events) NotifyLeave(n *memberlist.Node)  { say("dead", n) }
func (events) NotifyUpdate(n *memberlist.Node) {}

// As much as a worker announces.
type meta struct{}

func (meta) NodeMeta(limit int) []byte               { return make([]byte, 40) }
func (meta) NotifyMsg([]byte)                        {}
func (meta) GetBroadcasts(overhead, max int) [][]byte { return nil }
func (meta) LocalState(join bool) []byte             { return nil }
func (meta) MergeRemoteState(buf []byte, join bool)  {}

func main() {
	id, err := strconv.Atoi(os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	// PR_SET_PDEATHSIG
	syscall.RawSyscall(syscall.SYS_PRCTL, 1, uintptr(syscall.SIGKILL), 0)
	c := memberlist.DefaultLANConfig()
	c.Name = fmt.Sprintf("worker-%d", id)
	c.BindAddr, c.BindPort, c.AdvertisePort = "127.0.0.1", port+id, port+id
	c.SecretKey = []byte("0123456789abcdef0123456789abcdef")
	c.Delegate, c.Events = meta{}, events{}
	c.Logger = log.New(ioutil.Discard, "", 0)
	m, err := memberlist.Create(c)
	if err != nil {
		log.Fatal(err)
	}
	var at []string
	for i := 1; i <= seeds; i++ {
		if i != id {
			at = append(at, fmt.Sprintf("127.0.0.1:%d", port+i))
		}
	}
	for m.NumMembers() == 1 {
		if n, _ := m.Join(at); n == 0 {
			time.Sleep(100 * time.Millisecond)
		}
	}
	select {}
}
