//! Flags and variables of other servers.

use std::ffi::OsString;

use super::*;
use crate::config::migrate::{Here, meaning};
use crate::logging::LogFormat;

/// Flags that text-embeddings-router 1.9 lists with `--help`, and its hidden ones.
const TEI: &str = "model-id revision tokenization-workers dtype served-model-name pooling \
    max-concurrent-requests max-batch-tokens max-batch-requests max-client-batch-size \
    auto-truncate default-prompt-name default-prompt dense-path hf-api-token hf-token hostname \
    port uds-path \
    huggingface-hub-cache payload-limit api-key json-output disable-spans otlp-endpoint \
    otlp-service-name prometheus-port cors-allow-origin";
/// Flags that `infinity_emb v2 --help` lists.
const INFINITY: &str = "model-id served-model-name batch-size revision trust-remote-code engine \
    model-warmup vector-disk-cache device device-id lengths-via-tokenize dtype embedding-dtype \
    pooling-method compile bettertransformer preload-only host port url-prefix redirect-slash \
    log-level permissive-cors api-key proxy-root-path onnx-disable-optimize \
    onnx-do-not-prefer-quantized";
/// Flags of `vllm serve` in its documentation of pooling models and of serving.
const VLLM: &str = "model runner convert task pooler-config dtype max-model-len revision tokenizer \
    trust-remote-code hf-overrides chat-template quantization load-format download-dir \
    enforce-eager seed gpu-memory-utilization tensor-parallel-size data-parallel-size \
    max-num-batched-tokens max-num-seqs enable-prefix-caching no-enable-prefix-caching \
    enable-chunked-prefill enable-lora limit-mm-per-prompt mm-processor-kwargs served-model-name \
    allowed-media-domains host port api-key allowed-origins ssl-keyfile ssl-certfile root-path \
    uvicorn-log-level enable-log-requests disable-log-stats otlp-traces-endpoint uds config";

fn line(arguments: &[&str]) -> Result<Vec<String>, String> {
    let all = [&["proxima", "serve"], arguments].concat();
    let rewritten = rewritten(all.iter().map(Into::into)).map_err(|error| {
        assert_eq!(error.code, crate::command::EXIT_USAGE);
        error.message
    })?;
    let text = rewritten.into_iter().skip(2).map(|argument| argument.into_string());
    Ok(text.collect::<Result<_, _>>().expect("text"))
}

#[test]
fn every_flag_of_the_other_servers_is_ours_or_explained() {
    let flags = known::flags();
    let is_ours = |name: &str| flags.iter().any(|flag| known::name(flag) == name);
    for name in [TEI, INFINITY, VLLM].iter().flat_map(|names| names.split_whitespace()) {
        match meaning(name).unwrap_or_else(|| panic!("nothing is known of --{name}")) {
            Here::Same => assert!(is_ours(name) || name == "config", "--{name} is not ours"),
            Here::Alias(flag) => assert!(is_ours(flag) && !is_ours(name), "--{name}"),
            Here::Value(flag, value) => {
                assert!(!is_ours(name), "--{name}");
                parsed(&[&MODEL[..], &[&format!("--{flag}"), value]].concat(), None).expect(name);
            }
            Here::Instead(sentence) => {
                assert!(!is_ours(name), "--{name} is refused and ours");
                let problem = line(&[&format!("--{name}"), "x"]).expect_err("refused");
                assert!(problem.contains(sentence), "{problem}");
                let known = |word: &&str| {
                    let flag = word.trim_matches(['(', ')', ',', ';', ':']).strip_prefix("--");
                    flag.is_some_and(|flag| !is_ours(flag))
                };
                assert_eq!(sentence.split(' ').find(known), None, "no such flag of ours");
            }
        }
    }
}

#[test]
fn a_flag_means_the_same_wherever_it_comes_from() {
    let mut all: Vec<(String, Here)> = migrate::flags().collect();
    all.sort_by(|left, right| left.0.cmp(&right.0));
    for pair in all.windows(2).filter(|pair| pair[0].0 == pair[1].0) {
        assert_eq!(pair[0].1, pair[1].1, "{}", pair[0].0);
    }
}

#[test]
fn command_lines_of_other_servers_are_served() {
    let tei = line(&[
        "--model-id=owner/name",
        "-p",
        "81",
        "--hostname",
        "0.0.0.0",
        "--max-client-batch-size",
        "7",
        "--payload-limit",
        "2000000",
        "--json-output",
        "--pooling",
        "last-token",
    ]);
    let tei = tei.expect("taken");
    let tei = parsed(&tei.iter().map(String::as_str).collect::<Vec<_>>(), None).expect("settings");
    assert_eq!((&*tei.host, tei.port, tei.engine.inputs_max), ("0.0.0.0", 81, 7));
    assert_eq!((tei.http.body_bytes_max, tei.log.format), (2_000_000, LogFormat::Json));
    assert!(tei.load.pooling.is_some() && tei.models[0].name == "owner/name");
    let vllm =
        ["--model", "x/y", "--max_model_len", "9", "--dtype=half", "--no_enable_prefix_caching"];
    let vllm = line(&vllm).expect("taken");
    let vllm = parsed(&vllm.iter().map(String::as_str).collect::<Vec<_>>(), None);
    let vllm = vllm.expect("settings");
    assert_eq!((vllm.load.tokens_max, vllm.engine.prefix_bytes_max), (Some(9), 0));
    let infinity = ["--model-id", "x/y", "--permissive-cors", "--log-level", "warning"];
    let infinity = line(&infinity).expect("taken");
    let infinity = parsed(&infinity.iter().map(String::as_str).collect::<Vec<_>>(), None);
    let infinity = infinity.expect("settings");
    assert_eq!((infinity.http.browsers.origins, &*infinity.log.level), (Origins::All, "warn"));
}

#[test]
fn nothing_but_flags_of_serve_is_rewritten() {
    let kept = ["--model", "served-model-name=x/y", "--", "--model-id", "-p"];
    assert_eq!(line(&kept).expect("taken"), kept);
    let other = ["proxima", "embed", "--model-id", "x"].map(OsString::from);
    assert_eq!(rewritten(other.clone()).expect("taken"), other);
    assert_eq!(rewritten([]).expect("taken"), Vec::<OsString>::new());
    let refused = line(&["--json-output=false"]).expect_err("refused");
    assert!(refused.contains("--log-format json"), "{refused}");
    let part = line(&["--pooler_config.pooling_type", "MEAN"]).expect_err("refused");
    assert!(part.contains("--pooler_config.pooling_type") && part.contains("--pooling"), "{part}");
}

#[test]
fn variables_of_a_migration_are_named_and_not_read() {
    let of = |variables: &[(&str, &str)]| other_servers(&Environment::with(variables));
    assert_eq!(
        of(&[("API_KEY", "s"), ("PORT", "80"), ("HOSTNAME", "pod"), ("HF_TOKEN", "t")]),
        None
    );
    let tei = [("MODEL_ID", "x/y"), ("API_KEY", "s3cret"), ("HOSTNAME", "pod"), ("HF_TOKEN", "t")];
    let notice = of(&tei).expect("a line");
    assert!(notice.contains("MODEL_ID (set PROXIMA_MODEL)"), "{notice}");
    assert!(notice.contains("API_KEY (set PROXIMA_API_KEY)"), "{notice}");
    for hidden in ["s3cret", "HOSTNAME", "HF_TOKEN", "\n"] {
        assert!(!notice.contains(hidden), "{notice}");
    }
    let others =
        [("INFINITY_MODEL_ID", "a;b"), ("INFINITY_ENGINE", "torch"), ("VLLM_API_KEY", "k")];
    let notice = of(&others).expect("a line");
    for says in ["PROXIMA_MODEL)", "INFINITY_ENGINE (leave it out", "(set PROXIMA_API_KEY)"] {
        assert!(notice.contains(says), "{notice}");
    }
    assert_eq!(of(&[("VLLM_API_KEY", "k"), ("PROXIMA_API_KEY", "k")]), None, "it is set here");
    assert_eq!(of(&[("INFINITY_PERMISSIVE_CORS", "false")]), None);
    let read = settings(ServeArgs::default(), &Environment::with(&tei)).expect_err("no model");
    assert!(read.message.contains("no model") && read.message.contains("MODEL_ID (set"));
    let arguments = ServeArgs { model: Some(vec!["x/y".into()]), ..ServeArgs::default() };
    let read = settings(arguments, &Environment::with(&[&tei[..], &others].concat()));
    assert!(read.expect("settings").http.api_keys.is_empty());
}

#[test]
fn the_page_for_those_who_migrate_is_written_from_the_table() {
    let committed = committed("migrate.md");
    assert!(committed == migrate_page(), "docs/migrate.md is out of date: run `make docs`");
}
