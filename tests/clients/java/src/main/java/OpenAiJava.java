import com.openai.client.OpenAIClient;
import com.openai.client.okhttp.OpenAIOkHttpClient;
import com.openai.errors.OpenAIServiceException;
import com.openai.models.embeddings.Embedding;
import com.openai.models.embeddings.EmbeddingCreateParams;
import java.util.ArrayList;
import java.util.List;

/** openai-java, as an injected application has it: it reads OPENAI_BASE_URL and OPENAI_API_KEY. */
final class OpenAiJava {
  private static final OpenAIClient CLIENT = OpenAIOkHttpClient.fromEnv();

  private OpenAiJava() {}

  public static void main(String[] arguments) throws Exception {
    Asked.answer(OpenAiJava::embed, OpenAiJava::show);
  }

  private static List<float[]> embed(Asked.Request request) {
    EmbeddingCreateParams.Builder params = EmbeddingCreateParams.builder().model(request.model());
    if (request.isOne()) {
      params.input(request.input().asText());
    } else if (request.isTokens()) {
      params.inputOfArrayOfTokenArrays(tokens(request));
    } else {
      params.inputOfArrayOfStrings(request.texts());
    }
    if (request.dimensions() > 0) {
      params.dimensions(request.dimensions());
    }
    if (!request.format().isEmpty()) {
      params.encodingFormat(EmbeddingCreateParams.EncodingFormat.of(request.format()));
    }
    List<float[]> found = new ArrayList<>();
    for (Embedding row : CLIENT.embeddings().create(params.build()).data()) {
      float[] vector = new float[row.embedding().size()];
      for (int at = 0; at < vector.length; at++) {
        vector[at] = row.embedding().get(at);
      }
      found.add(vector);
    }
    return found;
  }

  private static List<List<Long>> tokens(Asked.Request request) {
    List<List<Long>> all = new ArrayList<>();
    request
        .input()
        .forEach(
            item -> {
              List<Long> one = new ArrayList<>();
              item.forEach(token -> one.add(token.asLong()));
              all.add(one);
            });
    return all;
  }

  private static Asked.Refused show(Exception error) {
    String type = error.getClass().getSimpleName();
    if (error instanceof OpenAIServiceException refused) {
      String code = refused.code().orElse(null);
      return new Asked.Refused(type, refused.statusCode(), code, refused.getMessage());
    }
    return new Asked.Refused(type, null, null, error.toString());
  }
}
