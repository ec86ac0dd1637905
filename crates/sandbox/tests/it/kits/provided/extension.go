// An extension: says what it hears. Its name says what else it does.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

func extension() {
	name := filepath.Base(os.Args[0])
	c := connect()
	if name == "ends" {
		os.Exit(4)
	}
	// So that whoever does not wait for it comes first.
	time.Sleep(50 * time.Millisecond)
	events := `{"events":["INVOKE","SHUTDOWN"]}`
	if strings.HasPrefix(name, "last") {
		events = `{"events":["SHUTDOWN"]}`
	}
	registered := c.post("/2020-01-01/extension/register", events,
		"Lambda-Extension-Name: "+name, "Lambda-Extension-Accept-Feature: accountId")
	id := "Lambda-Extension-Identifier: " + registered.header.Get("Lambda-Extension-Identifier")
	fmt.Println(name, "registered", registered.status, string(registered.body))
	if name == "cannot" {
		c.post("/2020-01-01/extension/init/error", `{"errorType":"Mine","errorMessage":"no way"}`,
			id, "Lambda-Extension-Function-Error-Type: Extension.Mine")
		forever()
	}
	for {
		next := c.get("/2020-01-01/extension/event/next", id)
		var e map[string]any
		json.Unmarshal(next.body, &e)
		fmt.Println(name, "hears", next.status, string(next.body), next.header.Get("Lambda-Extension-Event-Identifier") != "")
		if e["eventType"] == "SHUTDOWN" {
			if name == "last-one" {
				time.Sleep(100 * time.Millisecond)
			}
			fmt.Println(name, "ends")
			os.Exit(0)
		}
		switch name {
		case "crashes":
			os.Exit(3)
		case "gives-up":
			c.post("/2020-01-01/extension/exit/error", "", id, "Lambda-Extension-Function-Error-Type: Extension.Tired")
			forever()
		case "slow":
			time.Sleep(300 * time.Millisecond)
			fmt.Println(name, "is done")
		}
	}
}
