addEventListener('fetch', (event) => event.respondWith(answer(event.request)));

/** Answers requests to the function's URL (`?name=Ada`), and events that are none, which come as POST. */
async function answer(request) {
  let name = new URL(request.url).searchParams.get('name');
  if (request.method === 'POST') {
    name = (await request.json()).name;
  }
  return Response.json({ message: `Hello, ${name ?? 'world'}` });
}
