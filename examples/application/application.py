"""An application that knows nothing of the sidecar: it uses the openai package as it always did.

python application.py           stays, as a service does
python application.py ask TEXT  embeds the text twice and says how long each took and who answered
python application.py vector TEXT  prints the vector as base64 of little-endian float32
python application.py chat KEY  streams a chat answer, with a key of the application's own
python application.py search TEXT  finds rows of a table that is kept embedded (examples/vectors)
"""

import json
import signal
import sys
import time
import urllib.request

from openai import OpenAI

MODEL = "multilingual-e5-small"
SEARCH_URL = "http://127.0.0.1:8484/api/v1/embedding/search"


def ask(text: str) -> None:
    client = OpenAI()
    for _ in range(2):
        started = time.perf_counter()
        response = client.embeddings.with_raw_response.create(model=MODEL, input=text)
        milliseconds = (time.perf_counter() - started) * 1000
        vector = response.parse().data[0].embedding
        print(
            f"{milliseconds:7.1f} ms  cache {response.headers['x-embedding-cache']:<7} "
            f"provider {response.headers['x-embedding-provider']:<10} "
            f"{len(vector)} numbers {[round(value, 4) for value in vector[:3]]}…"
        )


def vector(text: str) -> None:
    # Asked for by name, base64 is handed over as it came.
    answer = OpenAI().embeddings.create(model=MODEL, input=text, encoding_format="base64")
    print(answer.data[0].embedding)


def chat(key: str) -> None:
    client = OpenAI(api_key=key)
    chunks = client.chat.completions.create(
        model="canned", messages=[{"role": "user", "content": "What is a vector?"}], stream=True
    )
    for chunk in chunks:
        print(chunk.choices[0].delta.content, end="", flush=True)
    print()


def search(text: str) -> None:
    body = json.dumps({"index": "articles", "query": text, "k": 3}).encode()
    request = urllib.request.Request(SEARCH_URL, body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as response:  # noqa: S310 - http, as said above
        answer = json.load(response)
    print(f"mode {answer['mode']}  space {answer['space']}  reason {answer['reason']}")
    for found in answer["results"]:
        print(f"{found['score']:7.3f}  {found['columns']['body']}")


def main() -> None:
    match sys.argv[1:]:
        case ["ask", text]:
            ask(text)
        case ["vector", text]:
            vector(text)
        case ["chat", key]:
            chat(key)
        case ["search", text]:
            search(text)
        case _:
            signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
            signal.pause()


if __name__ == "__main__":
    main()
