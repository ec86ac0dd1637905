// The smallest function in Go, by the official client.
package main

import (
	"context"
	"fmt"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-lambda-go/lambda"
	"github.com/aws/aws-lambda-go/lambdacontext"
)

func hello(_ context.Context, event events.APIGatewayV2HTTPRequest) (events.APIGatewayV2HTTPResponse, error) {
	name := event.QueryStringParameters["name"]
	if name == "" {
		name = "world"
	}
	return events.APIGatewayV2HTTPResponse{
		StatusCode: 200,
		Headers:    map[string]string{"content-type": "text/plain"},
		Body:       fmt.Sprintf("Hello %s, from %s\n", name, lambdacontext.FunctionName),
	}, nil
}

func main() {
	lambda.Start(hello)
}
