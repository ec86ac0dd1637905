// A server as no library makes one: it answers each connection with the text of the file `raw`, and does what that says.
package main

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"time"
)

// Lines of the file: `send TEXT` (a Go string), `repeat COUNT TEXT`, `sleep MILLISECONDS`, `close`, `reset`, `head` (reads the head of a request), `hang`.
func raw() {
	text, _ := os.ReadFile("/var/task/raw")
	steps := strings.Split(strings.TrimSpace(string(text)), "\n")
	listener, err := net.Listen("tcp", "127.0.0.1:"+os.Getenv("PORT"))
	if err != nil {
		panic(err)
	}
	for {
		c, err := listener.Accept()
		if err != nil {
			panic(err)
		}
		go answer_raw(c.(*net.TCPConn), steps)
	}
}

func unquoted(text string) string {
	plain, err := strconv.Unquote(text)
	if err != nil {
		panic(text)
	}
	return plain
}

func answer_raw(c *net.TCPConn, steps []string) {
	defer c.Close()
	r := bufio.NewReader(c)
	for _, step := range steps {
		verb, rest, _ := strings.Cut(step, " ")
		switch verb {
		case "head":
			for {
				line, err := r.ReadString('\n')
				if err != nil {
					return
				}
				if line == "\r\n" {
					break
				}
			}
		case "send":
			if _, err := c.Write([]byte(unquoted(rest))); err != nil {
				return
			}
		case "repeat":
			count, text, _ := strings.Cut(rest, " ")
			n, _ := strconv.Atoi(count)
			piece := []byte(unquoted(text))
			for ; n > 0; n-- {
				if _, err := c.Write(piece); err != nil {
					return
				}
			}
		case "sleep":
			n, _ := strconv.Atoi(rest)
			time.Sleep(time.Duration(n) * time.Millisecond)
		case "close":
			return
		case "reset":
			c.SetLinger(0)
			return
		case "hang":
			// Until the other end is gone.
			for {
				if _, err := r.ReadByte(); err != nil {
					fmt.Println("hung up")
					return
				}
			}
		}
	}
}
