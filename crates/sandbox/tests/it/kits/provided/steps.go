// Speaks the Runtime API as no client would: step by step, as the event says.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"strings"
	"time"
)

// What was read: a whole answer, or why there is none.
type read struct {
	Status int               `json:"status,omitempty"`
	Header map[string]string `json:"header,omitempty"`
	Body   string            `json:"body,omitempty"`
	Error  string            `json:"error,omitempty"`
}

func (c connection) try() (r read) {
	defer func() {
		if e := recover(); e != nil {
			r = read{Error: fmt.Sprint(e)}
		}
	}()
	a := c.receive()
	header := map[string]string{}
	for key, values := range a.header {
		header[key] = strings.Join(values, ", ")
	}
	return read{Status: a.status, Header: header, Body: string(a.body)}
}

// Each step is a verb, the number of a connection, and a text: `send`; `repeat` sends a letter so many times; `receive`; `within` receives within so
// many milliseconds; `shut` closes the sending half; `close`. Connections are made when they are first named; 0 is the runtime's own. `sleep` waits so
// many milliseconds. `{id}` in a text is the call's.
func steps(own connection, id string, all [][]string) []read {
	connections := map[string]connection{"0": own}
	reads := []read{}
	for _, step := range all {
		verb, name, text := step[0], step[1], ""
		if len(step) > 2 {
			text = strings.ReplaceAll(step[2], "{id}", id)
		}
		c, known := connections[name]
		if !known && verb != "sleep" {
			made, err := net.Dial("tcp", os.Getenv("AWS_LAMBDA_RUNTIME_API"))
			if err != nil {
				reads = append(reads, read{Error: err.Error()})
				continue
			}
			c = connection{made, bufio.NewReader(made)}
			connections[name] = c
		}
		switch verb {
		case "send":
			// Whoever is cut off finds out when it reads.
			c.Conn.Write([]byte(text))
		case "repeat":
			var times int
			fmt.Sscan(text[1:], &times)
			c.Conn.Write([]byte(strings.Repeat(text[:1], times)))
		case "receive":
			reads = append(reads, c.try())
		case "within":
			limit, _ := time.ParseDuration(text + "ms")
			c.Conn.SetReadDeadline(time.Now().Add(limit))
			reads = append(reads, c.try())
			c.Conn.SetReadDeadline(time.Time{})
		case "shut":
			c.Conn.(*net.TCPConn).CloseWrite()
		case "close":
			c.Conn.Close()
		case "sleep":
			pause, _ := time.ParseDuration(name + "ms")
			time.Sleep(pause)
		}
	}
	return reads
}

// Before its first call it does what a file says, and prints what came of it.
func early(own connection) {
	text, err := os.ReadFile("/var/task/early")
	if err != nil {
		return
	}
	var all [][]string
	json.Unmarshal(text, &all)
	said, _ := json.Marshal(steps(own, "", all))
	fmt.Println(string(said))
}

// What it inherited beside its standard descriptors, as far as it leads anywhere.
func inherited() []string {
	found := []string{}
	entries, _ := os.ReadDir("/proc/self/fd")
	for _, entry := range entries {
		to, err := os.Readlink("/proc/self/fd/" + entry.Name())
		// The poller's own.
		if err == nil && entry.Name() > "2" && !strings.HasPrefix(to, "anon_inode:") && !strings.HasPrefix(to, "/proc") {
			found = append(found, to)
		}
	}
	return found
}
