//! Sends malformed bodies to the router, many more than the tests do:
//! `cargo run --release -p proxima --example fuzz -- SEED BODIES`.

#[path = "../tests/support/bad_bodies.rs"]
mod bad_bodies;
#[path = "../tests/support/fake_model.rs"]
mod fake_model;

use std::sync::Arc;

use proxima::http::{App, HttpConfig};
use proxima::metrics::MetricsHub;
use proxima::router::router;
use proxima_engine::{Engine, EngineConfig, Registry};

#[tokio::main]
async fn main() {
    let numbers: Vec<u64> =
        std::env::args().skip(1).filter_map(|argument| argument.parse().ok()).collect();
    let [seed, bodies] = numbers[..] else {
        eprintln!("usage: fuzz SEED BODIES");
        std::process::exit(2);
    };
    let (model, _) = fake_model::fake_model();
    let metrics = MetricsHub::new();
    let engine = Engine::start(model, EngineConfig::default(), metrics.for_model("fake"));
    let registry = Registry::new(vec![("fake".into(), engine)]).expect("one model");
    let router = router(Arc::new(App::new(registry, metrics, HttpConfig::default())));
    let found = bad_bodies::run(&router, seed, bodies).await;
    println!("{} answered, {} refused", found.answered, found.refused);
    found.wrong.iter().for_each(|wrong| println!("{wrong}"));
    std::process::exit(i32::from(!found.wrong.is_empty()));
}
