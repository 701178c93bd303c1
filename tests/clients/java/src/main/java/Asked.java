import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.Callable;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;

/**
 * What the programs of this folder share: requests on standard input, outcomes on standard output.
 * Their form is that of tests/clients/python/asked.py.
 */
final class Asked {
  static final ObjectMapper JSON = new ObjectMapper();
  static final String URL = System.getenv("OPENAI_BASE_URL");
  static final String KEY = System.getenv("OPENAI_API_KEY");

  private Asked() {}

  /** One request: `input` is one text or a list of inputs, `dimensions` 0 where none are asked. */
  record Request(String model, JsonNode input, int dimensions, String format, String body) {
    boolean isOne() {
      return input.isTextual();
    }

    boolean isTokens() {
      return input.isArray() && input.get(0).isArray();
    }

    List<String> texts() {
      List<String> texts = new ArrayList<>();
      input.forEach(text -> texts.add(text.asText()));
      return texts;
    }
  }

  /** What the client's own exception says. */
  record Refused(String type, Integer status, String code, String message) {}

  interface Embed {
    List<float[]> embed(Request request) throws Exception;
  }

  interface Show {
    Refused show(Exception error);
  }

  /** Asks all requests in their order. */
  static void answer(Embed embed, Show show) throws Exception {
    List<Map<String, Object>> outcomes = new ArrayList<>();
    for (JsonNode request : JSON.readTree(System.in)) {
      Map<String, Object> outcome = new LinkedHashMap<>();
      outcome.put("case", request.get("case").asText());
      try {
        outcome.put("vectors", doubles(vectors(embed, request)));
      } catch (Exception error) {
        outcome.put("error", show.show(error));
      }
      outcomes.add(outcome);
    }
    String runtime = System.getProperty("java.version");
    System.out.println(JSON.writeValueAsString(Map.of("runtime", runtime, "outcomes", outcomes)));
    // OkHttp's threads would keep the program for a minute.
    System.exit(0);
  }

  private static List<float[]> vectors(Embed embed, JsonNode request) throws Exception {
    JsonNode inputs = request.get("inputs");
    switch (request.get("how").asText()) {
      case "one":
        return embed.embed(of(request, inputs.get(0)));
      case "repeated":
        List<float[]> found = new ArrayList<>();
        for (JsonNode text : inputs) {
          found.addAll(embed.embed(of(request, text)));
        }
        return found;
      case "threads":
        return atOnce(embed, request);
      default:
        return embed.embed(of(request, inputs));
    }
  }

  private static List<float[]> atOnce(Embed embed, JsonNode request) throws Exception {
    List<Callable<List<float[]>>> tasks = new ArrayList<>();
    for (JsonNode text : request.get("inputs")) {
      tasks.add(() -> embed.embed(of(request, text)));
    }
    ExecutorService threads = Executors.newFixedThreadPool(tasks.size());
    List<float[]> found = new ArrayList<>();
    for (Future<List<float[]>> done : threads.invokeAll(tasks)) {
      found.addAll(done.get());
    }
    threads.shutdown();
    return found;
  }

  private static Request of(JsonNode request, JsonNode input) {
    return new Request(
        request.get("model").asText(),
        input,
        request.get("dimensions").asInt(0),
        request.get("format").asText(""),
        request.get("body").asText(""));
  }

  // Doubles: what a float holds is then printed exactly.
  private static List<double[]> doubles(List<float[]> vectors) {
    List<double[]> found = new ArrayList<>();
    for (float[] vector : vectors) {
      double[] row = new double[vector.length];
      for (int at = 0; at < row.length; at++) {
        row[at] = vector[at];
      }
      found.add(row);
    }
    return found;
  }
}
