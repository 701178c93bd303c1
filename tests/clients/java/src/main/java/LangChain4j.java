import com.fasterxml.jackson.databind.JsonNode;
import dev.langchain4j.data.embedding.Embedding;
import dev.langchain4j.data.segment.TextSegment;
import dev.langchain4j.exception.HttpException;
import dev.langchain4j.model.openai.OpenAiEmbeddingModel;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;

/** LangChain4j's model for OpenAI, by its default HTTP client, which is the JDK's. */
final class LangChain4j {
  private record Key(String model, int dimensions, String format) {}

  private static final Map<Key, OpenAiEmbeddingModel> MODELS = new ConcurrentHashMap<>();

  private LangChain4j() {}

  public static void main(String[] arguments) throws Exception {
    Asked.answer(LangChain4j::embed, LangChain4j::show);
  }

  private static OpenAiEmbeddingModel model(Key key) {
    return OpenAiEmbeddingModel.builder()
        .baseUrl(Asked.URL)
        .apiKey(Asked.KEY)
        .modelName(key.model())
        .dimensions(key.dimensions() > 0 ? key.dimensions() : null)
        .encodingFormat(key.format().isEmpty() ? null : key.format())
        .build();
  }

  private static List<float[]> embed(Asked.Request request) {
    Key key = new Key(request.model(), request.dimensions(), request.format());
    OpenAiEmbeddingModel model = MODELS.computeIfAbsent(key, LangChain4j::model);
    if (request.isOne()) {
      return List.of(model.embed(request.input().asText()).content().vector());
    }
    List<TextSegment> segments = request.texts().stream().map(TextSegment::from).toList();
    List<float[]> found = new ArrayList<>();
    for (Embedding embedding : model.embedAll(segments).content()) {
      found.add(embedding.vector());
    }
    return found;
  }

  private static Asked.Refused show(Exception error) {
    String type = error.getClass().getSimpleName();
    if (error.getCause() instanceof HttpException refused) {
      return new Asked.Refused(type, refused.statusCode(), code(refused), error.getMessage());
    }
    return new Asked.Refused(type, null, null, error.toString());
  }

  // The exception's text is the body of the answer.
  private static String code(HttpException refused) {
    try {
      JsonNode body = Asked.JSON.readTree(refused.getMessage());
      return body.path("error").path("code").asText(null);
    } catch (com.fasterxml.jackson.core.JsonProcessingException notJson) {
      return null;
    }
  }
}
