//! Requests of several parts that are prepared in different ways and succeed or fail as a whole.

#[path = "../../../tests/support/fake_model.rs"]
mod fake_model;

use std::sync::Arc;

use fake_model::fake_model;
use proxima_engine::{
    EmbedRequest, Engine, EngineConfig, EngineError, NoMetrics, RerankMethod, RerankRequest,
};
use proxima_models::{Content, Input, Prepare, Prompt};

fn engine(config: EngineConfig) -> Engine {
    Engine::start(fake_model().0, config, Arc::new(NoMetrics))
}

fn request(texts: &[&str], prompt: Prompt) -> EmbedRequest {
    EmbedRequest {
        inputs: texts.iter().map(|text| Input::from(*text)).collect(),
        prepare: Prepare { prompt, ..Prepare::default() },
        dimensions: None,
        normalize: true,
    }
}

fn contents(texts: &[&str]) -> Vec<Content> {
    texts.iter().map(|text| Content::from(*text)).collect()
}

#[tokio::test]
async fn each_request_of_several_has_its_own_vectors() {
    let engine = engine(EngineConfig::default());
    let requests = [
        EmbedRequest { normalize: false, ..request(&["one", "two words"], Prompt::None) },
        EmbedRequest { dimensions: Some(3), ..request(&["one"], Prompt::query()) },
        request(&["and three more", "one", "last"], Prompt::Instruction("find".into())),
    ];
    let together = engine.embed_all(requests.to_vec()).await.expect("embedded").vectors;
    assert_eq!(together.iter().map(Vec::len).collect::<Vec<_>>(), [2, 1, 3]);
    for (request, vectors) in requests.into_iter().zip(together) {
        assert_eq!(engine.embed(request).await.expect("embedded").vectors, vectors);
    }
}

#[tokio::test]
async fn similarities_are_those_of_ranking_each_pair() {
    let engine = engine(EngineConfig::default());
    let (queries, documents) = (["a question", "one"], ["search for one", "an answer"]);
    let how = Prepare { document_tokens_max: Some(2), ..Prepare::default() };
    let (all, other) = (contents(&queries), contents(&documents));
    let values = engine.similarities(&all, &other, &how).await.expect("compared").values;
    for (index, value) in values.into_iter().enumerate() {
        let documents = vec![other[index].clone()];
        let ranked = RerankRequest {
            method: Some(RerankMethod::Similarity),
            prepare: how.clone(),
            ..RerankRequest::new(all[index].clone(), documents)
        };
        let ranked = engine.rerank(ranked).await.expect("ranked");
        assert_eq!(ranked.raw, [value], "{index}");
    }
}

#[tokio::test]
async fn as_many_pairs_as_inputs_are_compared_and_no_more() {
    let engine = engine(EngineConfig { inputs_max: 3, ..EngineConfig::default() });
    let how = Prepare::default();
    let three = contents(&["a", "b", "c"]);
    let values = engine.similarities(&three, &three, &how).await.expect("compared").values;
    assert_eq!(values.len(), 3);
    let four = contents(&["a", "b", "c", "d"]);
    let refused = engine.similarities(&four, &four, &how).await;
    assert_eq!(refused, Err(EngineError::TooManyInputs { count: 4, limit: 3 }));
    let two = || request(&["a", "b"], Prompt::None);
    let refused = engine.embed_all(vec![two(), two()]).await;
    assert_eq!(refused, Err(EngineError::TooManyInputs { count: 4, limit: 3 }));
    let none = request(&[], Prompt::None);
    assert_eq!(engine.embed_all(vec![two(), none]).await, Err(EngineError::Empty));
}

#[tokio::test]
async fn what_is_wrong_with_a_document_is_said_of_its_pair() {
    let engine = engine(EngineConfig::default());
    let queries = contents(&["a", "b"]);
    let failed = async |bad: &str| {
        let documents = contents(&["fine", bad]);
        engine.similarities(&queries, &documents, &Prepare::default()).await.expect_err("failed")
    };
    assert_eq!(failed("tokenizer bug").await, EngineError::Panicked { index: 1 });
    assert_eq!(failed("poison").await, EngineError::NotFinite { index: 1 });
}
