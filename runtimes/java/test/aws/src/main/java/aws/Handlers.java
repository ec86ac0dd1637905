package aws;

import com.amazonaws.services.lambda.runtime.Context;
import com.amazonaws.services.lambda.runtime.RequestHandler;
import com.amazonaws.services.lambda.runtime.RequestStreamHandler;
import com.amazonaws.services.lambda.runtime.events.APIGatewayProxyRequestEvent;
import com.amazonaws.services.lambda.runtime.events.APIGatewayProxyResponseEvent;
import com.amazonaws.services.lambda.runtime.events.APIGatewayV2HTTPEvent;
import com.amazonaws.services.lambda.runtime.events.APIGatewayV2HTTPResponse;
import com.amazonaws.services.lambda.runtime.events.DynamodbEvent;
import com.amazonaws.services.lambda.runtime.events.KinesisEvent;
import com.amazonaws.services.lambda.runtime.events.S3Event;
import com.amazonaws.services.lambda.runtime.events.SQSBatchResponse;
import com.amazonaws.services.lambda.runtime.events.SQSEvent;
import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.nio.charset.StandardCharsets;
import java.util.List;
import java.util.Map;

/** Handlers by AWS Lambda's own interfaces. */
public class Handlers {
    public static class Maps implements RequestHandler<Map<String, Object>, String> {
        @Override
        public String handleRequest(Map<String, Object> event, Context context) {
            context.getLogger().log("said by " + context.getFunctionName());
            context.getLogger().log("as bytes".getBytes(StandardCharsets.UTF_8));
            return event.get("key") + " " + context.getAwsRequestId() + " " + context.getMemoryLimitInMB() + " "
                    + (context.getRemainingTimeInMillis() > 0) + " " + context.getIdentity();
        }
    }

    public static class Client implements RequestHandler<Object, List<String>> {
        @Override
        public List<String> handleRequest(Object event, Context context) {
            var client = context.getClientContext();
            return List.of(client.getClient().getAppTitle(), client.getCustom().get("a"), client.getEnvironment().get("e"));
        }
    }

    public static class Streams implements RequestStreamHandler {
        @Override
        public void handleRequest(InputStream in, OutputStream out, Context context) throws IOException {
            in.transferTo(out);
        }
    }

    public static class Http implements RequestHandler<APIGatewayV2HTTPEvent, APIGatewayV2HTTPResponse> {
        @Override
        public APIGatewayV2HTTPResponse handleRequest(APIGatewayV2HTTPEvent event, Context context) {
            return APIGatewayV2HTTPResponse.builder()
                    .withStatusCode(201)
                    .withHeaders(Map.of("a", event.getRequestContext().getHttp().getMethod()))
                    .withBody(event.getRawPath() + " " + event.getIsBase64Encoded() + " " + event.getQueryStringParameters())
                    .withIsBase64Encoded(true)
                    .build();
        }
    }

    public APIGatewayProxyResponseEvent proxy(APIGatewayProxyRequestEvent event, Context context) {
        return new APIGatewayProxyResponseEvent().withStatusCode(200).withBody(event.getPath()).withIsBase64Encoded(event.getIsBase64Encoded());
    }

    public SQSBatchResponse queue(SQSEvent event) {
        return new SQSBatchResponse(event.getRecords().stream()
                .map(m -> new SQSBatchResponse.BatchItemFailure(m.getMessageId() + m.getEventSourceArn() + m.getAttributes().get("x")))
                .toList());
    }

    public String bucket(S3Event event) {
        var record = event.getRecords().get(0);
        return record.getS3().getBucket().getName() + " " + record.getS3().getObject().getSizeAsLong() + " " + record.getEventTime().getYear();
    }

    public String stream(KinesisEvent event) {
        var record = event.getRecords().get(0).getKinesis();
        return StandardCharsets.UTF_8.decode(record.getData()) + " " + record.getApproximateArrivalTimestamp().getTime();
    }

    public String table(DynamodbEvent event) {
        var image = event.getRecords().get(0).getDynamodb().getNewImage();
        return image.get("name").getS() + " " + image.get("age").getN() + " " + image.get("tags").getSS() + " " + image.get("on").getBOOL();
    }
}
