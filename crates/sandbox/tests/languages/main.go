// A WASI command in Go: what it finds in its package and what it keeps in /tmp, with the event.
package main

import (
	"encoding/json"
	"log"
	"os"
)

func main() {
	var event any
	if err := json.NewDecoder(os.Stdin).Decode(&event); err != nil {
		log.Fatal(err)
	}
	words, err := os.ReadFile("/var/task/words.txt")
	if err != nil {
		log.Fatal(err)
	}
	if err := os.WriteFile("/tmp/note", []byte("kept"), 0o600); err != nil {
		log.Fatal(err)
	}
	note, err := os.ReadFile("/tmp/note")
	if err != nil {
		log.Fatal(err)
	}
	named := ""
	if os.Getenv("AWS_LAMBDA_FUNCTION_NAME") != "" {
		named = "named"
	}
	json.NewEncoder(os.Stdout).Encode([]any{event, string(words), string(note), named})
}
