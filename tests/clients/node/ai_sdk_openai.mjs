// The AI SDK with its provider for OpenAI, which reads OPENAI_BASE_URL and OPENAI_API_KEY.
import { openai } from "@ai-sdk/openai";
import { answerBy } from "./ai_sdk.mjs";

await answerBy((model) => openai.embedding(model), "openai");
