// A server of Go's standard library, as it runs anywhere: it listens on PORT.
package main

import (
	"encoding/json"
	"log"
	"net/http"
	"os"
)

func main() {
	http.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		answer(w, r.URL.Query().Get("name"))
	})
	// Whatever is no HTTP request comes here: direct calls, and what other triggers send.
	http.HandleFunc("/events", func(w http.ResponseWriter, r *http.Request) {
		var event struct{ Name string }
		if err := json.NewDecoder(r.Body).Decode(&event); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		answer(w, event.Name)
	})
	log.Fatal(http.ListenAndServe("127.0.0.1:"+os.Getenv("PORT"), nil))
}

func answer(w http.ResponseWriter, name string) {
	if name == "" {
		name = "world"
	}
	w.Header().Set("content-type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]string{"message": "Hello, " + name})
}
