// The hostile function that brings its own runtime, or is a web server: runs what the event says and answers the lines that it said.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
)

type event struct {
	C         string
	Arguments []string
}

func run(e event) []string {
	program := exec.Command("/var/task/attack", append([]string{e.C}, e.Arguments...)...)
	output, input, err := os.Pipe()
	if err != nil {
		panic(err)
	}
	program.Stdout, program.Stderr = input, input
	if err := program.Start(); err != nil {
		panic(err)
	}
	input.Close()
	said := []string{}
	lines := bufio.NewScanner(output)
	for lines.Scan() {
		if lines.Text() == "." {
			// It goes on, and so does its output.
			go func() {
				for lines.Scan() {
				}
				program.Wait()
			}()
			return said
		}
		said = append(said, lines.Text())
	}
	program.Wait()
	return append(said, fmt.Sprintf("ended: %d", program.ProcessState.ExitCode()))
}

// As a web server.
func serve(w http.ResponseWriter, r *http.Request) {
	var e event
	if err := json.NewDecoder(r.Body).Decode(&e); err != nil {
		panic(err)
	}
	json.NewEncoder(w).Encode(run(e))
}

func main() {
	if port := os.Getenv("PORT"); port != "" {
		panic(http.ListenAndServe("127.0.0.1:"+port, http.HandlerFunc(serve)))
	}
	c := connect()
	for {
		next := c.get(version + "invocation/next")
		var e event
		if err := json.Unmarshal(next.body, &e); err != nil {
			panic(err)
		}
		said, _ := json.Marshal(run(e))
		id := next.header.Get("Lambda-Runtime-Aws-Request-Id")
		c.post(version+"invocation/"+id+"/response", string(said))
	}
}
