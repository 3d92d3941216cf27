//! Within each folder of a crate, the modules (with all that is below them) have an order in which
//! each uses only those before it: none imports another that imports it back, directly or through
//! others. A folder's own `mod.rs` is not compared with the modules below it; a name that it passes
//! on (`pub use`) counts as that of the module it comes from.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

const CRATES: [&str; 6] = [
    "kernels/src",
    "models/src",
    "models/media/src",
    "models/synth/src",
    "server/engine/src",
    "server/src",
];

/// A module, by its path in its crate.
type Module = Vec<String>;

/// Modules of a source folder with their text; tests and generated code are left out.
fn modules(folder: &Path, within: &Module, found: &mut BTreeMap<Module, String>) {
    for entry in fs::read_dir(folder).expect("a readable folder") {
        let path = entry.expect("a readable entry").path();
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        if name == "tests" || name == "generated" || name.ends_with("_tests") {
            continue;
        }
        let mut module = within.clone();
        if path.is_dir() {
            module.push(name);
            modules(&path, &module, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            if !["mod", "lib", "main"].contains(&name.as_str()) {
                module.push(name);
            }
            found.insert(module, fs::read_to_string(&path).expect("a readable file"));
        }
    }
}

/// A file's text without comments.
fn code(text: &str) -> String {
    let code = text.lines().map(|line| line.split("//").next().unwrap_or_default());
    code.collect::<Vec<_>>().join("\n")
}

/// The paths of a `use` tree, or of a path in code, that begin at the start of a text.
fn paths(text: &str) -> Vec<Vec<&str>> {
    let is_word = |letter: char| letter.is_alphanumeric() || letter == '_';
    let word = text.split(|letter| !is_word(letter)).next().unwrap_or_default();
    if word.is_empty() {
        return Vec::new();
    }
    let Some(rest) = text[word.len()..].strip_prefix("::") else { return vec![vec![word]] };
    let inner = match rest.strip_prefix('{') {
        None => paths(rest),
        Some(group) => members(group).into_iter().flat_map(|member| paths(member.trim())).collect(),
    };
    let longer = inner.into_iter().map(|path| [vec![word], path].concat());
    let longer: Vec<_> = longer.collect();
    if longer.is_empty() { vec![vec![word]] } else { longer }
}

/// The members of a group, up to its closing brace.
fn members(group: &str) -> Vec<&str> {
    let (mut members, mut start, mut depth) = (Vec::new(), 0, 0);
    for (at, letter) in group.char_indices() {
        match letter {
            '{' => depth += 1,
            '}' if depth > 0 => depth -= 1,
            '}' => {
                members.push(&group[start..at]);
                break;
            }
            ',' if depth == 0 => {
                members.push(&group[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    members
}

/// Names that modules pass on with `pub use`, by module and name, and the module they come from.
type Reexports = BTreeMap<(Module, String), Module>;

fn reexports(all: &BTreeMap<Module, String>) -> Reexports {
    let mut found = Reexports::new();
    for (module, text) in all {
        let code = code(text);
        for (at, _) in code.match_indices("pub use ") {
            for path in paths(&code[at + "pub use ".len()..]) {
                let path = path.strip_prefix(&["self"]).unwrap_or(&path);
                let (Some(name), Some(child)) = (path.last(), path.first()) else { continue };
                let mut from = module.clone();
                from.push((*child).to_owned());
                if all.contains_key(&from) {
                    found.insert((module.clone(), (*name).to_owned()), from);
                }
            }
        }
    }
    found
}

/// Modules that the code of a module names by `crate::` or `super::`.
fn named(
    module: &Module,
    text: &str,
    all: &BTreeMap<Module, String>,
    reexports: &Reexports,
) -> BTreeSet<Module> {
    let code = code(text);
    let mut named = BTreeSet::new();
    for start in ["crate::", "super::"] {
        for (at, _) in code.match_indices(start) {
            let before = code[..at].chars().next_back().unwrap_or(' ');
            if before.is_alphanumeric() || before == '_' || before == ':' || before == '$' {
                continue;
            }
            for path in paths(&code[at..]) {
                let mut base = if path[0] == "crate" { Vec::new() } else { module.clone() };
                let ups = path.iter().take_while(|word| **word == "super").count();
                base.truncate(base.len().saturating_sub(ups));
                base.extend(path[ups.max(1)..].iter().map(|word| (*word).to_owned()));
                let mut name = None;
                while !base.is_empty() && !all.contains_key(&base) {
                    name = base.pop();
                }
                let source = name.and_then(|name| reexports.get(&(base.clone(), name)));
                named.insert(source.cloned().unwrap_or(base));
            }
        }
    }
    named
}

/// A circle in a graph, as the names on it, if there is one.
fn circle(graph: &BTreeMap<String, BTreeSet<String>>) -> Option<Vec<String>> {
    fn visit(
        node: &str,
        graph: &BTreeMap<String, BTreeSet<String>>,
        way: &mut Vec<String>,
        done: &mut BTreeSet<String>,
    ) -> Option<Vec<String>> {
        if let Some(at) = way.iter().position(|other| other == node) {
            return Some(way[at..].to_vec());
        }
        if !done.insert(node.to_owned()) {
            return None;
        }
        way.push(node.to_owned());
        let next = graph.get(node).into_iter().flatten();
        let found = next.into_iter().find_map(|next| visit(next, graph, way, done));
        way.pop();
        found
    }
    let (mut way, mut done) = (Vec::new(), BTreeSet::new());
    graph.keys().find_map(|node| visit(node, graph, &mut way, &mut done))
}

/// Circles of a crate's modules, each with its folder.
fn circles(all: &BTreeMap<Module, String>) -> Vec<String> {
    let mut folders: BTreeMap<Module, BTreeMap<String, BTreeSet<String>>> = BTreeMap::new();
    let reexports = reexports(all);
    for (module, text) in all {
        for other in named(module, text, all, &reexports) {
            let common = module.iter().zip(&other).take_while(|(a, b)| a == b).count();
            let (Some(from), Some(to)) = (module.get(common), other.get(common)) else { continue };
            let folder = folders.entry(module[..common].to_vec()).or_default();
            folder.entry(from.clone()).or_default().insert(to.clone());
        }
    }
    let found = folders.iter().filter_map(|(folder, graph)| Some((folder, circle(graph)?)));
    found.map(|(folder, circle)| format!("in {folder:?}: {}", circle.join(" -> "))).collect()
}

#[test]
fn no_modules_import_each_other_in_a_circle() {
    let server = Path::new(env!("CARGO_MANIFEST_DIR"));
    let root = server.parent().expect("the server is in a workspace");
    for sources in CRATES {
        let mut all = BTreeMap::new();
        modules(&root.join(sources), &Module::new(), &mut all);
        assert!(all.len() > 3, "{sources}: {} modules", all.len());
        let circles = circles(&all);
        assert!(circles.is_empty(), "{sources}:\n{}", circles.join("\n"));
    }
}

#[test]
fn circles_are_found() {
    let all = |files: &[(&str, &str)]| -> BTreeMap<Module, String> {
        let module = |path: &str| -> Module {
            path.split('/').filter(|part| !part.is_empty()).map(str::to_owned).collect()
        };
        files.iter().map(|(path, text)| (module(path), (*text).to_owned())).collect()
    };
    let straight = [("", "mod a; mod b;"), ("a", "use crate::b::{self, B};"), ("b", "// crate::a")];
    assert!(circles(&all(&straight)).is_empty());
    let circle = [
        ("a", "use super::b::B;"),
        ("b", "fn f() { crate::c::deep::g() }"),
        ("c", ""),
        ("c/deep", "use crate::{\n    a::A,\n    c,\n};"),
    ];
    assert_eq!(circles(&all(&circle)), ["in []: a -> b -> c"]);
    let below = [("d/x", "use super::y::Y;"), ("d/y", "use super::x;"), ("d", "")];
    assert_eq!(circles(&all(&below)), ["in [\"d\"]: x -> y"]);
}
