exports.handler = function (event, context, callback) {
  var response = { isBase64Encoded: false, headers: {}, statusCode: 200, body: 'Hello world' };
  callback(null, response);
};
