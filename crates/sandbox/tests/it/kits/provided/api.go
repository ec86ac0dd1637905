// The Runtime API, spoken by hand over one connection.
package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/textproto"
	"os"
	"strconv"
	"strings"
)

const version = "/2018-06-01/runtime/"

type connection struct {
	net.Conn
	*bufio.Reader
}

type answer struct {
	status int
	header textproto.MIMEHeader
	body   []byte
}

func connect() connection {
	c, err := net.Dial("tcp", os.Getenv("AWS_LAMBDA_RUNTIME_API"))
	if err != nil {
		panic(err)
	}
	return connection{c, bufio.NewReader(c)}
}

func (c connection) send(text string) {
	if _, err := io.WriteString(c.Conn, text); err != nil {
		panic(err)
	}
}

func (c connection) head(method, path string, headers ...string) {
	lines := append([]string{method + " " + path + " HTTP/1.1", "Host: runtime"}, headers...)
	c.send(strings.Join(lines, "\r\n") + "\r\n\r\n")
}

func (c connection) receive() answer {
	r := textproto.NewReader(c.Reader)
	line, err := r.ReadLine()
	if err != nil {
		panic(err)
	}
	status, _ := strconv.Atoi(strings.Fields(line)[1])
	header, err := r.ReadMIMEHeader()
	if err != nil {
		panic(err)
	}
	length, _ := strconv.Atoi(header.Get("Content-Length"))
	body := make([]byte, length)
	if _, err := io.ReadFull(c.Reader, body); err != nil {
		panic(err)
	}
	return answer{status, header, body}
}

func (c connection) get(path string, headers ...string) answer {
	c.head("GET", path, headers...)
	return c.receive()
}

func (c connection) post(path string, body string, headers ...string) answer {
	headers = append(headers, fmt.Sprintf("Content-Length: %d", len(body)))
	c.head("POST", path, headers...)
	c.send(body)
	return c.receive()
}

func (c connection) chunk(bytes []byte) {
	c.send(fmt.Sprintf("%x\r\n", len(bytes)))
	c.send(string(bytes))
	c.send("\r\n")
}
