'use strict';

if (process.env._HANDLER === 'handler.broken') {
  throw new Error('not today');
}

exports.handler = async (event, context) => {
  if (event.op === 'fail') {
    throw new TypeError('not today');
  }
  return { event, left: context.getRemainingTimeInMillis() };
};
