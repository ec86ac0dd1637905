from fastapi import FastAPI, WebSocket
from fastapi.responses import StreamingResponse
from pydantic import BaseModel

app = FastAPI()


class Event(BaseModel):
    name: str


@app.get("/")
async def hello(name: str = "world"):
    return {"message": f"Hello, {name}"}


@app.get("/lines")
async def lines():
    return StreamingResponse((f"line {n}\n" for n in range(3)), media_type="text/plain")


# What comes goes back.
@app.websocket("/echo")
async def echo(socket: WebSocket):
    await socket.accept()
    async for text in socket.iter_text():
        await socket.send_text(text)


# Whatever is no HTTP request comes here: direct calls, and what other triggers send.
@app.post("/events")
async def events(event: Event):
    return {"message": f"Hello, {event.name}"}
