// Asks what the test writes on standard input, and prints what the SDK made of the answers.
import OpenAI from "openai";
import { text } from "node:stream/consumers";

const client = new OpenAI(); // OPENAI_BASE_URL and OPENAI_API_KEY, as an injected application has them

async function outcome(request) {
  try {
    const { data, response } = await client.embeddings.create(request).withResponse();
    return { cache: response.headers.get("x-embedding-cache"), answer: data };
  } catch (error) {
    if (!(error instanceof OpenAI.APIError)) throw error;
    const { status, code, param, message } = error;
    return { kind: error.constructor.name, status, code, param, message };
  }
}

const outcomes = [];
for (const request of JSON.parse(await text(process.stdin))) outcomes.push(await outcome(request));

const models = [];
for await (const model of client.models.list()) models.push(model.id);

console.log(JSON.stringify({ outcomes, models }));
