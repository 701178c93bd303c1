// LangChain's embeddings for OpenAI.
import { OpenAIEmbeddings } from "@langchain/openai";
import { answer, url } from "./asked.mjs";

const made = new Map();

function embeddings({ model, dimensions, format }) {
  const key = JSON.stringify([model, dimensions, format]);
  if (!made.has(key)) {
    made.set(
      key,
      new OpenAIEmbeddings({
        model,
        ...(dimensions && { dimensions }),
        ...(format && { encodingFormat: format }),
        configuration: { baseURL: url },
        maxRetries: 0,
      }),
    );
  }
  return made.get(key);
}

await answer(async (request, inputs) =>
  typeof inputs === "string"
    ? [await embeddings(request).embedQuery(inputs)]
    : embeddings(request).embedDocuments(inputs),
);
