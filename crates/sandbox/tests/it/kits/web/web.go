// The suite's executable as a web server: events come to /events, and are answered with what the operation returns.
package main

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Before main, which speaks the Runtime API.
func init() {
	if len(os.Args) > 2 {
		return
	}
	debug.SetTraceback("crash")
	if is("throws") {
		fmt.Println("not today")
		os.Exit(3)
	}
	if is("deaf") {
		fmt.Println("listening elsewhere")
		forever()
	}
	if is("raw") {
		raw()
	}
	given = inherited()
	// Not by the library's own routes, which tidy paths up.
	route := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/events":
			events(w, r)
		case "/meet":
			meet(w, r)
		case "/mirror":
			mirror(w, r)
		case "/socket":
			socket(w, r)
		case "/ready":
			ready(w)
		default:
			echo(w, r)
		}
	})
	fmt.Println(http.ListenAndServe(net.JoinHostPort("127.0.0.1", os.Getenv("PORT")), route))
	os.Exit(1)
}

func events(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	var e event
	if err := json.Unmarshal(body, &e); err != nil {
		http.Error(w, err.Error(), 400)
		return
	}
	if is("streams") {
		pieces(w, e)
		return
	}
	if e.Op == "sleep" {
		time.Sleep(time.Duration(e.Code) * time.Millisecond)
		e = event{Op: "echo", Value: json.RawMessage("null")}
	}
	value, err := run(e)
	status, said := 200, []byte{}
	if err != nil {
		status, said = 500, []byte(problem(err))
	} else {
		said, _ = json.Marshal(value)
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", fmt.Sprint(len(said)))
	w.WriteHeader(status)
	w.Write(said)
}

func pieces(w http.ResponseWriter, e event) {
	w.Header().Set("X-Said", "before")
	w.Header()["Date"] = nil
	w.Header()["Content-Type"] = nil
	w.WriteHeader(201)
	flush := w.(http.Flusher).Flush
	flush()
	for n := 0; n < e.Pieces || e.Then == "endless"; n++ {
		w.Write([]byte(strings.Repeat(string(rune('a'+n%26)), e.Bytes)))
		flush()
		fmt.Println("wrote", n+1)
	}
	switch e.Then {
	case "exit":
		os.Exit(7)
	case "never":
		forever()
	case "throw":
		body := base64.StdEncoding.EncodeToString([]byte(problem(fmt.Errorf("half-way"))))
		w.Header().Set(http.TrailerPrefix+"Lambda-Runtime-Function-Error-Type", "Function.Error")
		w.Header().Set(http.TrailerPrefix+"Lambda-Runtime-Function-Error-Body", body)
	}
}

// Answers once as many are here as the query says.
func meet(w http.ResponseWriter, r *http.Request) {
	fmt.Println("here")
	arrived.Lock()
	here++
	count, _ := strconv.Atoi(r.URL.Query().Get("n"))
	if here == count {
		close(all)
	}
	arrived.Unlock()
	<-all
	fmt.Fprint(w, "all")
}

// Writes what it reads, as it reads it.
func mirror(w http.ResponseWriter, r *http.Request) {
	control := http.NewResponseController(w)
	control.EnableFullDuplex()
	w.WriteHeader(200)
	control.Flush()
	buffer := make([]byte, 64<<10)
	for {
		n, err := r.Body.Read(buffer)
		w.Write(buffer[:n])
		control.Flush()
		if err != nil {
			return
		}
	}
}

// Changes the protocol, and then writes what it reads, as it reads it. What it speaks is no WebSocket's: nobody between looks at it.
func socket(w http.ResponseWriter, r *http.Request) {
	c, reader, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(err)
	}
	defer c.Close()
	fmt.Fprintf(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: %s\r\nUpgrade: %s\r\nSec-Websocket-Accept: %s\r\n\r\n",
		r.Header.Get("Connection"), r.Header.Get("Upgrade"), r.Header.Get("Sec-Websocket-Key"))
	buffer := make([]byte, 64<<10)
	for {
		n, err := reader.Read(buffer)
		switch string(buffer[:n]) {
		case "exit":
			os.Exit(7)
		case "close":
			return
		}
		if _, failed := c.Write(buffer[:n]); err != nil || failed != nil {
			fmt.Println("the socket ended")
			return
		}
	}
}

// Takes calls when it is asked the third time, or never.
func ready(w http.ResponseWriter) {
	count := asked.Add(1)
	if count < 3 || is("unready") {
		w.WriteHeader(503)
	}
	fmt.Fprint(w, count)
}

var (
	asked   atomic.Int32
	arrived sync.Mutex
	here    int
	all     = make(chan struct{})
)

// Tells what came.
func echo(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	said, _ := json.Marshal(map[string]any{
		"method": r.Method, "target": r.RequestURI, "host": r.Host, "headers": r.Header,
		"body": base64.StdEncoding.EncodeToString(body), "length": r.ContentLength,
	})
	for _, line := range r.Header.Values("X-Answer") {
		name, value, _ := strings.Cut(line, ": ")
		w.Header().Add(name, value)
	}
	w.Header().Set("Content-Type", "application/json")
	w.Write(said)
}
