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
  return data.map((row) => floats(row.embedding));
});

// Asked for base64 by name, the SDK hands it over as it is; asked for nothing, it decodes.
function floats(embedding) {
  if (typeof embedding !== "string") return embedding;
  const bytes = new Uint8Array(Buffer.from(embedding, "base64"));
  return [...new Float32Array(bytes.buffer)];
}
