// Does what the query parameter or the field `op` says, by the official client.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-lambda-go/lambda"
	"github.com/aws/aws-lambda-go/lambdacontext"
)

type event struct {
	Op    string            `json:"op"`
	N     int               `json:"n"`
	Query map[string]string `json:"queryStringParameters"`
}

func handle(ctx context.Context, e event) (any, error) {
	op := e.Op
	if e.Query != nil {
		op = e.Query["op"]
	}
	switch op {
	case "twice":
		fmt.Println("computing", e.N)
		return map[string]int{"twice": 2 * e.N}, nil
	case "context":
		lc, _ := lambdacontext.FromContext(ctx)
		deadline, _ := ctx.Deadline()
		return map[string]any{
			"id":      lc.AwsRequestID,
			"arn":     lc.InvokedFunctionArn,
			"name":    lambdacontext.FunctionName,
			"version": lambdacontext.FunctionVersion,
			"left":    time.Until(deadline).Milliseconds(),
			"api":     os.Getenv("AWS_LAMBDA_RUNTIME_API"),
		}, nil
	case "fail":
		return nil, errors.New("no more biscuits")
	case "panic":
		panic("overboard")
	case "sleep":
		time.Sleep(time.Hour)
	case "stream":
		return &events.LambdaFunctionURLStreamingResponse{
			StatusCode: 201,
			Headers:    map[string]string{"x-said": "before"},
			Body:       strings.NewReader(strings.Repeat("piece ", 50_000)),
		}, nil
	}
	body, _ := json.Marshal(e.Query)
	return events.LambdaFunctionURLResponse{StatusCode: 200, Body: string(body)}, nil
}

func main() {
	lambda.Start(handle)
}
