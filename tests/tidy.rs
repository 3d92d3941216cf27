//! The rules of ARCHITECTURE.md as tests: sizes, documentation, and where `unsafe` code may be.

use std::fs;
use std::path::{Path, PathBuf};

/// A source file of the repository, with its path from the root.
struct SourceFile {
    path: String,
    text: String,
}

fn root() -> PathBuf {
    let server = Path::new(env!("CARGO_MANIFEST_DIR"));
    server.parent().expect("the server is in a workspace").to_owned()
}

fn collect(folder: &Path, extension: &str, found: &mut Vec<SourceFile>) {
    for entry in fs::read_dir(folder).expect("a readable folder") {
        let path = entry.expect("a readable entry").path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() {
            // Generated code has its own rules.
            if name != "target" && name != "generated" && !name.starts_with('.') {
                collect(&path, extension, found);
            }
        } else if path.extension().is_some_and(|found| found == extension) {
            let inner = path.strip_prefix(root()).expect("within the root");
            let path_text = inner.to_string_lossy().replace('\\', "/");
            let text = fs::read_to_string(&path).expect("a readable file");
            found.push(SourceFile { path: path_text, text });
        }
    }
}

fn sources(extension: &str) -> Vec<SourceFile> {
    let mut found = Vec::new();
    collect(&root(), extension, &mut found);
    found
}

fn is_product(path: &str) -> bool {
    path.contains("/src/") && !path.ends_with("tests.rs")
}

/// Lines of a file without comments and, roughly, without the contents of strings.
fn code_lines(text: &str) -> Vec<String> {
    let strip = |line: &str| {
        let (mut code, mut in_string, mut before) = (String::new(), false, ' ');
        let characters: Vec<char> = line.chars().collect();
        for (index, letter) in characters.iter().enumerate() {
            if !in_string && *letter == '/' && characters.get(index + 1) == Some(&'/') {
                break;
            }
            // A quote in a character literal does not start a string.
            let literal = before == '\'' && characters.get(index + 1) == Some(&'\'');
            if *letter == '"' && before != '\\' && !literal {
                in_string = !in_string;
            } else if !in_string {
                code.push(*letter);
            }
            before = if before == '\\' && *letter == '\\' { ' ' } else { *letter };
        }
        code
    };
    text.lines().map(strip).collect()
}

/// Fails if a rule found violations, each as `path:line: what`.
fn check(rule: &str, wrong: Vec<String>) {
    assert!(wrong.is_empty(), "{rule}:\n{}", wrong.join("\n"));
}

/// Uses of these words in product code, outside files that are allowed to use them.
fn occurrences(words: &[&str], allowed: fn(&str) -> bool) -> Vec<String> {
    let mut wrong = Vec::new();
    let files = sources("rs");
    for source in files.iter().filter(|file| is_product(&file.path) && !allowed(&file.path)) {
        for (index, line) in code_lines(&source.text).iter().enumerate() {
            for word in words.iter().filter(|word| line.contains(**word)) {
                wrong.push(format!("{}:{}: {word}", source.path, index + 1));
            }
        }
    }
    wrong
}

/// All functions, as `(line, name, lines, parameters)`.
fn functions(text: &str) -> Vec<(usize, String, usize, usize)> {
    let lines = code_lines(text);
    let mut found = Vec::new();
    for (index, line) in lines.iter().enumerate() {
        let Some(at) = line.find("fn ") else { continue };
        let starts = at == 0 || line[..at].ends_with([' ', '(']);
        let name: String =
            line[at + 3..].chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        if !starts || name.is_empty() {
            continue;
        }
        let indent = line.len() - line.trim_start().len();
        let closes = |line: &String| {
            line.trim_start().starts_with('}') && line.len() - line.trim_start().len() == indent
        };
        // A function of a trait may have no body: its line ends in a semicolon.
        let end = match line.ends_with(';') {
            true => 0,
            false => lines[index..].iter().position(closes).unwrap_or(0),
        };
        found.push((index + 1, name, end + 1, parameters(&lines[index..], at)));
    }
    found
}

/// Number of parameters of the function whose `fn` is at byte `at` of the first line, without
/// `self`.
fn parameters(lines: &[String], at: usize) -> usize {
    let text = lines.iter().take(24).cloned().collect::<Vec<_>>().join("\n");
    let (mut depth, mut angle, mut parts) = (0, 0, vec![String::new()]);
    let mut before = ' ';
    for letter in text[at..].chars() {
        match letter {
            '(' | '[' | '{' if angle == 0 => depth += 1,
            ')' | ']' | '}' if angle == 0 => depth -= 1,
            '<' => angle += 1,
            '>' if before != '-' && before != '=' => angle -= 1,
            ',' if depth == 1 && angle == 0 => parts.push(String::new()),
            _ => {}
        }
        before = letter;
        if depth >= 1 && angle == 0 {
            parts.last_mut().expect("there is one").push(letter);
        }
        if depth == 0 && angle == 0 && letter == ')' {
            break;
        }
    }
    let real = parts.iter().map(|part| part.trim_start_matches(['(', ',', '\n', ' ']).trim());
    real.filter(|part| !part.is_empty() && !part.contains("self") || part.contains(": self::"))
        .count()
}

#[test]
fn the_scanners_see_what_they_look_for() {
    let text =
        "fn f<T: Fn(u8, u8)>(&self, a: u8, b: Vec<(u8, u8)>) {\n    let s = \"unsafe // {\";\n}\n";
    let found = functions(text);
    assert_eq!(found.len(), 1);
    assert!(sources("rs").len() > 40 && sources("py").len() > 3);
    assert_eq!((found[0].1.as_str(), found[0].2, found[0].3), ("f", 3, 2));
    assert!(!code_lines(text)[1].contains("unsafe"));
    assert_eq!(code_lines("a // unsafe")[0], "a ");
    assert!(code_lines("let c = '\"'; unsafe {}")[0].contains("unsafe"));
}

#[test]
fn every_file_says_what_it_is() {
    let files = sources("rs").into_iter().filter(|file| !file.text.starts_with("//!"));
    let tests = files.filter(|file| !file.path.ends_with("/tests.rs"));
    check("a file does not begin with //!", tests.map(|file| file.path).collect());
}

#[test]
fn files_functions_and_parameters_stay_small() {
    let mut wrong = Vec::new();
    for source in sources("rs") {
        let lines = source.text.lines().count();
        if lines >= 500 {
            wrong.push(format!("{}: {lines} lines", source.path));
        }
        for (line, name, length, parameters) in functions(&source.text) {
            if length >= 70 {
                wrong.push(format!("{}:{line}: fn {name} has {length} lines", source.path));
            }
            if parameters > 6 {
                wrong
                    .push(format!("{}:{line}: fn {name} has {parameters} parameters", source.path));
            }
        }
    }
    check("too large", wrong);
}

#[test]
fn lines_fit_a_hundred_columns() {
    let mut wrong = Vec::new();
    for source in sources("rs") {
        for (index, line) in source.text.lines().enumerate() {
            // Strings need not be broken for this.
            if line.chars().count() > 100 && !line.contains('"') {
                wrong.push(format!("{}:{}", source.path, index + 1));
            }
        }
    }
    check("a line is too long", wrong);
}

#[test]
fn unsafe_code_is_in_the_kernels_and_says_why_it_is_sound() {
    let mut wrong = occurrences(&["unsafe "], |path| path.starts_with("kernels/"));
    wrong.extend(occurrences(&["memmap2"], |path| path == "kernels/src/stored.rs"));
    for root in ["models", "models/media", "models/synth", "server/engine", "server"] {
        let path = format!("{root}/src/lib.rs");
        let text = fs::read_to_string(self::root().join(&path)).expect("a crate");
        if !text.contains("#![forbid(unsafe_code)]") {
            wrong.push(format!("{path}: unsafe code is not forbidden"));
        }
    }
    for source in sources("rs").iter().filter(|file| file.path.starts_with("kernels/src/")) {
        let lines: Vec<&str> = source.text.lines().collect();
        for (index, line) in code_lines(&source.text).iter().enumerate() {
            let block = line.contains("unsafe {") || line.contains("unsafe impl");
            let above = &lines[index.saturating_sub(6)..index];
            if block && !above.iter().any(|line| line.contains("SAFETY:")) {
                wrong.push(format!("{}:{}: no SAFETY comment", source.path, index + 1));
            }
        }
    }
    check("unsafe", wrong);
}

#[test]
fn features_and_the_environment_have_their_place() {
    // The executable tells which features it was built with.
    let features = occurrences(&["feature ="], |path| {
        path.starts_with("kernels/") || path == "server/src/about.rs"
    });
    check("a feature outside kernels", features);
    let environment = occurrences(&["env::var"], |path| {
        path.starts_with("server/src/config/") || path == "kernels/src/knobs.rs"
    });
    check("the environment is read outside config and knobs", environment);
}

#[test]
fn each_crate_leaves_files_clocks_and_networks_to_others() {
    let clocks = ["Instant", "SystemTime", "std::net", "std::{"];
    check(
        "a clock or a socket in models",
        occurrences(&clocks, |path| !path.starts_with("models/")),
    );
    let files = [
        "std::fs",
        "std::net",
        "std::process",
        "std::{",
        "tokio::fs",
        "tokio::net",
        "tokio::process",
    ];
    check(
        "a file or a socket in the engine",
        occurrences(&files, |path| !path.contains("/engine/")),
    );
}

#[test]
fn the_log_alone_writes_to_standard_error_while_serving() {
    let wrong = occurrences(&["eprint", "io::stderr()"], |path| {
        !path.starts_with("server/src/") || path == "server/src/logging.rs"
    });
    check("standard error is for logging.rs", wrong);
}

#[test]
fn the_cpus_kernels_are_called_through_operations() {
    let mut wrong = Vec::new();
    for source in sources("rs") {
        // Benchmarks measure kernels alone; this file names the word.
        let allowed = ["kernels/", "benches/", "tests/tidy.rs"];
        if allowed.iter().any(|path| source.path.starts_with(path)) {
            continue;
        }
        for (index, line) in code_lines(&source.text).iter().enumerate() {
            if line.contains("kernels::cpu") {
                wrong.push(format!("{}:{}", source.path, index + 1));
            }
        }
    }
    check("a kernel of the CPU outside kernels", wrong);
}

#[test]
fn families_have_no_branch_on_the_device() {
    let words = ["is_cuda", "is_metal", "is_cpu", "Device::"];
    let elsewhere = |path: &str| {
        !path.starts_with("models/src/families/") && !path.starts_with("models/src/layers/")
    };
    check("a branch on the device", occurrences(&words, elsewhere));
}

/// The page names, in brackets at the end of each rule, the tests that hold it, or the compiler.
#[test]
fn every_rule_of_the_architecture_names_tests_that_exist() {
    let page = fs::read_to_string(root().join("ARCHITECTURE.md")).expect("the page");
    // Tests from their attribute to their body.
    let files = sources("rs");
    let after = |attribute| files.iter().flat_map(move |file| file.text.split(attribute).skip(1));
    let tests = after("#[test]\n").chain(after("#[tokio::test"));
    let tests: Vec<&str> = tests.filter_map(|test| test.split(" {\n").next()).collect();
    let (mut wrong, mut rules) = (Vec::new(), 0);
    for section in page.split("\nInvariants:\n").skip(1) {
        let list = section.split("\n## ").next().expect("a part");
        let list = list.split("\nIntended, ").next().expect("a part");
        for rule in list.split("\n- ").skip(1) {
            rules += 1;
            let rule = rule.trim();
            let holders = rule.strip_suffix(']').and_then(|rule| rule.rsplit_once('['));
            let Some((_, holders)) = holders else {
                wrong.push(format!("no test: {rule}"));
                continue;
            };
            let mut holders = holders.split(',').map(|name| name.trim().trim_matches('`'));
            let missing = holders.find(|name| {
                let function = format!("fn {name}()");
                *name != "the compiler" && !tests.iter().any(|test| test.contains(&function))
            });
            wrong.extend(missing.map(|name| format!("no test `{name}`: {rule}")));
        }
    }
    assert!(rules > 30, "only {rules} rules were found");
    check("a rule that nothing holds", wrong);
}

#[test]
fn bodies_of_requests_are_objects_and_no_arrays() {
    // serde also reads a struct from an array, unless it has a `Deserialize` of its own.
    let mut wrong = Vec::new();
    for source in sources("rs").iter().filter(|file| file.path.contains("server/src/dialects/")) {
        let lines: Vec<&str> = source.text.lines().map(str::trim).collect();
        for (index, line) in lines.iter().enumerate() {
            let derives = line.starts_with("#[derive(") && line.contains("Deserialize");
            let rest = &lines[index..];
            let item = rest.iter().position(|line| !line.starts_with("#["));
            let Some(item) = item.filter(|_| derives) else { continue };
            let name = rest[item].trim_start_matches("pub ");
            let object = name.starts_with("struct ") && name.ends_with('{');
            let own = rest[..item].iter().any(|line| line.contains("remote = \"Self\""));
            if object && !own {
                wrong.push(format!("{}:{}: {name}", source.path, index + item + 1));
            }
        }
    }
    check("a struct that an array is taken for; list it in objects!", wrong);
}

#[test]
fn nothing_is_left_half_done() {
    let words = ["todo!", "unimplemented!", "dbg!", "#[ignore", "thread::sleep", "static mut"];
    check("unfinished or forbidden", occurrences(&words, |_| false));
    check("a device twin", occurrences(&["flash_", "padded_twin"], |_| false));
}

#[test]
fn files_know_no_machine() {
    let mut wrong = Vec::new();
    for extension in ["rs", "py", "md", "toml", "json", "yaml", "sh"] {
        for source in sources(extension).iter().filter(|file| file.path != "tests/tidy.rs") {
            for (index, line) in source.text.lines().enumerate() {
                if ["/work/", "/root/", "/home/"].iter().any(|path| line.contains(path)) {
                    wrong.push(format!("{}:{}", source.path, index + 1));
                }
            }
        }
    }
    check("a path of one machine", wrong);
}

#[test]
fn code_that_scripts_and_pages_name_is_there() {
    let mut wrong = Vec::new();
    for extension in ["py", "md", "toml", "yaml", "sh"] {
        for source in sources(extension) {
            let ends = |c: char| !(c.is_alphanumeric() || "/_.-*{},".contains(c));
            let paths = source.text.split(ends).map(|word| word.trim_end_matches(['.', ',']));
            let crates = ["kernels/", "models/", "server/", "tests/"];
            let paths = paths.filter(|path| {
                let ours = crates.iter().any(|name| path.starts_with(name));
                ours && path.ends_with(".rs") && !path.contains(['*', '{'])
            });
            let missing = paths.filter(|path| !root().join(path).is_file());
            wrong.extend(missing.map(|path| format!("{}: {path}", source.path)));
        }
    }
    check("a file that is not there", wrong);
}

#[test]
fn lists_name_every_family_recipe_and_dialect() {
    let mut wrong = Vec::new();
    for (folder, list) in [
        ("models/src/families", "mod.rs"),
        ("models/src/recipes", "mod.rs"),
        ("server/src/dialects", "list.rs"),
    ] {
        let list = fs::read_to_string(root().join(folder).join(list)).expect("a list");
        let all = list.split("fn all()").nth(1).expect("a function all()");
        for entry in fs::read_dir(root().join(folder)).expect("a folder") {
            let name = entry.expect("an entry").file_name().to_string_lossy().into_owned();
            let name = name.trim_end_matches(".rs");
            let shared = [
                "mod",
                "chat",
                "chat_template",
                "fitted_list",
                "jinja",
                "classes",
                "dialect",
                "forms",
                "grpc",
                "heads",
                "inputs",
                "items",
                "known_prompts",
                "list",
                "misspelt",
                "object",
                "prompts",
                "ranking",
                "schema",
                "shared",
                "status",
                "tests",
                "token_ids",
                "tokenizer",
                "vectors",
            ]
            .contains(&name);
            if !shared && !all.contains(&format!("{name}::")) {
                wrong.push(format!("{folder}/{name}"));
            }
        }
    }
    check("not in its list", wrong);
}
