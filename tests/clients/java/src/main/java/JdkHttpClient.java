import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.ByteArrayInputStream;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.util.ArrayList;
import java.util.List;

/** The JDK's HttpClient as it is by default: every request offers an upgrade to HTTP/2. */
final class JdkHttpClient {
  private static final HttpClient CLIENT = HttpClient.newHttpClient();

  private JdkHttpClient() {}

  public static void main(String[] arguments) throws Exception {
    Asked.answer(JdkHttpClient::embed, JdkHttpClient::show);
  }

  @SuppressWarnings("serial")
  private static final class RefusedException extends Exception {
    private final int status;
    private final JsonNode error;

    RefusedException(int status, JsonNode error) {
      super(error.get("message").asText());
      this.status = status;
      this.error = error;
    }
  }

  private static List<float[]> embed(Asked.Request request) throws Exception {
    ObjectNode asks = Asked.JSON.createObjectNode();
    asks.put("model", request.model()).set("input", request.input());
    if (request.dimensions() > 0) {
      asks.put("dimensions", request.dimensions());
    }
    byte[] body = Asked.JSON.writeValueAsBytes(asks);
    HttpRequest post =
        HttpRequest.newBuilder(URI.create(Asked.URL + "/embeddings"))
            .header("Authorization", "Bearer " + Asked.KEY)
            .header("Content-Type", "application/json")
            .expectContinue(request.body().equals("expect"))
            .POST(publisher(request, body))
            .build();
    HttpResponse<byte[]> answer = CLIENT.send(post, HttpResponse.BodyHandlers.ofByteArray());
    JsonNode found = Asked.JSON.readTree(answer.body());
    if (answer.statusCode() != 200) {
      throw new RefusedException(answer.statusCode(), found.get("error"));
    }
    List<float[]> vectors = new ArrayList<>();
    for (JsonNode row : found.get("data")) {
      vectors.add(Asked.JSON.convertValue(row.get("embedding"), float[].class));
    }
    return vectors;
  }

  private static HttpRequest.BodyPublisher publisher(Asked.Request request, byte[] body) {
    // Of a stream the client knows no length: it sends chunks.
    return request.body().equals("chunked")
        ? HttpRequest.BodyPublishers.ofInputStream(() -> new ByteArrayInputStream(body))
        : HttpRequest.BodyPublishers.ofByteArray(body);
  }

  private static Asked.Refused show(Exception error) {
    if (error instanceof RefusedException refused) {
      String code = refused.error.get("code").asText();
      return new Asked.Refused("status", refused.status, code, refused.getMessage());
    }
    return new Asked.Refused(error.getClass().getSimpleName(), null, null, error.toString());
  }
}
