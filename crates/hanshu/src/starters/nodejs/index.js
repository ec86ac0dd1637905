'use strict';

// Called with the event (parsed JSON) and the context of the call; what it returns is the answer, as JSON.
exports.handler = async (event, context) => {
  console.log('request', context.awsRequestId, 'with', Object.keys(event).length, 'keys');
  return { message: `Hello, ${event.name ?? 'world'}` };
};
