use clap::{CommandFactory as _, Parser as _};
use proxima_models::Precision;

use super::*;
use crate::http::Origins;

mod files;
mod migrations;

/// The settings of a command line and a file's text. clap reads the variables of this process, so
/// tests set none.
fn parsed(flags: &[&str], file: Option<&str>) -> Result<ServeSettings, CommandError> {
    #[derive(clap::Parser)]
    struct CommandLine {
        #[command(flatten)]
        serve: ServeArgs,
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("proxima.toml");
    let mut arguments = vec!["serve".to_owned()];
    arguments.extend(flags.iter().map(|flag| (*flag).to_owned()));
    if let Some(text) = file {
        std::fs::write(&path, text).expect("written");
        arguments.extend(["--config".into(), path.display().to_string()]);
    }
    let line = CommandLine::try_parse_from(arguments).expect("the flags are known");
    settings(line.serve, &Environment::default())
}

fn refused(flags: &[&str], file: Option<&str>) -> String {
    let error = parsed(flags, file).expect_err("refused");
    assert_eq!(error.code, crate::command::EXIT_USAGE);
    error.message
}

/// A document in the `docs` folder.
fn committed(name: &str) -> String {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs");
    std::fs::read_to_string(docs.join(name)).expect("a document")
}

const MODEL: [&str; 2] = ["--model", "owner/name"];

#[test]
fn defaults_are_as_documented() {
    let settings = parsed(&MODEL, None).expect("settings");
    assert_eq!((settings.host.as_str(), settings.port), ("127.0.0.1", 8080));
    assert_eq!(settings.engine.batch_tokens_max, 32_768);
    assert_eq!(settings.engine.cache_bytes_max, 0);
    assert_eq!(settings.grpc_port, None);
    assert!(settings.http.auto_truncate && settings.http.api_keys.is_empty());
    let small = parsed(&["--model", "owner/name", "--max-queue-tokens", "9"], None);
    assert_eq!(small.expect("settings").engine.batch_tokens_max, 9);
    let half = ["--model", "owner/name", "--device", "auto", "--gpu-memory-fraction", "0.5"];
    assert_eq!(parsed(&half, None).expect("settings").load.device_memory, Some(0.5));
}

#[test]
fn precisions_have_the_names_of_other_tools() {
    for (names, expected) in [
        (&["auto"][..], None),
        (&["float32", "f32", "fp32"], Some(Precision::Float32)),
        (&["bfloat16", "bf16"], Some(Precision::Bfloat16)),
        (&["float16", "f16", "fp16", "half"], Some(Precision::Float16)),
        (&["int8"], Some(Precision::Int8)),
    ] {
        for name in names {
            let flag = parsed(&[&MODEL[..], &["--dtype", name]].concat(), None);
            assert_eq!(flag.expect("settings").load.precision, expected, "{name}");
            let file = parsed(&MODEL, Some(&format!("dtype = {name:?}")));
            assert_eq!(file.expect("settings").load.precision, expected, "{name}");
        }
    }
}

#[test]
fn models_are_named_with_and_without_a_flag() {
    let names = |flags: &[&str]| {
        let settings = parsed(flags, Some("model = [\"a/file\"]")).expect("settings");
        settings.models.into_iter().map(|model| model.name).collect::<Vec<_>>()
    };
    assert_eq!(names(&[]), ["a/file"]);
    assert_eq!(names(&["a/one", "b=a/two"]), ["a/one", "b"]);
    assert_eq!(names(&["--model", "a/flag", "--port", "1"]), ["a/flag"]);
}

#[test]
fn pooling_splade_is_task_sparse() {
    let with = |flags: &[&str]| parsed(&[&MODEL[..], flags].concat(), None);
    let settings = with(&["--pooling", "splade", "--strict-checkpoint"]).expect("settings");
    assert_eq!((settings.load.task, settings.load.pooling), (Some(Task::Sparse), None));
    assert!(settings.load.strict_checkpoint);
    with(&["--pooling", "splade", "--task", "sparse"]).expect("settings");
    let error = with(&["--pooling", "splade", "--task", "rerank"]).expect_err("refused");
    assert!(error.message.contains("splade"), "{}", error.message);
}

#[test]
fn who_may_call_from_browsers_and_whose_token_ids_are_taken_are_settings() {
    let http = parsed(&MODEL, None).expect("settings").http;
    assert_eq!((http.token_ids, http.browsers), Default::default());
    let flags = ["--cors-allow-origin", "https://A.example/,http://b.example:3000"];
    let file = "token-ids = \"allow\"\nallowed-host = [\"Embed.example\"]\n";
    let http = parsed(&[&MODEL[..], &flags].concat(), Some(file)).expect("settings").http;
    assert_eq!(http.token_ids, TokenIds::Allow);
    let origins = vec!["https://a.example".to_owned(), "http://b.example:3000".to_owned()];
    assert_eq!(http.browsers.origins, Origins::These(origins));
    assert_eq!(http.browsers.hosts, ["embed.example"]);
    for (flag, value) in [("--cors-allow-origin", "a.example"), ("--allowed-host", "http://a")] {
        let problem = refused(&[&MODEL[..], &[flag, value]].concat(), None);
        assert!(problem.contains(value), "{problem}");
    }
}

#[test]
fn flags_go_before_the_file_and_the_file_before_defaults() {
    let file = "model = [\"owner/filed\"]\nport = 1\ngrpc-port = 0\nmax-inputs = 5\ncache-bytes = \"2MiB\"\n";
    let settings = parsed(&["--port", "2"], Some(file)).expect("settings");
    assert_eq!((settings.port, settings.grpc_port), (2, Some(0)));
    assert_eq!(settings.engine.inputs_max, 5);
    assert_eq!(settings.engine.cache_bytes_max, 2 << 20);
    assert_eq!(settings.models[0].name, "owner/filed");
}

#[test]
fn what_is_unknown_or_contradictory_is_refused_with_a_sentence() {
    let unknown = refused(&MODEL, Some("prot = 1\n"));
    assert!(unknown.contains("prot") && unknown.contains("port"), "{unknown}");
    assert!(refused(&[], None).contains("--model"));
    let twice = refused(&["--model", "a=x/y", "--model", "a=x/z"], None);
    assert!(twice.contains("NAME="), "{twice}");
    let batch = ["--model", "x/y", "--max-batch-tokens", "10", "--max-queue-tokens", "9"];
    assert!(refused(&batch, None).contains("no batch could ever fill"));
    assert!(refused(&["--model", "x/y", "--max-inputs", "0"], None).contains("at least 1"));
    assert!(
        refused(&["--model", "x/y", "--device", "cuda"], None).contains("this build has no CUDA")
    );
    assert!(refused(&["--model", "x/y", "--device", "cpu,cpu"], None).contains("combined"));
    for fraction in ["0", "-0.5", "1.01", "NaN"] {
        let flag = format!("--gpu-memory-fraction={fraction}");
        assert!(refused(&["--model", "x/y", &flag], None).contains("above 0"), "{fraction}");
    }
    let on_cpu = ["--model", "x/y", "--gpu-memory-fraction", "0.5"];
    assert!(refused(&on_cpu, None).contains("the device is cpu"));
    let ports = ["--model", "x/y", "--port", "7", "--grpc-port", "7"];
    assert!(refused(&ports, None).contains("grpc-port"));
    assert!(refused(&["--model", "./missing"], None).contains("no folder"));
    assert!(refused(&["--model", "x/../y"], None).contains("neither"));
    let environment = Environment::with(&[("PROXIMA_PROT", "1")]);
    let arguments = ServeArgs { model: Some(vec!["x/y".into()]), ..ServeArgs::default() };
    let error = settings(arguments, &environment).expect_err("refused");
    assert!(error.message.contains("PROXIMA_PORT"), "{}", error.message);
}

#[test]
fn a_folder_is_a_path_and_names_itself() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("my-model");
    std::fs::create_dir(&path).expect("made");
    let text = path.display().to_string();
    let source = model_source(&text).expect("a folder");
    assert_eq!((source.name.as_str(), source.origin), ("my-model", ModelOrigin::Folder(path)));
    assert_eq!(model_source(&format!("other={text}")).expect("a folder").name, "other");
    let hub = model_source("q=Qwen/Qwen3-Embedding-0.6B").expect("an id");
    let origin = |id: &str, revision: Option<&str>| {
        let (id, revision) = (id.into(), revision.map(str::to_owned));
        ModelOrigin::Hub { id, revision }
    };
    assert_eq!(hub.origin, origin("Qwen/Qwen3-Embedding-0.6B", None));
    let at = model_source("owner/name@refs/pr/1").expect("an id and a revision");
    assert_eq!((&*at.name, at.origin), ("owner/name", origin("owner/name", Some("refs/pr/1"))));
    for wrong in ["owner/name@", "owner/name@../main", "@main", "owner/name@a//b"] {
        assert!(model_source(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn sizes_are_read_as_people_write_them() {
    let bytes = |text: &str| text.parse::<Bytes>().map(|bytes| bytes.0);
    assert_eq!(bytes("123"), Ok(123));
    assert_eq!(bytes("256MiB"), Ok(256 << 20));
    assert_eq!(bytes("2GB"), Ok(2_000_000_000));
    assert!(bytes("2 parsecs").is_err() && bytes("").is_err());
    assert!(bytes("99999999999GiB").is_err_and(|error| error.contains("too large")));
}

#[test]
fn times_are_read_as_people_write_them() {
    let seconds = |text: &str| text.parse::<Seconds>().map(|seconds| seconds.0);
    assert_eq!([seconds("90"), seconds("90s"), seconds("2m")], [Ok(90), Ok(90), Ok(120)]);
    assert_eq!(seconds("1h"), Ok(3600));
    assert!(seconds("500ms").is_err_and(|error| error.contains("use s, m or h")));
    assert!(seconds("1.5s").is_err() && seconds("-1").is_err() && seconds("m").is_err());
    assert!(seconds("8761h").is_err_and(|error| error.contains("at most a year")));
    let too_long = refused(&["owner/name"], Some("drain-timeout = 9223372036854775807\n"));
    assert!(too_long.contains("at most a year"), "{too_long}");
    let file = "drain-timeout = \"2m\"\nrequest-timeout = 5\n";
    let http = parsed(&["owner/name", "--write-timeout", "1h"], Some(file)).expect("valid").http;
    assert_eq!(http.drain_timeout, Duration::from_secs(120));
    assert_eq!(http.request_timeout, Duration::from_secs(5));
    assert_eq!(http.write_timeout, Duration::from_secs(3600));
}

#[test]
fn the_hub_is_set_up_by_its_own_variables() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    std::fs::write(folder.path().join("token"), "stored\n").expect("written");
    let home = folder.path().display().to_string();
    let stored = hub_settings(&Environment::with(&[("HF_HOME", &home)]));
    assert_eq!(stored.token.as_deref(), Some("stored"));
    assert_eq!(stored.cache, folder.path().join("hub"));
    let given = hub_settings(&Environment::with(&[
        ("HF_HOME", &home),
        ("HF_TOKEN", "given"),
        ("HF_ENDPOINT", "http://mirror/"),
        ("HF_HUB_OFFLINE", "1"),
    ]));
    assert_eq!(given.token.as_deref(), Some("given"));
    assert_eq!(given.endpoint.as_deref(), Some("http://mirror"));
    assert!(given.offline && !stored.offline);
    let of = |variables: &[(&str, &str)]| hub_settings(&Environment::with(variables));
    // HF_HUB_OFFLINE takes precedence over TRANSFORMERS_OFFLINE, even to turn it off.
    assert!(of(&[("TRANSFORMERS_OFFLINE", "YES")]).offline);
    assert!(of(&[("HF_HUB_OFFLINE", ""), ("TRANSFORMERS_OFFLINE", "1")]).offline);
    assert!(!of(&[("HF_HUB_OFFLINE", "0"), ("TRANSFORMERS_OFFLINE", "1")]).offline);
    let caches = [
        ("HF_HUB_CACHE", "/a"),
        ("HUGGINGFACE_HUB_CACHE", "/b"),
        ("HF_HOME", "~/c"),
        ("XDG_CACHE_HOME", "/d"),
        ("HOME", "/e"),
    ];
    let expected = ["/a", "/b", "/e/c/hub", "/d/huggingface/hub", "/e/.cache/huggingface/hub"];
    for (first, expected) in expected.iter().enumerate() {
        assert_eq!(of(&caches[first..]).cache, Path::new(expected));
    }
    // As os.path.expanduser and os.path.expandvars of Python, applied only once.
    let home_and_disk = [("HOME", "/e/"), ("DISK", "/d/$HOME"), ("NAME", "n"), ("EMPTY", "")];
    for (text, expected) in [
        ("~", "/e"),
        ("~/c", "/e/c"),
        ("~root", "/root"),
        ("~nobody-of-this-name/c", "~nobody-of-this-name/c"),
        ("$DISK/c", "/d/$HOME/c"),
        ("/x/${NAME}c/$NAME.d$", "/x/nc/n.d$"),
        ("/x$EMPTY/$NAMEd/${NONE}/${NAME", "/x/$NAMEd/${NONE}/${NAME"),
        ("/~/$HOME", "/~//e/"),
    ] {
        for (variable, inside) in
            [("HF_HUB_CACHE", None), ("HUGGINGFACE_HUB_CACHE", None), ("HF_HOME", Some("hub"))]
        {
            let cache = of(&[&home_and_disk[..], &[(variable, text)]].concat()).cache;
            let expected =
                inside.map_or(expected.into(), |inside| Path::new(expected).join(inside));
            assert_eq!(cache.as_os_str(), expected.as_os_str(), "{variable}");
        }
    }
    let disk = folder.path().display().to_string();
    let in_variable = of(&[("DISK", &*disk), ("HF_TOKEN_PATH", "${DISK}/token")]);
    assert_eq!(in_variable.token.as_deref(), Some("stored"));
    let own = folder.path().join("own");
    std::fs::write(&own, " own \n").expect("written");
    let own = own.display().to_string();
    let named = [("HF_HOME", &*home), ("HF_TOKEN_PATH", &*own)];
    assert_eq!(of(&named).token.as_deref(), Some("own"));
    assert_eq!(of(&[("HUGGING_FACE_HUB_TOKEN", "old")]).token.as_deref(), Some("old"));
    let silent = [("HF_TOKEN", "given"), ("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1")];
    assert_eq!(of(&silent).token, None);
    let slow = of(&[("HF_HUB_ETAG_TIMEOUT", "60"), ("HF_HUB_DOWNLOAD_TIMEOUT", "x")]);
    assert_eq!((slow.etag_timeout.as_secs(), slow.download_timeout.as_secs()), (60, 10));
    assert!(!format!("{given:?}").contains("\"given\""), "a key never shows");
}

#[test]
fn media_is_set_up_by_flags_and_by_the_file() {
    let media = parsed(&MODEL, None).expect("settings").http.media;
    assert_eq!(media, crate::media::MediaSettings::default(), "nothing is fetched by default");
    let file = "media-allow = [\"example.com\"]\nmax-media-bytes = \"1MiB\"\nmedia-timeout = 3\n";
    let media = parsed(&MODEL, Some(file)).expect("settings").http.media;
    assert_eq!(media.allowed_hosts, ["example.com"]);
    assert_eq!((media.file_bytes_max, media.fetch_timeout.as_secs()), (1 << 20, 3));
    let flags = [
        "--model",
        "x/y",
        "--media-allow",
        "a.com,*.b.com:8080",
        "--media-allow",
        "private:minio.internal:9000",
        "--max-media-bytes",
        "1GiB",
        "--max-image-pixels",
        "1000",
        "--media-cache-bytes",
        "0",
        "--ffmpeg",
        "off",
    ];
    let media = parsed(&flags, Some(file)).expect("settings").http.media;
    let hosts = ["a.com", "*.b.com:8080", "private:minio.internal:9000"];
    assert_eq!(media.allowed_hosts, hosts);
    assert_eq!((media.file_bytes_max, media.request_bytes_max), (1 << 30, 1 << 30));
    assert_eq!((media.image_pixels_max, media.cache_bytes_max), (Some(1000), Some(0)));
    assert_eq!(media.video_files, crate::media::VideoFiles::Off);
    // The engine accepts one file of the maximum size together with a full body of texts.
    for flags in [&MODEL[..], &flags] {
        let settings = parsed(flags, None).expect("settings");
        let (media, body) = (&settings.http.media, settings.http.body_bytes_max);
        assert!(settings.engine.text_bytes_max >= media.request_bytes_max + body);
        assert!(media.held_bytes_max >= media.request_bytes_max);
        assert!(media.request_bytes_max >= media.file_bytes_max);
    }
    for (flag, value, expected) in [
        ("--media-allow", "https://example.com", "without a scheme"),
        ("--media-allow", "10.0.0.1", "private:"),
        ("--max-media-bytes", "0", "at least 1"),
        ("--media-timeout", "0", "at least 1"),
        ("--max-image-pixels", "0", "at least 1"),
        ("--ffmpeg", "./missing", "no program"),
    ] {
        let message = refused(&["--model", "x/y", flag, value], None);
        assert!(message.contains(expected), "{flag} {value}: {message}");
    }
}

#[test]
fn ffmpeg_is_looked_for_in_the_path() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (tools, other) = (folder.path().join("tools"), folder.path().join("other"));
    let path = std::env::join_paths(["relative".into(), tools.clone(), other.clone()]);
    let path = path.expect("a path").into_string().expect("text");
    let found = |flag: Option<&str>| {
        let arguments = ServeArgs { ffmpeg: flag.map(str::to_owned), ..ServeArgs::default() };
        let settings = media::settings(&arguments, &Environment::with(&[("PATH", &path)]));
        settings.map(|settings| settings.video_files)
    };
    let files = |ffmpeg: &Path, ffprobe: &Path, named| crate::media::VideoFiles::Ffmpeg {
        ffmpeg: ffmpeg.join("ffmpeg"),
        ffprobe: ffprobe.join("ffprobe"),
        named,
    };
    assert_eq!(found(None), Ok(crate::media::VideoFiles::Missing));
    for (dir, name) in [(&tools, "ffmpeg"), (&other, "ffmpeg"), (&other, "ffprobe")] {
        std::fs::create_dir_all(dir).expect("made");
        std::fs::write(dir.join(name), "").expect("written");
    }
    assert_eq!(found(None), Ok(files(&tools, &other, false)));
    std::fs::write(tools.join("ffprobe"), "").expect("written");
    assert_eq!(found(None), Ok(files(&tools, &tools, false)));
    let named = other.join("ffmpeg").display().to_string();
    assert_eq!(found(Some(&named)), Ok(files(&other, &other, true)));
    assert_eq!(found(Some("off")), Ok(crate::media::VideoFiles::Off));
}

#[test]
fn what_kubelet_injects_is_no_setting_and_the_rest_stays_strict() {
    // As `kubectl exec POD -- env` shows it next to Services of these names.
    let injected = [
        ("PROXIMA_SERVICE_HOST", "10.43.17.4"),
        ("PROXIMA_SERVICE_PORT", "80"),
        ("PROXIMA_SERVICE_PORT_HTTP", "80"),
        ("PROXIMA_SERVICE_PORT_GRPC_WEB", "50051"),
        ("PROXIMA_PORT", "tcp://10.43.17.4:80"),
        ("PROXIMA_PORT_80_TCP", "tcp://10.43.17.4:80"),
        ("PROXIMA_PORT_80_TCP_PROTO", "tcp"),
        ("PROXIMA_PORT_80_TCP_PORT", "80"),
        ("PROXIMA_PORT_80_TCP_ADDR", "10.43.17.4"),
        ("PROXIMA_GRPC_PORT", "tcp://[fd00:10:96::1]:50051"),
        ("PROXIMA_GRPC_PORT_53_UDP", "udp://[fd00:10:96::1]:53"),
        ("PROXIMA_GRPC_PORT_53_UDP_ADDR", "fd00:10:96::1"),
        ("PROXIMA_X_2_PORT_9_SCTP_PROTO", "sctp"),
        ("PROXIMA_X_2_SERVICE_HOST", "fd00:10:96::1"),
    ];
    let arguments = || ServeArgs { model: Some(vec!["x/y".into()]), ..ServeArgs::default() };
    let accepted = settings(arguments(), &Environment::with(&injected)).expect("settings");
    assert_eq!((accepted.port, accepted.grpc_port), (8080, None));
    for (name, value) in [
        ("PROXIMA_SERVICE_HOST", "everywhere"),
        ("PROXIMA_SERVICE_PORT", "http"),
        ("PROXIMA_PORT_80_TCP", "udp://10.43.17.4:80"),
        ("PROXIMA_PORT_80_TCP_ADDR", "here"),
        ("PROXIMA_PORT_X_TCP", "tcp://10.43.17.4:80"),
        ("PROXIMA_PROT", "tcp://10.43.17.4:80"),
        ("PROXIMA_PORTS", "80"),
    ] {
        let refused = settings(arguments(), &Environment::with(&[(name, value)]));
        let message = refused.expect_err("refused").message;
        assert!(message.contains(&format!("unknown variable {name}")), "{message}");
    }
}

#[test]
fn a_variable_of_kubelet_is_not_read_where_a_setting_is_looked_for() {
    let read = |value: &str| {
        let environment = Environment::with(&[("PROXIMA_PORT", value)]);
        let command = without_kubelet(crate::cli::Cli::command(), &environment);
        let serve = command.find_subcommand("serve").expect("there is such a command");
        let port = serve.get_arguments().find(|argument| argument.get_id() == "port");
        port.expect("there is such a flag").get_env().is_some()
    };
    assert!(!read("tcp://10.43.17.4:80"));
    assert!(read("8081") && read("8o80") && read("tcp://somewhere:80"));
}

#[test]
fn bounds_of_waits_are_settings_of_their_own() {
    let flags = [
        &MODEL[..],
        &["--max-queue-time", "7", "--write-timeout", "8", "--body-timeout", "9"],
        &["--max-answer-bytes", "1MiB", "--max-bodies-bytes", "2MiB"],
        &["--trusted-proxy", "10.0.0.0/8,192.0.2.7", "--trusted-proxy", "2001:db8::/32"],
    ];
    let settings = parsed(&flags.concat(), None).expect("settings");
    assert_eq!(settings.engine.queue_time_max, Duration::from_secs(7));
    assert_eq!(settings.http.write_timeout, Duration::from_secs(8));
    assert_eq!(settings.http.body_timeout, Duration::from_secs(9));
    assert_eq!(settings.http.answer_bytes_max, 1 << 20);
    assert_eq!(settings.http.bodies_bytes_max, 2 << 20);
    assert_eq!(settings.http.trusted_proxies.len(), 3);
    let flags = [&MODEL[..], &["--trusted-proxy", "proxy.local"]].concat();
    let wrong = refused(&flags, None);
    assert!(wrong.contains("trusted-proxy") && wrong.contains("10.0.0.0/8"), "{wrong}");
    let wrong = refused(&[&MODEL[..], &["--write-timeout", "0"]].concat(), None);
    assert!(wrong.contains("write-timeout"), "{wrong}");
}

#[test]
fn keys_are_read_as_files_and_lists_have_them() {
    let keys = |given: &str| parsed(&[&MODEL[..], &["--api-key", given]].concat(), None);
    let keys = |given: &str| keys(given).map(|settings| settings.http.api_keys);
    assert_eq!(keys("one\n").expect("a key"), ["one"]);
    assert_eq!(keys("one, two").expect("keys"), ["one", "two"]);
    for file in ["api-key = 'one,two'", "api-key = ['one', 'two']", "api-key = ['one,two']"] {
        let settings = parsed(&MODEL, Some(file)).expect("settings");
        assert_eq!(settings.http.api_keys, ["one", "two"], "{file}");
    }
    for wrong in [" ", "one,", "a key", "clé"] {
        let refused = refused(&[&MODEL[..], &["--api-key", wrong]].concat(), None);
        assert!(refused.contains("API key"), "{wrong:?}: {refused}");
    }
}

#[test]
fn numbers_of_threads_requests_and_seconds_have_a_maximum() {
    let largest = "9223372036854775807";
    for name in ["threads", "tokenization-threads", "max-concurrent-requests", "batch-time-ms"] {
        let flag = format!("--{name}");
        let wrong = refused(&[&MODEL[..], &[&flag, largest]].concat(), None);
        assert!(wrong.contains(name) && wrong.contains("at most"), "{wrong}");
    }
    for name in [
        "request-timeout",
        "body-timeout",
        "write-timeout",
        "health-timeout",
        "media-timeout",
        "max-queue-time",
        "drain-timeout",
        "shutdown-delay",
    ] {
        let wrong = refused(&MODEL, Some(&format!("{name} = {largest}\n")));
        assert!(wrong.contains(name) && wrong.contains("at most a year"), "{wrong}");
    }
}
