//! Rules for files that no compiler checks. Link targets, files in backticks and invariants in documents exist. Each numbered
//! invariant is stated once and named by a test. No source file is too long. Packages use only what
//! the table of packages allows. No identifier is a private word.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Folders of the project. Text in backticks that begins with one of them is a path.
const FOLDERS: [&str; 14] = [
    "api/",
    "bench/",
    "cli/",
    "core/",
    "docs/",
    "examples/",
    "localstack/",
    "migrations/",
    "postgres/",
    "scripts/",
    "storm/",
    "testkit/",
    "tools/",
    "worker/",
];
/// Maximum number of lines of a source file.
const MAX_LINES: usize = 500;
/// Private words for which the field has standard terms. No identifier is called so.
const PRIVATE_WORDS: [&str; 32] = [
    "Allowance",
    "Bell",
    "Board",
    "Carrier",
    "Desk",
    "Ear",
    "FieldFault",
    "Hands",
    "LetteredRun",
    "Manners",
    "Mood",
    "Pulse",
    "Reach",
    "Refusal",
    "RowFault",
    "Sight",
    "Sleeper",
    "SqsFault",
    "Standing",
    "Trail",
    "Tried",
    "Visit",
    "Walked",
    "broken_promises",
    "plant_codes",
    "refusal",
    "relent",
    "settle_alone",
    "settle_each",
    "settle_imported",
    "sight",
    "trail",
];
/// Folders that are not part of the sources.
const GENERATED: [&str; 4] = ["target", ".git", ".postgres", ".cuponera"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace")
}

/// The files of the project with this extension, relative to its root.
fn files_with(extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    collect(root(), extension, &mut found);
    assert!(!found.is_empty(), "no files end in .{extension}");
    found
}

fn collect(folder: &Path, extension: &str, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("the folder can be read").flatten() {
        let path = entry.path();
        if path.is_dir() {
            if !GENERATED.iter().any(|name| path.ends_with(name)) {
                collect(&path, extension, found);
            }
        } else if path.extension().is_some_and(|end| end == extension) {
            found.push(path);
        }
    }
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).expect("the file can be read")
}

/// The link targets of a document, without anchors and without other sites.
fn links(text: &str) -> Vec<&str> {
    let targets = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    let targets = targets.map(|target| target.split('#').next().unwrap_or_default());
    targets.filter(|target| !target.is_empty() && !target.contains("://")).collect()
}

/// The project's paths in backticks. Patterns such as `core/*` are no paths.
fn paths(text: &str) -> Vec<&str> {
    let quoted = text.lines().flat_map(|line| line.split('`').skip(1).step_by(2));
    let paths = quoted.filter(|text| FOLDERS.iter().any(|folder| text.starts_with(folder)));
    paths.filter(|path| !path.contains(['…', '*', '<', '{', ' '])).collect()
}

/// The numbers of all invariants in a text.
fn invariants(text: &str) -> Vec<u32> {
    let numbers = text.split("I-").skip(1);
    let number =
        |rest: &str| rest.split(|c: char| !c.is_ascii_digit()).next().and_then(|digits| digits.parse().ok());
    numbers.filter_map(number).collect()
}

#[test]
fn documents_link_to_files_that_exist() {
    for document in files_with("md") {
        let folder = document.parent().expect("a folder");
        let text = read(&document);
        for link in links(&text) {
            assert!(
                folder.join(link).exists(),
                "{}: the target of the link {link} does not exist",
                document.display()
            );
        }
    }
}

#[test]
fn paths_in_documents_exist() {
    for document in files_with("md").iter().filter(|path| !path.ends_with("CHANGELOG.md")) {
        let text = read(document);
        for path in paths(&text) {
            assert!(root().join(path).exists(), "{}: {path} does not exist", document.display());
        }
    }
}

#[test]
fn each_invariant_is_stated_once_and_named_by_a_test() {
    let mut stated: BTreeMap<u32, usize> = BTreeMap::new();
    for document in files_with("md").iter().filter(|path| path.starts_with(root().join("docs/architecture")))
    {
        for statement in read(document).split("**I-").skip(1) {
            let digits = statement.split('.').next().unwrap_or_default();
            *stated.entry(digits.parse().expect("**I- is followed by a number and a period")).or_default() +=
                1;
        }
    }
    let numbers: Vec<u32> = stated.keys().copied().collect();
    let last = u32::try_from(numbers.len()).expect("few invariants");
    assert_eq!(numbers, (1..=last).collect::<Vec<_>>(), "invariants are numbered from 1 without a gap");
    assert!(stated.values().all(|times| *times == 1), "an invariant is stated more than once: {stated:?}");

    let mut named = Vec::new();
    for source in files_with("rs") {
        let text = read(&source);
        let is_test = source.iter().any(|folder| folder == "tests")
            || text.contains("#[cfg(test)]")
            || source.ends_with("tests.rs");
        let text: Vec<&str> = text.lines().filter(|line| line.contains("Invariant I-")).collect();
        for number in invariants(&text.join("\n")) {
            assert!(stated.contains_key(&number), "{}: I-{number} is not stated", source.display());
            if is_test {
                named.push(number);
            }
        }
    }
    let unnamed: Vec<&u32> = numbers.iter().filter(|number| !named.contains(number)).collect();
    assert!(unnamed.is_empty(), "no test names these invariants: {unnamed:?}");
}

#[test]
fn no_source_file_is_too_long() {
    for source in ["rs", "sql", "lua"].into_iter().flat_map(files_with) {
        let lines = read(&source).lines().count();
        assert!(lines <= MAX_LINES, "{}: {lines} lines, more than {MAX_LINES}: split it", source.display());
    }
}

/// The packages of the workspace: their folders.
fn packages() -> Vec<String> {
    let manifest = read(&root().join("Cargo.toml"));
    let members = manifest.split("members = [").nth(1).and_then(|rest| rest.split(']').next());
    members.expect("a list of members").split('"').skip(1).step_by(2).map(str::to_owned).collect()
}

/// The names in a section of a manifest.
fn section(manifest: &str, title: &str) -> Vec<String> {
    let lines = manifest.lines().skip_while(|line| *line != title).skip(1);
    let lines = lines.take_while(|line| !line.starts_with('['));
    let name = |line: &str| line.split(['.', ' ', '=']).next().unwrap_or_default().to_owned();
    lines.map(name).filter(|name| !name.is_empty()).collect()
}

/// The table of packages in ARCHITECTURE.md: what each folder may use.
fn allowed() -> BTreeMap<String, Vec<String>> {
    let text = read(&root().join("ARCHITECTURE.md"));
    let rows = text.lines().skip_while(|line| !line.starts_with("| folder | content | may use |"));
    let rows = rows.skip(2).take_while(|line| line.starts_with('|'));
    let cells = |row: &str| row.split('|').map(|cell| cell.trim().to_owned()).collect::<Vec<_>>();
    let row = |row: &str| {
        let cells = cells(row);
        let folder = cells[1].trim_matches('`').trim_end_matches('/').to_owned();
        let uses = cells[3].split(", ").filter(|name| !name.is_empty() && *name != "no other package");
        (folder, uses.map(str::to_owned).collect())
    };
    rows.map(row).collect()
}

#[test]
fn each_package_uses_what_the_table_of_packages_allows() {
    let allowed = allowed();
    for package in packages() {
        let manifest = read(&root().join(&package).join("Cargo.toml"));
        let used = section(&manifest, "[dependencies]");
        let mut used: Vec<_> = used.iter().filter_map(|name| name.strip_prefix("cuponera-")).collect();
        let mut row: Vec<_> = allowed.get(&package).expect("a row of the table").iter().collect();
        used.sort_unstable();
        row.sort_unstable();
        assert_eq!(used, row, "{package}: its Cargo.toml and the table in ARCHITECTURE.md");
    }
}

#[test]
fn the_domain_has_no_io_and_only_the_store_has_sql() {
    let dependencies =
        |package: &str| section(&read(&root().join(package).join("Cargo.toml")), "[dependencies]");
    for forbidden in ["clap", "redis", "reqwest", "sqlx", "tokio", "tracing"] {
        assert!(!dependencies("core/domain").contains(&forbidden.to_owned()), "core/domain uses {forbidden}");
    }
    for package in ["core/platform", "api", "worker", "cli"] {
        assert!(!dependencies(package).contains(&"sqlx".to_owned()), "{package} uses sqlx");
    }
}

/// The identifiers of a source file: without its comments and literals.
fn identifiers(text: &str) -> impl Iterator<Item = &str> {
    text.lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .flat_map(|line| line.split('"').step_by(2))
        .flat_map(|code| code.split(|c: char| !c.is_alphanumeric() && c != '_'))
}

#[test]
fn no_identifier_is_a_private_word() {
    for source in files_with("rs").iter().filter(|path| !path.ends_with("tools/tests/tidy.rs")) {
        let text = read(source);
        let private = identifiers(&text).find(|name| PRIVATE_WORDS.contains(name));
        assert!(private.is_none(), "{}: use the field's term for {private:?}", source.display());
    }
}

#[test]
fn links_paths_and_invariants_are_found_in_a_text() {
    let text = "see [a](b.md#c), [web](https://example.com) and `core/store/src/x.rs`, `core/…/y.rs` and `make`; I-7, I-12.";
    assert_eq!(links(text), ["b.md"]);
    assert_eq!(paths(text), ["core/store/src/x.rs"]);
    assert_eq!(invariants(text), [7, 12]);
}
