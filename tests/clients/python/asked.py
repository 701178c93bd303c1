"""What the programs of this folder share: requests on standard input, outcomes on standard output.

A request is `{"case", "how", "model", "inputs", "dimensions", "format", "body"}`; its outcome is
`{"case", "vectors"}`, or `{"case", "error": {"type", "status", "code", "message"}}`.
"""

import json
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

Embed = Callable[..., list[list[float]]]
"""embed(request, inputs): of the request, `inputs` alone are one text or a list of inputs."""


def shown(error: Exception) -> dict:
    """What the client's own exception says, where it is like OpenAI's."""
    return {
        "type": type(error).__name__,
        "status": getattr(error, "status_code", None),
        "code": getattr(error, "code", None),
        "message": str(getattr(error, "message", error)),
    }


def answer(embed: Embed, show: Callable[[Exception], dict] = shown) -> None:
    """Ask all requests in their order."""
    outcomes = []
    for request in json.load(sys.stdin):
        try:
            outcome = {"vectors": vectors(embed, request)}
        except Exception as error:  # noqa: BLE001 - which exception it is, is the answer
            outcome = {"error": show(error)}
        outcomes.append({"case": request["case"], **outcome})
    json.dump({"runtime": sys.version.split()[0], "outcomes": outcomes}, sys.stdout)


def vectors(embed: Embed, request: dict) -> list[list[float]]:
    """The vectors of one request."""

    def ask(inputs: str | list) -> list[list[float]]:
        return embed(request, inputs)

    inputs = request["inputs"]
    match request["how"]:
        case "one":
            return ask(inputs[0])
        case "repeated":
            return [vector for text in inputs for vector in ask(text)]
        case "threads":
            with ThreadPoolExecutor(len(inputs)) as threads:
                return [vector for found in threads.map(ask, inputs) for vector in found]
        case _:
            return ask(inputs)
