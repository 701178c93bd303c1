//! reqwest, for an application that writes the request by hand.

use asked::{Inputs, Refused, Request, Vectors};
use serde_json::{json, Value};

const PIECE_BYTES: usize = 1000;

#[tokio::main]
async fn main() {
    let client = reqwest::Client::new();
    asked::answer(move |request, inputs| embed(client.clone(), request, inputs)).await;
}

async fn embed(
    client: reqwest::Client,
    request: Request,
    inputs: Inputs,
) -> Result<Vectors, Refused> {
    let input = match inputs {
        Inputs::One(input) => input,
        Inputs::Many(inputs) => Value::Array(inputs),
    };
    let mut asks = json!({"model": request.model, "input": input});
    if let Some(dimensions) = request.dimensions {
        asks["dimensions"] = dimensions.into();
    }
    let text = asks.to_string();
    let body = match request.body.as_deref() {
        // A body without a length before it: reqwest sends it in chunks.
        Some("chunked") => {
            let pieces: Vec<Result<Vec<u8>, std::io::Error>> = text
                .into_bytes()
                .chunks(PIECE_BYTES)
                .map(|piece| Ok(piece.to_vec()))
                .collect();
            reqwest::Body::wrap_stream(futures::stream::iter(pieces))
        }
        _ => text.into(),
    };
    let url = std::env::var("OPENAI_BASE_URL").expect("OPENAI_BASE_URL");
    let key = std::env::var("OPENAI_API_KEY").expect("OPENAI_API_KEY");
    let answer = client
        .post(format!("{url}/embeddings"))
        .bearer_auth(key)
        .header("content-type", "application/json")
        .body(body)
        .send()
        .await
        .map_err(broken)?;
    let status = answer.status();
    let found: Value = answer.json().await.map_err(broken)?;
    if !status.is_success() {
        return Err(Refused {
            kind: "status".into(),
            status: Some(status.as_u16()),
            code: found["error"]["code"].as_str().map(str::to_owned),
            message: found["error"]["message"]
                .as_str()
                .unwrap_or_default()
                .into(),
        });
    }
    Ok(found["data"]
        .as_array()
        .expect("data")
        .iter()
        .map(|row| serde_json::from_value(row["embedding"].clone()).expect("numbers"))
        .collect())
}

fn broken(error: reqwest::Error) -> Refused {
    Refused {
        kind: "reqwest::Error".into(),
        status: None,
        code: None,
        message: error.to_string(),
    }
}
