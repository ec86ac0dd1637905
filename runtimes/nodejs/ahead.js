// What a process runs before it has a function, to be warm (bootstrap.js). Small, for each copy of a process reads it once more.

'use strict';

exports.handler = function (event, context, callback) {
  callback(null, { statusCode: 200, headers: { 'Content-Type': 'application/json' }, body: JSON.stringify(event), isBase64Encoded: false });
};
