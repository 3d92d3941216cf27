//! What workers log of requests that fail: device, reason and request id.

#[path = "../../../tests/support/fake_model.rs"]
mod fake_model;

use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};

use fake_model::fake_model;
use proxima_engine::{Caller, EmbedRequest, Engine, EngineConfig, NoMetrics};
use proxima_models::{Input, Prepare};

/// A log in memory.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Log {
    /// The lines with this text.
    fn lines(&self, text: &str) -> Vec<String> {
        let bytes = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let all = String::from_utf8(bytes).expect("text");
        all.lines().filter(|line| line.contains(text)).map(str::to_owned).collect()
    }
}

async fn embed(engine: &Engine, id: &str, texts: &[&str]) -> bool {
    let inputs = texts.iter().map(|text| Input::from(*text)).collect();
    let prepare = Prepare::default();
    let request = EmbedRequest { inputs, prepare, dimensions: None, normalize: true };
    let caller = Caller { request_id: Some(id.into()), ..Caller::default() };
    engine.for_caller(caller).embed(request).await.is_ok()
}

// One test, since the subscriber belongs to the process: workers are threads of their own.
#[tokio::test]
async fn a_failed_input_is_logged_with_its_device_reason_and_request() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone());
    tracing::subscriber::set_global_default(subscriber.finish()).expect("no other test sets one");
    let (model, _) = fake_model();
    let device = model.info.device.clone();
    let engine = Engine::start(model, EngineConfig::default(), Arc::new(NoMetrics));

    assert!(embed(&engine, "r1", &["one", "two"]).await);
    assert_eq!(log.lines("request").len(), 0, "a request that succeeds logs nothing");

    assert!(!embed(&engine, "r2", &["one", "panic"]).await);
    let failed = log.lines("an input could not be computed");
    assert_eq!(failed.len(), 1, "{failed:?}");
    for part in ["ERROR", "request_id=\"r2\"", "a panic", &format!("device={device}")] {
        assert!(failed[0].contains(part), "{part} is not in {}", failed[0]);
    }

    assert!(!embed(&engine, "r3", &["poison"]).await);
    let not_finite = log.lines("a result is not finite");
    assert_eq!(not_finite.len(), 1, "{not_finite:?}");
    assert!(not_finite[0].contains("request_id=\"r3\""), "{}", not_finite[0]);
}
