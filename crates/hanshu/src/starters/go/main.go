package main

import (
	"context"
	"fmt"

	"github.com/aws/aws-lambda-go/lambda"
	"github.com/aws/aws-lambda-go/lambdacontext"
)

// Event is what the function is called with, as far as it is read.
type Event struct {
	Name string `json:"name"`
}

// Answer is what it answers, as JSON.
type Answer struct {
	Message string `json:"message"`
}

func handle(ctx context.Context, event Event) (Answer, error) {
	if call, ok := lambdacontext.FromContext(ctx); ok {
		fmt.Println("request", call.AwsRequestID)
	}
	if event.Name == "" {
		event.Name = "world"
	}
	return Answer{Message: "Hello, " + event.Name}, nil
}

func main() {
	lambda.Start(handle)
}
