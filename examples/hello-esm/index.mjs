const NAME_CHARS = 100;

/** Answers a request to the function's URL: `?name=Ada` says who is greeted. */
export const handler = async (event, context) => {
  const name = event.queryStringParameters?.name ?? 'world';
  if (name.trim() === '' || name.length > NAME_CHARS) {
    return json(400, { error: `name has to have 1 to ${NAME_CHARS} characters` });
  }
  console.log('greeting', name);
  return json(200, {
    message: `Hello, ${name}`,
    function: context.functionName,
    version: context.functionVersion,
    requestId: context.awsRequestId,
    memoryMb: Number(context.memoryLimitInMB),
    remainingMs: context.getRemainingTimeInMillis(),
    node: process.version,
  });
};

function json(statusCode, body) {
  return { statusCode, headers: { 'content-type': 'application/json' }, body: JSON.stringify(body) };
}
