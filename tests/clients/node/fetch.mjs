// Node's own fetch, for an application that writes the request by hand.
import { answer, apiKey, url } from "./asked.mjs";

const PIECE_BYTES = 1000;

class RefusedError extends Error {
  constructor(status, { message, code }) {
    super(message);
    Object.assign(this, { status, code });
  }
}

// A body without a length before it: fetch sends it in chunks.
function pieces(body) {
  const bytes = new TextEncoder().encode(body);
  let at = 0;
  return new ReadableStream({
    pull(controller) {
      if (at >= bytes.length) return controller.close();
      controller.enqueue(bytes.subarray(at, (at += PIECE_BYTES)));
    },
  });
}

await answer(async ({ model, dimensions, body }, input) => {
  const asks = JSON.stringify({ model, input, ...(dimensions && { dimensions }) });
  const answered = await fetch(`${url}/embeddings`, {
    method: "POST",
    headers: { "content-type": "application/json", authorization: `Bearer ${apiKey}` },
    ...(body === "chunked" ? { body: pieces(asks), duplex: "half" } : { body: asks }),
  });
  const found = await answered.json();
  if (!answered.ok) throw new RefusedError(answered.status, found.error);
  return found.data.map((row) => row.embedding);
});
