# A hello for `workerd serve`; PORT is replaced.
using Workerd = import "/workerd/workerd.capnp";

const config :Workerd.Config = (
  services = [(
    name = "hello",
    worker = (
      modules = [(name = "hello", esModule = "export default { fetch() { return new Response('Hello world') } }")],
      compatibilityDate = "2026-01-01",
    ),
  )],
  sockets = [(name = "http", address = "127.0.0.1:PORT", http = (), service = "hello")],
);
