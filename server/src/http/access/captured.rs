//! Captures the log for tests.
//!
//! Must not know: what is tested.

use std::io;
use std::sync::{Arc, LazyLock, Mutex};

use serde_json::Value;
use tracing::Dispatch;
use tracing::subscriber::DefaultGuard;

/// The log of this thread, on which all tasks of a test run.
pub struct Log {
    lines: CapturedLines,
    _guard: DefaultGuard,
}

#[derive(Clone, Default)]
struct CapturedLines(Arc<Mutex<Vec<u8>>>);

impl io::Write for CapturedLines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("no test panics here").extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn dispatch(lines: CapturedLines) -> Dispatch {
    let builder = tracing_subscriber::fmt().json().with_max_level(tracing::Level::INFO);
    Dispatch::new(builder.with_writer(move || lines.clone()).finish())
}

impl Log {
    /// Captures what is logged from now on.
    pub fn begin() -> Self {
        // With a single dispatcher in the process, tracing asks that of whichever thread first
        // reaches a log statement whether it is enabled, and threads of other tests have none.
        static OTHERS: LazyLock<[Dispatch; 2]> = LazyLock::new(|| {
            [dispatch(CapturedLines::default()), dispatch(CapturedLines::default())]
        });
        LazyLock::force(&OTHERS);
        let lines = CapturedLines::default();
        let _guard = tracing::dispatcher::set_default(&dispatch(lines.clone()));
        Self { lines, _guard }
    }

    /// The whole log.
    pub fn text(&self) -> String {
        String::from_utf8(self.lines.0.lock().expect("whole").clone()).expect("text")
    }

    /// The requests logged so far, in order.
    pub fn requests(&self) -> Vec<Value> {
        let text = self.text();
        let lines = text.lines().map(|line| serde_json::from_str(line).expect("an object a line"));
        let access = |line: &Value| line["target"] == "proxima::access";
        lines.filter(access).map(|mut line: Value| line["fields"].take()).collect()
    }

    /// Waits for the line of the request that has this id.
    pub async fn line(&self, id: &str) -> Value {
        loop {
            if let Some(line) = self.requests().into_iter().find(|line| line["request_id"] == id) {
                return line;
            }
            tokio::task::yield_now().await;
        }
    }
}
