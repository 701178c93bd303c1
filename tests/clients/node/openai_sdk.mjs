// OpenAI's SDK, as an injected application has it: it reads OPENAI_BASE_URL and OPENAI_API_KEY.
import OpenAI from "openai";
import { answer } from "./asked.mjs";

const client = new OpenAI();

await answer(async ({ model, dimensions, format }, input) => {
  const { data } = await client.embeddings.create({
    model,
    input,
    ...(dimensions && { dimensions }),
    ...(format && { encoding_format: format }),
  });
  // Asked for by name, base64 comes as it is; by itself the SDK asks for it, too, and decodes it.
  return data.map(({ embedding }) => (format === "base64" ? decoded(embedding) : embedding));
});

function decoded(text) {
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  return [...new Float32Array(bytes.buffer)];
}
