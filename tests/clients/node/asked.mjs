// What the programs of this folder share: requests on standard input, outcomes on standard output.
// Their form is that of tests/clients/python/asked.py.
import { text } from "node:stream/consumers";

export const url = process.env.OPENAI_BASE_URL;
export const apiKey = process.env.OPENAI_API_KEY;

// Asks all requests in their order. `embed(request, inputs)`: one text, or a list of inputs.
export async function answer(embed, show = shown) {
  const outcomes = [];
  for (const request of JSON.parse(await text(process.stdin))) {
    const outcome = await vectors(embed, request).then(
      (vectors) => ({ vectors }),
      (error) => ({ error: show(error) }),
    );
    outcomes.push({ case: request.case, ...outcome });
  }
  console.log(JSON.stringify({ runtime: process.version, outcomes }));
}

function shown({ constructor, status, code, message }) {
  return { type: constructor.name, status, code, message };
}

async function vectors(embed, request) {
  const { how, inputs } = request;
  switch (how) {
    case "one":
      return embed(request, inputs[0]);
    case "repeated": {
      const found = [];
      for (const text of inputs) found.push(...(await embed(request, text)));
      return found;
    }
    case "threads":
      return (await Promise.all(inputs.map((text) => embed(request, text)))).flat();
    default:
      return embed(request, inputs);
  }
}
