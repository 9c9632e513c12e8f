// The plane learns whose request it is from here, and nobody else may say it.
function handler(event) {
  var request = event.request;
  request.headers['VIEWER_HEADER'] = { value: event.viewer.ip };
  return request;
}
