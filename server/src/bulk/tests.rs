//! Bulk runs with a fake model: order, resuming, invalid lines.

use std::fs;

use crate::fake_model::{Knobs, WIDTH, fake_model};

use super::*;

struct Run {
    folder: tempfile::TempDir,
    engine: Engine,
    knobs: Knobs,
}

impl Run {
    fn new(input: &str) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        fs::write(folder.path().join("input"), input).expect("written");
        let (model, knobs) = fake_model();
        let engine = Engine::start(model, EngineConfig::default(), Arc::new(NoMetrics));
        Self { folder, engine, knobs }
    }

    /// A run over a folder of `count` images of `bytes` each.
    fn of_images(count: usize, bytes: u64, config: EngineConfig) -> Self {
        let (folder, (model, knobs)) =
            (tempfile::tempdir().expect("a temporary folder"), fake_model());
        let engine = Engine::start(model, config, Arc::new(NoMetrics));
        let run = Self { folder, engine, knobs };
        let images = run.folder.path().join("images");
        fs::create_dir(&images).expect("a folder");
        for index in 0..count {
            let file = fs::File::create(images.join(format!("{index:03}.bmp"))).expect("a file");
            // A sparse file takes no disk space.
            file.set_len(bytes).expect("a length");
        }
        run
    }

    /// The number of inputs in each chunk of this run.
    fn chunks(&self) -> Vec<usize> {
        let bar = ProgressBar::hidden();
        let format = InputFormat::of(&self.input());
        let reader = read::open(&self.input(), format, "text", &bar).expect("a reader");
        Chunks::new(reader, 0).map(|(chunk, _)| chunk.len()).collect()
    }

    fn go(
        &self,
        format: InputFormat,
        output: OutputFormat,
        resume: bool,
    ) -> Result<u64, CommandError> {
        let bar = ProgressBar::hidden();
        let job = BulkJob { prepare: Prepare::default(), dimensions: None, normalize: true };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let reader = read::open(&self.input(), format, "text", &bar)?;
        let mut sink = write::open(&self.output(), output, WIDTH, resume)?;
        let run = embed_all(&self.engine, &job, reader, &mut *sink);
        runtime.expect("a runtime").block_on(run)
    }

    /// The input file, or the folder of images.
    fn input(&self) -> PathBuf {
        let images = self.folder.path().join("images");
        if images.is_dir() { images } else { self.folder.path().join("input") }
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
fn a_resumed_run_writes_the_same_bytes() {
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
    assert!(error.is_some_and(|error| error.message.contains("not an array of")));
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

/// The rows of an output.
fn rows(run: &Run) -> Vec<serde_json::Value> {
    let text = String::from_utf8(run.written()).expect("text");
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

#[test]
fn a_folders_images_are_embedded_by_name() {
    let run = Run::new("");
    let folder = run.folder.path().join("images");
    fs::create_dir(&folder).expect("a folder");
    for (name, bytes) in [
        ("b.JPG", "bb"),
        ("a.png", "a"),
        ("notes.txt", "n"),
        ("c.webp", "ccc"),
        ("d.tif", "dddd"),
        ("e.TIFF", "eeeee"),
    ] {
        fs::write(folder.join(name), bytes).expect("written");
    }
    assert_eq!(InputFormat::of(&folder), InputFormat::Images);
    assert_eq!(run.go(InputFormat::Images, OutputFormat::Jsonl, false), Ok(5));
    let images = rows(&run);
    let ids: Vec<_> = images.iter().map(|row| row["id"].clone()).collect();
    assert_eq!(ids, ["a.png", "b.JPG", "c.webp", "d.tif", "e.TIFF"]);
    // The fake model treats an image like a word that states its size in bytes.
    let words = Run::new("image:1\nimage:2\nimage:3\nimage:4\nimage:5\n");
    words.go(InputFormat::Text, OutputFormat::Jsonl, false).expect("embedded");
    for (image, word) in images.iter().zip(rows(&words)) {
        assert_eq!(image["embedding"], word["embedding"]);
    }
    // A resumed run does not read finished images again.
    fs::remove_file(folder.join("a.png")).expect("removed");
    fs::write(folder.join("a.png"), "broken").expect("written");
    assert_eq!(run.go(InputFormat::Images, OutputFormat::Jsonl, true), Ok(5));
    fs::remove_file(run.output()).expect("removed");
    let error = run.go(InputFormat::Images, OutputFormat::Jsonl, false).expect_err("refused");
    assert!(error.message.starts_with("a.png: "), "{}", error.message);
    let empty = read::open(run.folder.path(), InputFormat::Images, "text", &ProgressBar::hidden());
    assert!(empty.err().is_some_and(|error| error.message.contains("has no images")));
}

#[test]
fn lines_name_files_beside_them() {
    let lines = [
        r#"{"id": 7, "text": "a cat", "image": "cat.png", "source": "web"}"#,
        r#"{"image": "cat.png"}"#,
        r#"{"text": "a cat", "video": ["cat.png", "sub/dog.jpg"], "fps": 2, "max_frames": 8}"#,
        r#"{"video": "sub/dog.jpg", "image": null, "instruction": "find"}"#,
        r#"{"text": "plain", "image": null}"#,
    ];
    let run = Run::new(&lines.join("\n"));
    fs::create_dir(run.folder.path().join("sub")).expect("a folder");
    fs::write(run.folder.path().join("cat.png"), "cat").expect("written");
    fs::write(run.folder.path().join("sub/dog.jpg"), "dogs").expect("written");
    assert_eq!(run.go(InputFormat::Jsonl, OutputFormat::Jsonl, false), Ok(5));
    let items = rows(&run);
    assert_eq!((&items[0]["id"], &items[1]["id"]), (&7.into(), &"cat.png".into()));
    assert!(items[2].get("id").is_none() && items[3].get("id").is_none());
    let words = [
        "image:3 a cat",
        "image:3",
        "video:Some(2.0):Some(8) image:3 image:4 a cat",
        "find video:None:None image:4",
        "plain",
    ];
    let words = Run::new(&words.join("\n"));
    words.go(InputFormat::Text, OutputFormat::Jsonl, false).expect("embedded");
    for (item, word) in items.iter().zip(rows(&words)) {
        assert_eq!(item["embedding"], word["embedding"]);
    }
    for (line, says) in [
        (r#"{"image": "none.png"}"#, "line 1: "),
        (r#"{"image": 5}"#, "line 1: image: expected"),
        (r#"{"image": "cat.png", "text": 5}"#, "line 1: text must be"),
    ] {
        let run = Run::new(line);
        let error = run.go(InputFormat::Jsonl, OutputFormat::Jsonl, false).expect_err("refused");
        assert!(error.message.starts_with(says), "{}", error.message);
    }
}

#[test]
fn chunks_are_bounded_by_all_that_they_hold() {
    let files = |count, bytes| Run::of_images(count, bytes, EngineConfig::default()).chunks();
    assert_eq!(files(40, 100), [16, 16, 8]);
    assert_eq!(files(11, 3 << 20), [5, 5, 1]);
    // A file that does not fit beside others gets its own chunk.
    assert_eq!(files(3, 17 << 20), [1, 1, 1]);
    assert_eq!(Run::new(&lines(150)).chunks(), [64, 64, 22]);
    assert_eq!(Run::new(&format!("{}\n", "word ".repeat(80_000)).repeat(5)).chunks(), [2, 2, 1]);
}

#[test]
fn photos_are_waited_for_where_they_do_not_fit_at_once() {
    // There is capacity for one chunk of 16 images of 40 KB at a time.
    let config = EngineConfig { text_bytes_max: 1 << 20, ..EngineConfig::default() };
    let run = Run::of_images(80, 40_000, config);
    assert_eq!(run.go(InputFormat::Images, OutputFormat::Jsonl, false), Ok(80));
    let ids: Vec<_> = rows(&run).iter().map(|row| row["id"].clone()).collect();
    assert_eq!(ids, (0..80).map(|index| format!("{index:03}.bmp")).collect::<Vec<_>>());
}

#[test]
fn images_without_room_beside_each_other_are_embedded_one_by_one() {
    let run_with = |times| {
        let run = Run::of_images(2, 10, EngineConfig::default());
        let first = run.folder.path().join("images/000.bmp");
        fs::File::options().write(true).open(first).expect("a file").set_len(11).expect("a length");
        run.knobs.crowd(times, 11);
        run.go(InputFormat::Images, OutputFormat::Jsonl, false)
    };
    // Refused twice, it first waits for other requests, then sends the images one by one.
    assert_eq!(run_with(2), Ok(2));
    let error = run_with(3).expect_err("no room");
    assert!(error.message.contains("overloaded"), "{}", error.message);
}
