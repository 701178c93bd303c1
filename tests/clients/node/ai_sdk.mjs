// What both of Vercel's providers share: embed and embedMany of the AI SDK.
import { APICallError, RetryError, embed, embedMany } from "ai";
import { answer } from "./asked.mjs";

export async function answerBy(modelOf, providerName) {
  await answer(async (request, inputs) => {
    const model = modelOf(request.model);
    const { dimensions } = request;
    const providerOptions = dimensions ? { [providerName]: { dimensions } } : {};
    if (typeof inputs === "string") {
      return [(await embed({ model, value: inputs, providerOptions })).embedding];
    }
    return (await embedMany({ model, values: inputs, providerOptions })).embeddings;
  }, show);
}

function show(error) {
  const last = RetryError.isInstance(error) ? error.lastError : error;
  if (!APICallError.isInstance(last)) return { type: last.name, message: last.message };
  return {
    type: last.name,
    status: last.statusCode,
    code: JSON.parse(last.responseBody).error.code,
    message: last.message,
  };
}
