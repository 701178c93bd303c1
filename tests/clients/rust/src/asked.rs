//! What the programs of this folder share: requests on standard input, outcomes on standard output.
//! Their form is that of tests/clients/python/asked.py.

use serde::{Deserialize, Serialize};
use std::future::Future;

pub type Vectors = Vec<Vec<f32>>;

#[derive(Clone, Deserialize)]
pub struct Request {
    pub case: String,
    pub how: String,
    pub model: String,
    pub inputs: Vec<serde_json::Value>,
    pub dimensions: Option<u32>,
    pub format: Option<String>,
    pub body: Option<String>,
}

/// What is asked at once: one input alone, or a list of inputs.
#[derive(Clone)]
pub enum Inputs {
    One(serde_json::Value),
    Many(Vec<serde_json::Value>),
}

#[derive(Serialize)]
pub struct Refused {
    #[serde(rename = "type")]
    pub kind: String,
    pub status: Option<u16>,
    pub code: Option<String>,
    pub message: String,
}

#[derive(Serialize)]
#[serde(rename_all = "lowercase")]
enum Outcome {
    // Doubles: what a float32 holds is then printed exactly.
    Vectors(Vec<Vec<f64>>),
    Error(Refused),
}

#[derive(Serialize)]
struct Answered {
    case: String,
    #[serde(flatten)]
    outcome: Outcome,
}

/// Asks all requests in their order; `embed` asks one.
pub async fn answer<E, F>(embed: E)
where
    E: Fn(Request, Inputs) -> F + Clone + Send + 'static,
    F: Future<Output = Result<Vectors, Refused>> + Send + 'static,
{
    let requests: Vec<Request> =
        serde_json::from_reader(std::io::stdin()).expect("requests on standard input");
    let mut outcomes = Vec::new();
    for request in requests {
        let case = request.case.clone();
        let outcome = match vectors(&embed, request).await {
            Ok(found) => Outcome::Vectors(
                found
                    .into_iter()
                    .map(|vector| vector.into_iter().map(f64::from).collect())
                    .collect(),
            ),
            Err(refused) => Outcome::Error(refused),
        };
        outcomes.push(Answered { case, outcome });
    }
    let document = serde_json::json!({"runtime": "", "outcomes": outcomes});
    println!("{document}");
}

async fn vectors<E, F>(embed: &E, request: Request) -> Result<Vectors, Refused>
where
    E: Fn(Request, Inputs) -> F + Clone + Send + 'static,
    F: Future<Output = Result<Vectors, Refused>> + Send + 'static,
{
    let inputs = request.inputs.clone();
    match request.how.as_str() {
        "one" => embed(request, Inputs::One(inputs[0].clone())).await,
        "repeated" => {
            let mut found = Vec::new();
            for input in inputs {
                found.extend(embed(request.clone(), Inputs::One(input)).await?);
            }
            Ok(found)
        }
        "threads" => {
            let tasks: Vec<_> = inputs
                .into_iter()
                .map(|input| tokio::spawn(embed(request.clone(), Inputs::One(input))))
                .collect();
            let mut found = Vec::new();
            for task in tasks {
                found.extend(task.await.expect("a task that ends")?);
            }
            Ok(found)
        }
        _ => embed(request, Inputs::Many(inputs)).await,
    }
}
