// The bucket knows files, not folders.
function handler(event) {
  var request = event.request;
  if (request.uri === '/docs') {
    return { statusCode: 302, headers: { location: { value: '/docs/' } } };
  }
  if (request.uri === '/docs/') request.uri = '/docs/index.html';
  return request;
}
