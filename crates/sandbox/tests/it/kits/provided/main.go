// The contract suite's executable (model::suites::sandbox): does what the event says, or what a file beside it says.
package main

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"runtime/debug"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

type event struct {
	Op, Text, Marker, Then, Path, Name string
	Value                              json.RawMessage
	Steps                              [][]string
	Bytes, Code, Port, Signal, Pieces  int
}

var (
	served  int
	longest int64
	kept    [][]byte
	given   []string
)

func forever() {
	for {
		time.Sleep(time.Hour)
	}
}

func run(e event) (any, error) {
	switch e.Op {
	case "echo":
		return e.Value, nil
	case "count":
		served++
		return served, nil
	case "throw":
		return nil, fmt.Errorf("%s", e.Text)
	case "print":
		fmt.Println(e.Text)
	case "flood":
		line := []byte(strings.Repeat("x", 1023) + "\n")
		for n := 0; n < e.Bytes/len(line); n++ {
			os.Stdout.Write(line)
		}
		return e.Bytes, nil
	case "big":
		return strings.Repeat("z", e.Bytes), nil
	case "unserialisable":
		_, err := json.Marshal(make(chan int))
		return nil, err
	case "busy":
		for {
		}
	case "never":
		forever()
	case "children":
		child := exec.Command("/proc/self/exe", "outer", e.Marker)
		up, _ := child.StdoutPipe()
		if err := child.Start(); err != nil {
			return nil, err
		}
		up.Read(make([]byte, 1))
		if e.Then == "return" {
			return 2, nil
		}
		forever()
	case "forks":
		forks(e.Marker)
	case "exit":
		os.Exit(e.Code)
	case "signal":
		syscall.Kill(os.Getpid(), syscall.Signal(e.Signal))
		forever()
	case "memory":
		for {
			more := make([]byte, 1<<20)
			for at := range more {
				more[at] = 'x'
			}
			kept = append(kept, more)
		}
	case "connect":
		c, err := net.DialTimeout("tcp", fmt.Sprintf("127.0.0.1:%d", e.Port), 5*time.Second)
		if err != nil {
			return nil, err
		}
		c.Close()
		return "connected", nil
	case "write":
		return nil, os.WriteFile(e.Path, []byte(e.Text), 0o644)
	case "read":
		text, err := os.ReadFile(e.Path)
		return string(text), err
	case "list":
		entries, err := os.ReadDir(e.Path)
		names := []string{}
		for _, entry := range entries {
			names = append(names, entry.Name())
		}
		return names, err
	case "import":
		// What layers have for executables are other executables.
		text, err := exec.Command(e.Name).Output()
		return string(text), err
	case "environment":
		all := map[string]string{}
		for _, variable := range os.Environ() {
			key, value, _ := strings.Cut(variable, "=")
			all[key] = value
		}
		return all, nil
	case "tick":
		atomic.StoreInt64(&longest, 0)
		go look(time.Now())
	case "pause":
		// The look that comes after a pause may be due still.
		time.Sleep(20 * time.Millisecond)
		return atomic.LoadInt64(&longest), nil
	case "inherited":
		return given, nil
	default:
		return nil, fmt.Errorf("no op %q", e.Op)
	}
	return nil, nil
}

func look(last time.Time) {
	for {
		time.Sleep(time.Millisecond)
		// By the wall clock: the monotonic one of a frozen process goes on as well, but nobody need know that here.
		now := time.Now().Round(0)
		if pause := now.Sub(last.Round(0)).Milliseconds(); pause > atomic.LoadInt64(&longest) {
			atomic.StoreInt64(&longest, pause)
		}
		last = now
	}
}

func forks(marker string) {
	for {
		exec.Command("/proc/self/exe", "forks", marker).Start()
	}
}

func child(role, marker string) {
	switch role {
	case "outer":
		inner := exec.Command("/proc/self/exe", "inner", marker)
		up, _ := inner.StdoutPipe()
		inner.Start()
		up.Read(make([]byte, 1))
		fallthrough
	case "inner":
		fmt.Println("up")
		forever()
	case "forks":
		forks(marker)
	}
}

func problem(err error) string {
	said := map[string]string{"errorType": fmt.Sprintf("%T", err), "errorMessage": err.Error()}
	text, _ := json.Marshal(said)
	return string(text)
}

func stream(c connection, id string, e event) answer {
	c.head("POST", version+"invocation/"+id+"/response",
		"Content-Type: application/vnd.awslambda.http-integration-response",
		"Lambda-Runtime-Function-Response-Mode: streaming",
		"Trailer: Lambda-Runtime-Function-Error-Type, Lambda-Runtime-Function-Error-Body",
		"Transfer-Encoding: chunked")
	c.chunk([]byte(`{"statusCode":201,"headers":{"x-said":"before"}}` + strings.Repeat("\x00", 8)))
	for n := 0; n < e.Pieces || e.Then == "endless"; n++ {
		c.chunk([]byte(strings.Repeat(string(rune('a'+n%26)), e.Bytes)))
		fmt.Println("wrote", n+1)
	}
	switch e.Then {
	case "exit":
		os.Exit(7)
	case "never":
		forever()
	case "throw":
		body := base64.StdEncoding.EncodeToString([]byte(problem(fmt.Errorf("half-way"))))
		c.send("0\r\nLambda-Runtime-Function-Error-Type: Function.Error\r\n" +
			"Lambda-Runtime-Function-Error-Body: " + body + "\r\n\r\n")
	default:
		c.send("0\r\n\r\n")
	}
	return c.receive()
}

// What those tests ask that have a word for everything.
func short(word string) event {
	switch word = strings.Trim(word, "\""); word {
	case "sleep":
		return event{Op: "never"}
	case "exit":
		return event{Op: "exit", Code: 7}
	case "crash":
		return event{Op: "signal", Signal: 11}
	case "children":
		return event{Op: "children", Marker: "children", Then: "return"}
	case "scratch":
		return event{Op: "write", Path: "/tmp/scratch", Text: strings.Repeat("x", 100_000)}
	case "memory":
		return event{Op: "memory"}
	}
	return event{Op: "count"}
}

func is(file string) bool {
	_, err := os.Stat("/var/task/" + file)
	return err == nil
}

func main() {
	// A crash is a signal's end.
	debug.SetTraceback("crash")
	if strings.HasPrefix(os.Args[0], "/opt/extensions/") {
		extension()
	}
	if len(os.Args) > 2 {
		child(os.Args[1], os.Args[2])
	}
	given = inherited()
	if is("polite") {
		fmt.Println("runtime begins")
		end := make(chan os.Signal, 1)
		signal.Notify(end, syscall.SIGTERM)
		go func() {
			<-end
			fmt.Println("runtime ends")
			os.Exit(0)
		}()
	}
	c := connect()
	early(c)
	if is("throws") {
		c.post(version+"init/error", problem(fmt.Errorf("not today")))
		os.Exit(1)
	}
	streams := is("streams")
	for {
		next := c.get(version + "invocation/next")
		id := next.header.Get("Lambda-Runtime-Aws-Request-Id")
		var e event
		if next.body[0] == '"' {
			e = short(string(next.body))
		} else if err := json.Unmarshal(next.body, &e); err != nil {
			panic(err)
		}
		var done answer
		if e.Op == "answer" {
			// Whatever is sent is the answer.
			steps(c, id, e.Steps)
			continue
		}
		if streams {
			done = stream(c, id, e)
		} else if e.Op == "steps" {
			text, _ := json.Marshal(steps(c, id, e.Steps))
			done = c.post(version+"invocation/"+id+"/response", string(text))
		} else if value, err := run(e); err != nil {
			done = c.post(version+"invocation/"+id+"/error", problem(err))
		} else {
			text, _ := json.Marshal(value)
			done = c.post(version+"invocation/"+id+"/response", string(text))
		}
		if done.status != 202 && done.status != 413 {
			panic(done.status)
		}
		if done.header.Get("Connection") == "close" {
			c = connect()
		}
	}
}
