// A WASI program: the event comes on standard input, the answer goes to standard output, and each call is a run of its own.
package main

import (
	"encoding/json"
	"fmt"
	"os"
)

// Event is what the function is called with, as far as it is read: a name, or a request to the function's URL.
type Event struct {
	Name                  string
	QueryStringParameters struct{ Name string }
}

func main() {
	var event Event
	if err := json.NewDecoder(os.Stdin).Decode(&event); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	name := event.Name
	if name == "" {
		name = event.QueryStringParameters.Name
	}
	if name == "" {
		name = "world"
	}
	_ = json.NewEncoder(os.Stdout).Encode(map[string]string{"message": "Hello, " + name})
}
