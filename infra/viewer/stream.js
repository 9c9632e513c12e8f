// A WebSocket API has one path: what the client's path said goes into the query. Nobody else may say it there.
function plain(text) {
  try {
    return decodeURIComponent(text);
  } catch (e) {
    return null;
  }
}

function handler(event) {
  var request = event.request;
  var query = request.querystring;
  Object.keys(query).forEach(function (name) {
    if (plain(name) === 'JOB_PARAMETER') delete query[name];
  });
  if (request.uri !== '/api/v1/stream') {
    var found = /^\/api\/v1\/jobs\/([^/]+)\/stream$/.exec(request.uri);
    var job = found && plain(found[1]);
    if (!job) {
      return {
        statusCode: 404,
        headers: { 'content-type': { value: 'application/json' } },
        body: '{"error":"not found","status":404}',
      };
    }
    query['JOB_PARAMETER'] = { value: encodeURIComponent(job) };
  }
  request.uri = '/';
  request.headers['VIEWER_HEADER'] = { value: event.viewer.ip };
  return request;
}
