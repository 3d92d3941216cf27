//! Bulk runs around a fake model: order, resuming, broken lines.

use std::fs;

use crate::fake_model::{WIDTH, fake_model};

use super::*;

struct Run {
    folder: tempfile::TempDir,
    engine: Engine,
}

impl Run {
    fn new(input: &str) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        fs::write(folder.path().join("input"), input).expect("written");
        let (model, _) = fake_model();
        let engine = Engine::start(model, EngineConfig::default(), Arc::new(NoMetrics));
        Self { folder, engine }
    }

    fn go(
        &self,
        format: InputFormat,
        output: OutputFormat,
        resume: bool,
    ) -> Result<u64, CommandError> {
        let bar = ProgressBar::hidden();
        let job = Job { prepare: Prepare::default(), dimensions: None, normalize: true };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let reader = read::open(&self.folder.path().join("input"), format, "text", &bar)?;
        let mut sink = write::open(&self.output(), output, WIDTH, resume)?;
        let run = embed_all(&self.engine, &job, reader, &mut *sink);
        runtime.expect("a runtime").block_on(run)
    }

    fn output(&self) -> PathBuf {
        self.folder.path().join("output")
    }

    fn written(&self) -> Vec<u8> {
        fs::read(self.output()).expect("an output")
    }
}

fn lines(count: usize) -> String {
    (0..count).map(|index| format!("text number {index}\n")).collect()
}

#[test]
fn vectors_come_in_the_order_of_the_texts() {
    let run = Run::new(&lines(300));
    assert_eq!(run.go(InputFormat::Text, OutputFormat::Jsonl, false), Ok(300));
    let text = String::from_utf8(run.written()).expect("text");
    for (index, line) in text.lines().enumerate() {
        let row: serde_json::Value = serde_json::from_str(line).expect("JSON");
        assert_eq!(row["index"], index);
        assert_eq!(row["embedding"].as_array().map(Vec::len), Some(WIDTH));
    }
    let again = run.go(InputFormat::Text, OutputFormat::Jsonl, false).expect_err("refused");
    assert!(again.message.contains("--resume"), "{}", again.message);
}

#[test]
fn a_broken_run_is_gone_on_with_to_the_same_bytes() {
    for format in [OutputFormat::Jsonl, OutputFormat::Npy] {
        let run = Run::new(&lines(200));
        run.go(InputFormat::Text, format, false).expect("embedded");
        let whole = run.written();
        for cut in [whole.len() / 3, whole.len() - 7, 128, 60] {
            fs::write(run.output(), &whole[..cut]).expect("written");
            assert_eq!(run.go(InputFormat::Text, format, true), Ok(200), "{format:?} at {cut}");
            assert_eq!(run.written(), whole, "{format:?} cut at {cut}");
        }
    }
}

#[test]
fn an_array_says_its_shape() {
    let run = Run::new(&lines(5));
    run.go(InputFormat::Text, OutputFormat::Npy, false).expect("embedded");
    let bytes = run.written();
    assert_eq!(bytes.len(), 128 + 5 * WIDTH * 4);
    let header = String::from_utf8_lossy(&bytes[..128]);
    assert!(header.contains("'descr': '<f4'") && header.contains(&format!("(5, {WIDTH})")));
    let error = write::open(&run.output(), OutputFormat::Npy, WIDTH + 1, true).err();
    assert!(error.is_some_and(|error| error.message.contains("no array of")));
}

#[test]
fn ids_are_kept_and_formats_are_read() {
    let run = Run::new("{\"id\": \"x\", \"text\": \"a\"}\n\n\"b\"\n");
    assert_eq!(run.go(InputFormat::Jsonl, OutputFormat::Jsonl, false), Ok(2));
    assert!(String::from_utf8_lossy(&run.written()).contains("\"id\":\"x\""));
    let run = Run::new("id,text\n7,\"a, quoted\nbreak\"\n8,b\n");
    assert_eq!(run.go(InputFormat::Csv, OutputFormat::Jsonl, false), Ok(2));
    assert!(String::from_utf8_lossy(&run.written()).contains("\"id\":\"7\""));
}

#[test]
fn a_broken_line_is_named_and_what_came_before_is_kept() {
    let mut text: String = (0..100).map(|index| format!("{{\"text\": \"t {index}\"}}\n")).collect();
    text.push_str("{\"txet\": \"a\"}\n");
    let run = Run::new(&text);
    let error = run.go(InputFormat::Jsonl, OutputFormat::Jsonl, false).expect_err("refused");
    assert!(error.message.contains("line 101") && error.message.contains("--field"));
    assert_eq!(String::from_utf8_lossy(&run.written()).lines().count(), 100);
    let run = Run::new("fine\npoison\n");
    let error = run.go(InputFormat::Text, OutputFormat::Jsonl, false).expect_err("refused");
    assert!(error.message.contains("line 2"), "{}", error.message);
    let run = Run::new("a,b\n1,2\n");
    let error = run.go(InputFormat::Csv, OutputFormat::Jsonl, false).expect_err("refused");
    assert!(error.message.contains("a, b"), "{}", error.message);
}
