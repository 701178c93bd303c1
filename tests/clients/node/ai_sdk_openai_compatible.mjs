// The AI SDK with its provider for servers like OpenAI's.
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { answerBy } from "./ai_sdk.mjs";
import { apiKey, url } from "./asked.mjs";

const provider = createOpenAICompatible({ name: "sidecar", baseURL: url, apiKey });

await answerBy((model) => provider.embeddingModel(model), "sidecar");
