//! async-openai, as an injected application has it: it reads OPENAI_BASE_URL and OPENAI_API_KEY.

use asked::{Inputs, Refused, Request, Vectors};
use async_openai::config::OpenAIConfig;
use async_openai::error::OpenAIError;
use async_openai::types::embeddings::{
    CreateEmbeddingRequest, CreateEmbeddingRequestArgs, EmbeddingInput, EncodingFormat,
};
use async_openai::Client;

#[tokio::main]
async fn main() {
    let client = Client::new();
    asked::answer(move |request, inputs| embed(client.clone(), request, inputs)).await;
}

async fn embed(
    client: Client<OpenAIConfig>,
    request: Request,
    inputs: Inputs,
) -> Result<Vectors, Refused> {
    let base64 = request.format.as_deref() == Some("base64");
    let body = body(request, inputs).map_err(refused)?;
    let embeddings = client.embeddings();
    if base64 {
        let answer = embeddings.create_base64(body).await.map_err(refused)?;
        return Ok(answer
            .data
            .into_iter()
            .map(|row| row.embedding.into())
            .collect());
    }
    let answer = embeddings.create(body).await.map_err(refused)?;
    Ok(answer.data.into_iter().map(|row| row.embedding).collect())
}

fn body(request: Request, inputs: Inputs) -> Result<CreateEmbeddingRequest, OpenAIError> {
    let input: EmbeddingInput = match inputs {
        Inputs::One(input) => serde_json::from_value(input),
        Inputs::Many(inputs) => serde_json::from_value(inputs.into()),
    }
    .expect("texts or tokens");
    let mut body = CreateEmbeddingRequestArgs::default();
    body.model(request.model).input(input);
    if let Some(dimensions) = request.dimensions {
        body.dimensions(dimensions);
    }
    match request.format.as_deref() {
        Some("base64") => body.encoding_format(EncodingFormat::Base64),
        Some("float") => body.encoding_format(EncodingFormat::Float),
        _ => &mut body,
    };
    body.build()
}

fn refused(error: OpenAIError) -> Refused {
    match error {
        OpenAIError::ApiError(answer) => Refused {
            kind: "OpenAIError::ApiError".into(),
            status: Some(answer.status_code.as_u16()),
            code: answer.api_error.code,
            message: answer.api_error.message,
        },
        other => Refused {
            kind: "OpenAIError".into(),
            status: None,
            code: None,
            message: other.to_string(),
        },
    }
}
