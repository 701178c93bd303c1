"""aiohttp's client, for an application that writes the request by hand."""

import asyncio
import json
import os
import threading

import aiohttp
import asked

URL = f"{os.environ['OPENAI_BASE_URL']}/embeddings"
HEADERS = {
    "Authorization": f"Bearer {os.environ['OPENAI_API_KEY']}",
    "Content-Type": "application/json",
}
PIECE_BYTES = 1000


class RefusedError(Exception):
    """What an application makes of an answer that is no success."""

    def __init__(self, status, error):
        super().__init__(error["message"])
        self.status_code, self.code = status, error["code"]


async def pieces(body):
    """The body without a length before it: aiohttp sends it in chunks."""
    for start in range(0, len(body), PIECE_BYTES):
        yield body[start : start + PIECE_BYTES]


async def post(body, how):
    data = pieces(body) if how == "chunked" else body
    async with session.post(URL, data=data, expect100=how == "expect") as answer:
        found = await answer.json()
    if not answer.ok:
        raise RefusedError(answer.status, found["error"])
    return [row["embedding"] for row in found["data"]]


def embed(request, inputs):
    asks = {"model": request["model"], "input": inputs}
    asks |= {"dimensions": request["dimensions"]} if request["dimensions"] else {}
    body = json.dumps(asks).encode()
    return asyncio.run_coroutine_threadsafe(post(body, request["body"]), loop).result()


async def opened():
    return aiohttp.ClientSession(headers=HEADERS)


loop = asyncio.new_event_loop()
threading.Thread(target=loop.run_forever, daemon=True).start()
session = asyncio.run_coroutine_threadsafe(opened(), loop).result()
asked.answer(embed)
asyncio.run_coroutine_threadsafe(session.close(), loop).result()
