//! Downloads from a local hub that behaves well, or misbehaves as told. The expected behaviour is
//! that of huggingface_hub (its `test_file_download.py` and `test_snapshot_download.py`).

mod world;

use std::fs;
use std::path::Path;

use super::*;
use world::{COMMIT, FakeHub, Mood, sha256};

const FILES: [(&str, &[u8]); 7] = [
    ("config.json", b"{\"model_type\": \"bert\"}"),
    ("tokenizer.json", b"{}"),
    ("model.safetensors", b"0123456789012345678901234567890123456789"),
    ("1_Pooling/config.json", b"{\"pooling\": 1}"),
    ("sentence_roberta_config.json", b"{}"),
    ("onnx/model.onnx", b"never needed"),
    ("pytorch_model.bin", b"never needed either"),
];
/// How many of these files a checkpoint needs.
const NEEDED: usize = 5;

fn hub(endpoint: &str, cache: &Path, offline: bool) -> Hub {
    let settings = HubSettings {
        cache: cache.to_owned(),
        endpoint: Some(endpoint.to_owned()),
        token: Some("secret".into()),
        offline,
        ..HubSettings::default()
    };
    Hub { retry_pause: Duration::ZERO, ..Hub::new(&settings) }
}

/// An address where no hub answers.
const AWAY: &str = "http://127.0.0.1:1";

fn pull(hub: &Hub, revision: &str) -> Result<PathBuf, String> {
    let pulled = hub.pull("owner/name", revision, &Progress::default());
    pulled.map_err(|error| error.message)
}

fn cache() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

/// A cache as another Hub tool leaves it, without lists of files; returns its snapshot.
fn filled(cache: &Path, files: &[(&str, &[u8])], with_ref: bool) -> PathBuf {
    let repo = cache.join("models--owner--name");
    let snapshot = repo.join("snapshots").join(COMMIT);
    for (name, bytes) in files {
        let path = snapshot.join(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        fs::write(path, bytes).expect("written");
    }
    if with_ref {
        fs::create_dir_all(repo.join("refs")).expect("made");
        fs::write(repo.join("refs/main"), COMMIT).expect("written");
    }
    snapshot
}

#[test]
fn a_model_is_downloaded_once_and_then_needs_no_network() {
    let (server, cache) = (FakeHub::start(&FILES), cache());
    let online = hub(&server.address, cache.path(), false);
    let progress = Progress::default();
    let folder = online.pull("owner/name", "main", &progress).expect("downloaded");
    for (name, bytes) in &FILES[..NEEDED] {
        assert_eq!(&fs::read(folder.join(name)).expect("a file"), bytes, "{name}");
    }
    let total: usize = FILES[..NEEDED].iter().map(|(_, bytes)| bytes.len()).sum();
    assert_eq!((progress.done(), progress.total()), (total as u64, total as u64));
    let asked = server.asked();
    assert!(!asked.iter().any(|line| line.contains("onnx") || line.contains(".bin")), "{asked:?}");
    for line in asked {
        // The token stays on the Hub: large files come from elsewhere, by signed URLs.
        assert_eq!(line.contains("Bearer secret"), !line.contains("/storage/"), "{line}");
    }
    assert_eq!(pull(&online, "main"), Ok(folder.clone()));
    let offline = hub(AWAY, cache.path(), true);
    assert_eq!(pull(&offline, "main"), Ok(folder.clone()));
    assert_eq!(pull(&offline, COMMIT), Ok(folder));
    assert_eq!(server.asked(), Vec::<String>::new(), "what is there is not asked for");
    let missing = offline.pull("owner/other", "main", &progress).expect_err("not there");
    assert!(missing.message.contains("proxima pull owner/other"), "{}", missing.message);
}

#[test]
#[cfg(unix)]
fn the_cache_is_laid_out_as_other_tools_of_the_hub_read_it() {
    let (server, cache) = (FakeHub::start(&FILES), cache());
    pull(&hub(&server.address, cache.path(), false), "main").expect("downloaded");
    let repo = cache.path().join("models--owner--name");
    assert_eq!(fs::read_to_string(repo.join("refs/main")).expect("a ref"), COMMIT);
    let snapshot = repo.join("snapshots").join(COMMIT);
    let link = |name: &str| fs::read_link(snapshot.join(name)).expect("a link");
    let weights = format!("../../blobs/{}", sha256(FILES[2].1));
    assert_eq!(link("model.safetensors"), Path::new(&weights));
    assert!(link("1_Pooling/config.json").starts_with("../../../blobs"));
    let left = fs::read_dir(repo.join("blobs")).expect("a folder").flatten();
    let left: Vec<_> = left.map(|entry| entry.file_name()).collect();
    assert!(left.iter().all(|name| !name.to_string_lossy().contains("incomplete")), "{left:?}");
}

#[test]
fn a_commits_hash_needs_no_ref_and_no_network_where_its_files_are_there() {
    let (server, cache) = (FakeHub::start(&FILES), cache());
    let snapshot = filled(cache.path(), &FILES[..NEEDED], false);
    assert_eq!(pull(&hub(AWAY, cache.path(), true), COMMIT), Ok(snapshot.clone()));
    assert!(pull(&hub(AWAY, cache.path(), true), "main").is_err(), "no ref leads to it");
    let online = hub(&server.address, cache.path(), false);
    assert_eq!(pull(&online, COMMIT), Ok(snapshot));
    let asked = server.asked();
    assert!(!asked.iter().any(|line| line.contains("/resolve/")), "{asked:?}");
}

#[test]
fn what_the_cache_has_is_served_where_the_hub_is_away_or_says_no() {
    let cache = cache();
    let snapshot = filled(cache.path(), &FILES[..NEEDED], true);
    assert_eq!(pull(&hub(AWAY, cache.path(), false), "main"), Ok(snapshot.clone()));
    for mood in [
        Mood::Says(500, "", "broken"),
        Mood::Says(503, "", "maintenance"),
        Mood::Says(401, "RepoNotFound", "Repository not found"),
        Mood::Says(403, "GatedRepo", "Access is restricted"),
        Mood::Says(429, "", "slow down"),
        Mood::Portal,
    ] {
        let server = FakeHub::moody(&FILES, mood);
        let pulled = pull(&hub(&server.address, cache.path(), false), "main");
        assert_eq!(pulled, Ok(snapshot.clone()), "{mood:?}");
        assert_eq!(server.asked().len(), 1, "no retries: {mood:?}");
    }
    let deleted =
        FakeHub::moody(&FILES, Mood::Says(404, "RevisionNotFound", "Invalid rev id: main"));
    let error = pull(&hub(&deleted.address, cache.path(), false), "main").expect_err("refused");
    assert!(error.contains("no revision main") && error.contains("Invalid rev id"), "{error}");
    // An incomplete snapshot is not served.
    fs::remove_file(snapshot.join("model.safetensors")).expect("removed");
    let error = pull(&hub(AWAY, cache.path(), false), "main").expect_err("refused");
    assert!(error.contains("check the network"), "{error}");
    let error = pull(&hub(AWAY, cache.path(), true), "main").expect_err("refused");
    assert!(error.contains("lacks model.safetensors"), "{error}");
    let index = br#"{"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}"#;
    fs::write(snapshot.join("model.safetensors.index.json"), index).expect("written");
    fs::write(snapshot.join("model-1.safetensors"), b"").expect("written");
    let error = pull(&hub(AWAY, cache.path(), true), "main").expect_err("refused");
    assert!(error.contains("lacks model-2.safetensors and"), "{error}");
}

#[test]
fn a_list_that_huggingface_hub_keeps_tells_what_is_missing() {
    let cache = cache();
    let snapshot = filled(cache.path(), &FILES[..NEEDED], true);
    let trees = cache.path().join("models--owner--name/trees");
    fs::create_dir_all(&trees).expect("made");
    let entries = FILES.map(|(name, bytes)| format!("{name:?}: {{\"size\": {}}}", bytes.len()));
    let tree = format!("{{\"format_version\": 1, \"files\": {{{}}}}}", entries.join(", "));
    fs::write(trees.join(format!("{COMMIT}.json")), tree).expect("written");
    // The snapshot is complete, so the Hub is not even asked.
    let server = FakeHub::start(&FILES);
    assert_eq!(pull(&hub(&server.address, cache.path(), false), "main"), Ok(snapshot.clone()));
    assert_eq!(server.asked(), Vec::<String>::new());
    fs::remove_file(snapshot.join("1_Pooling/config.json")).expect("removed");
    for offline in [true, false] {
        assert!(pull(&hub(AWAY, cache.path(), offline), "main").is_err());
    }
    assert_eq!(pull(&hub(&server.address, cache.path(), false), "main"), Ok(snapshot));
    let asked = server.asked();
    let fetched: Vec<_> = asked.iter().filter(|line| line.starts_with("GET /owner")).collect();
    assert_eq!(fetched.len(), 1, "{asked:?}");
    assert!(fetched[0].contains("1_Pooling/config.json"), "{asked:?}");
}

#[test]
fn a_cache_that_cannot_be_written_serves_what_it_has_and_says_what_it_cannot_take() {
    let (server, cache) = (FakeHub::start(&FILES), cache());
    let snapshot = filled(cache.path(), &FILES[..NEEDED], false);
    let repo = cache.path().join("models--owner--name");
    // Nobody, not even root, can write below a regular file.
    for folder in ["refs", "blobs"] {
        fs::write(repo.join(folder), b"").expect("written");
    }
    fs::write(cache.path().join(".locks"), b"").expect("written");
    fs::create_dir(snapshot.join(".proxima-complete")).expect("made");
    let online = hub(&server.address, cache.path(), false);
    for revision in ["main", COMMIT] {
        assert_eq!(pull(&online, revision), Ok(snapshot.clone()));
    }
    fs::remove_file(snapshot.join("tokenizer.json")).expect("removed");
    let error = pull(&online, COMMIT).expect_err("it cannot be put anywhere");
    assert!(error.contains(&repo.join("blobs").display().to_string()), "{error}");
    assert!(!error.contains("network"), "{error}");
    let denied = HubError::cache("/models")(std::io::ErrorKind::PermissionDenied.into());
    let text = denied.explain("owner/name", "main", false);
    assert!(text.contains("/models: permission denied") && text.contains("HF_HUB_CACHE"), "{text}");
}

#[test]
fn a_newer_commit_that_cannot_be_taken_leaves_what_is_there() {
    let (server, cache) = (FakeHub::start(&FILES), cache());
    let repo = cache.path().join("models--owner--name");
    let newer = filled(cache.path(), &FILES[..NEEDED], true);
    let older = newer.with_file_name("f".repeat(40));
    fs::rename(newer, &older).expect("moved");
    fs::write(repo.join("refs/main"), "f".repeat(40)).expect("written");
    fs::write(repo.join("blobs"), b"").expect("written");
    let online = hub(&server.address, cache.path(), false);
    assert_eq!(pull(&online, "main"), Ok(older));
    assert_eq!(fs::read_to_string(repo.join("refs/main")).expect("a ref"), "f".repeat(40));
    fs::remove_file(repo.join("blobs")).expect("removed");
    assert!(pull(&online, "main").expect("downloaded").ends_with(COMMIT));
    assert_eq!(fs::read_to_string(repo.join("refs/main")).expect("a ref"), COMMIT);
}

#[test]
fn a_broken_download_goes_on_where_it_stopped() {
    let cache = cache();
    let blobs = cache.path().join("models--owner--name/blobs");
    fs::create_dir_all(&blobs).expect("made");
    let (_, bytes) = FILES[2];
    let partial = blobs.join(format!("{}.incomplete", sha256(bytes)));
    fs::write(&partial, &bytes[..25]).expect("written");
    let server = FakeHub::start(&FILES);
    let folder = pull(&hub(&server.address, cache.path(), false), "main").expect("downloaded");
    assert_eq!(fs::read(folder.join("model.safetensors")).expect("a file"), bytes);
    let asked = server.asked();
    assert!(asked.iter().any(|line| line.ends_with("bytes=25-")), "only the rest: {asked:?}");
    // A connection that breaks again and again, but later each time.
    for mood in [Mood::Breaks(7), Mood::NoRanges] {
        let cache = self::cache();
        let server = FakeHub::moody(&FILES, mood);
        let (progress, hub) = (Progress::default(), hub(&server.address, cache.path(), false));
        let folder = hub.pull("owner/name", "main", &progress).expect("downloaded");
        assert_eq!(fs::read(folder.join("model.safetensors")).expect("a file"), bytes, "{mood:?}");
        assert_eq!(progress.done(), progress.total(), "{mood:?}");
    }
}

#[test]
fn a_damaged_download_is_refused_and_removed() {
    let (server, cache) = (FakeHub::moody(&FILES, Mood::Damages), cache());
    let error = pull(&hub(&server.address, cache.path(), false), "main").expect_err("refused");
    assert!(error.contains("model.safetensors was damaged"), "{error}");
    let repo = cache.path().join("models--owner--name");
    let blobs = fs::read_dir(repo.join("blobs")).expect("a folder").flatten();
    let names: Vec<_> = blobs.map(|entry| entry.file_name().into_string().expect("text")).collect();
    assert!(!names.iter().any(|name| name.starts_with(&sha256(FILES[2].1))), "{names:?}");
    assert!(!repo.join("snapshots").join(COMMIT).join("model.safetensors").exists());
}

#[test]
fn what_the_hub_refuses_is_explained_in_its_own_words() {
    let explained = |mood: Mood, token: Option<&str>| {
        let (server, cache) = (FakeHub::moody(&FILES, mood), cache());
        let mut hub = hub(&server.address, cache.path(), false);
        hub.settings.token = token.map(str::to_owned);
        pull(&hub, "main").expect_err("refused")
    };
    let says = "Access to model owner/name is restricted. You must have access to it.";
    for mood in [Mood::Says(403, "GatedRepo", says), Mood::GatedFiles(says)] {
        let with_token = explained(mood, Some("secret"));
        assert!(with_token.contains(says) && with_token.contains("no access"), "{with_token}");
        assert!(!with_token.contains("HF_TOKEN"), "one is set: {with_token}");
        let without = explained(mood, None);
        assert!(without.contains(says) && without.contains("HF_TOKEN"), "{without}");
    }
    let unknown = explained(Mood::Says(401, "RepoNotFound", "Repository not found"), None);
    assert!(unknown.contains("no model owner/name") && unknown.contains("HF_TOKEN"), "{unknown}");
    let expired = "Invalid credentials in Authorization header";
    let refused = explained(Mood::Says(401, "", expired), Some("secret"));
    assert!(refused.contains(expired) && !refused.contains("HF_TOKEN"), "{refused}");
    let revision = explained(Mood::Says(404, "RevisionNotFound", "Invalid rev id: main"), None);
    assert!(revision.contains("owner/name has no revision main"), "{revision}");
    assert!(explained(Mood::NoEtag, None).contains("HF_ENDPOINT"));
    assert!(explained(Mood::Portal, None).contains("HF_ENDPOINT"));
    assert!(explained(Mood::Says(503, "", "maintenance"), None).contains("maintenance"));
    let cache = cache();
    let away = pull(&hub(AWAY, cache.path(), false), "main").expect_err("refused");
    assert!(away.contains("check the network"), "{away}");
}

#[test]
fn repositories_without_weights_and_invalid_names_are_refused() {
    let cache = cache();
    let pulled = |files: &[(&str, &[u8])]| {
        let server = FakeHub::start(files);
        pull(&hub(&server.address, cache.path(), false), "main").expect_err("refused")
    };
    assert!(pulled(&[FILES[0], FILES[6]]).contains("no safetensors"));
    let adapter: [(&str, &[u8]); 2] =
        [("adapter_config.json", b"{}"), ("adapter_model.safetensors", b"")];
    let message = pulled(&adapter);
    assert!(message.contains("adapter of a model it does not name"), "{message}");
    let named = br#"{"peft_type": "LORA", "base_model_name_or_path": "Owner/Base"}"#;
    let adapter: [(&str, &[u8]); 4] = [
        ("adapter_config.json", named),
        ("adapter_model.safetensors", b""),
        ("1_Pooling/config.json", b"{}"),
        ("2_Dense/model.safetensors", b""),
    ];
    let (server, other) = (FakeHub::start(&adapter), self::cache());
    let message = pull(&hub(&server.address, other.path(), false), "main").expect_err("refused");
    assert!(message.contains("LORA adapter of Owner/Base, not a model"), "{message}");
    assert!(pulled(&[FILES[2]]).contains("no config.json"));
    let outside = pulled(&[FILES[0], FILES[2], ("../../config.json", b"{}")]);
    assert!(outside.contains("is not a valid file name"), "{outside}");
    let away = hub(AWAY, cache.path(), false);
    for id in ["../etc", "a/b/c", "", "owner/.hidden", "own er/name", "a/b..c"] {
        let error = away.pull(id, "main", &Progress::default()).expect_err("refused");
        assert!(error.message.contains("not a model id"), "{id}");
    }
    for revision in ["", "../main", "a/../b", "/main", "a//b", ".git", "ma in"] {
        assert!(pull(&away, revision).expect_err("refused").contains("a branch, tag or commit"));
    }
}

#[test]
fn a_renamed_repository_a_branch_with_slashes_and_a_mirror_without_head_are_read() {
    for mood in [Mood::Renamed, Mood::NoHead] {
        let (server, cache) = (FakeHub::moody(&FILES, mood), cache());
        let folder = pull(&hub(&server.address, cache.path(), false), "refs/pr/1");
        let folder = folder.expect("downloaded");
        assert_eq!(fs::read(folder.join("tokenizer.json")).expect("a file"), b"{}", "{mood:?}");
        let named = cache.path().join("models--owner--name/refs/refs/pr/1");
        assert_eq!(fs::read_to_string(named).expect("a ref"), COMMIT);
        assert!(server.asked()[0].contains("/revision/refs%2Fpr%2F1"));
    }
}
