//! Settings files: accepted notations, and the committed example.

use super::*;
use crate::config::example::EXAMPLE;

const EXAMPLE_FILE: &str = "proxima.example.toml";

/// The lines of the example that set something, without comment signs.
fn settings_of(example: &str) -> Vec<&str> {
    let lines = example.lines().map(|line| line.strip_prefix('#').unwrap_or(line));
    lines.filter(|line| line.starts_with(|letter: char| letter.is_ascii_lowercase())).collect()
}

#[test]
fn the_example_is_written_from_the_flags() {
    let committed = committed(EXAMPLE_FILE);
    assert!(committed == example(), "docs/proxima.example.toml is out of date: run `make docs`");
}

#[test]
fn the_example_has_every_setting_and_loads() {
    let committed = committed(EXAMPLE_FILE);
    let settings = parsed(&[], Some(&committed)).expect("settings");
    assert_eq!(settings.models.len(), 1);
    let keys: Vec<&str> = settings_of(&committed)
        .iter()
        .map(|line| line.split_once(" = ").expect("a key and a value").0)
        .collect();
    let flags = known::flags();
    let mut missing = flags.iter().map(known::name).filter(|name| !keys.contains(name));
    assert_eq!((missing.next(), keys.len()), (None, flags.len()));
    let all = file::parse(&settings_of(&committed).join("\n")).expect("every line is a setting");
    assert!(all.model.is_some() && all.health_timeout.is_some());
}

#[test]
fn defaults_that_the_help_names_are_what_is_taken_without_them() {
    let committed = committed(EXAMPLE_FILE);
    let all = settings_of(&committed);
    let named: Vec<&str> = all.into_iter().filter(|line| !line.ends_with(EXAMPLE)).collect();
    assert!(named.len() > 20, "{named:?}");
    let with = parsed(&[], Some(&named.join("\n"))).expect("settings");
    let without = parsed(&[], Some(&committed)).expect("settings");
    assert_eq!(format!("{with:?}"), format!("{without:?}"));
}

#[test]
fn keys_have_dashes_or_underscores_and_a_list_of_one_no_brackets() {
    let file =
        "model = \"owner/name\"\nmax_inputs = 5\ngrpc-port = 0\ntrusted_proxy = '10.0.0.1'\n";
    let settings = parsed(&[], Some(file)).expect("settings");
    assert_eq!((settings.engine.inputs_max, settings.grpc_port), (5, Some(0)));
    assert_eq!((&*settings.models[0].name, settings.http.trusted_proxies.len()), ("owner/name", 1));
    let twice = refused(&MODEL, Some("max_inputs = 5\nport = 1\nmax-inputs = 6\n"));
    assert!(twice.contains("lines 1 and 3") && twice.contains("`max-inputs`"), "{twice}");
    for (wrong, says) in [
        ("port = [8080]\n", "line 1, column 8"),
        ("\nmodel = 5\n", "line 2, column 9"),
        ("model = [5]\n", "line 1, column 10"),
        ("port = 1\nport = 2\n", "duplicate key"),
    ] {
        let problem = refused(&[], Some(wrong));
        assert!(problem.contains(says) && problem.contains("proxima.toml"), "{problem}");
    }
}

#[test]
fn of_an_unknown_name_the_right_one_is_told_by_meaning_before_spelling() {
    for (key, says) in [
        ("max-client-batch-size", "did you mean `max-inputs`?"),
        ("max_model_len", "did you mean `max-length`?"),
        ("json-output", "did you mean `log-format` with the value json?"),
        ("hf-token", "HF_TOKEN"),
        ("max-inptus", "did you mean `max-inputs`?"),
        ("max-client-batch-sizes", "did you mean `max-inputs`?"),
        ("Port", "did you mean `port`?"),
    ] {
        let problem = refused(&MODEL, Some(&format!("port = 1\n{key} = 1\n")));
        let unknown = format!("line 2: unknown key `{key}`: ");
        assert!(problem.contains(&unknown) && problem.contains(says), "{problem}");
    }
    let section = refused(&MODEL, Some("[xyz]\nport = 1\n"));
    assert!(section.ends_with("unknown key `xyz`"), "{section}");
    for (name, says) in [
        ("PROXIMA_MAX_CLIENT_BATCH_SIZE", "did you mean PROXIMA_MAX_INPUTS?"),
        ("PROXIMA_MAX_INPTUS", "did you mean PROXIMA_MAX_INPUTS?"),
    ] {
        let environment = Environment::with(&[(name, "1")]);
        let problem = settings(ServeArgs::default(), &environment).expect_err("refused").message;
        assert!(problem.contains(says), "{problem}");
    }
}
