"""Answers requests to the function's URL (`?name=Ada`), and events that are none, which come as POST."""

import json
from urllib.parse import parse_qs, urlsplit

from componentize_py_types import Err, Ok
from wit_world import exports
from wit_world.imports.streams import StreamError_Closed
from wit_world.imports.types import (
    Fields,
    IncomingRequest,
    Method_Post,
    OutgoingBody,
    OutgoingResponse,
    ResponseOutparam,
)


class IncomingHandler(exports.IncomingHandler):
    def handle(self, request, response_out):
        query = parse_qs(urlsplit(request.path_with_query() or "/").query)
        name = query.get("name", ["world"])[0]
        if isinstance(request.method(), Method_Post):
            name = json.loads(read(request)).get("name", name)
        answer(response_out, {"message": f"Hello, {name}"})


def read(request: IncomingRequest) -> bytes:
    pieces = []
    with request.consume() as body, body.stream() as stream:
        while True:
            try:
                pieces.append(stream.blocking_read(65536))
            except Err as e:
                if isinstance(e.value, StreamError_Closed):
                    return b"".join(pieces)
                raise


def answer(response_out: ResponseOutparam, value) -> None:
    response = OutgoingResponse(Fields.from_list([("content-type", b"application/json")]))
    body = response.body()
    ResponseOutparam.set(response_out, Ok(response))
    with body.write() as stream:
        # At most 4096 bytes at once (wasi:io/streams).
        stream.blocking_write_and_flush(json.dumps(value).encode())
    OutgoingBody.finish(body, None)
