//! Builds the programs if they are older than their sources.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::SystemTime;

const PROGRAMS: [&str; 3] = ["cuponera", "cuponera-api", "cuponera-worker"];

static FOLDER: OnceLock<PathBuf> = OnceLock::new();

/// The folder of the programs, which is the folder of `program` in the same build. Tests of the whole
/// workspace build the programs first; tests of one package may not.
pub fn programs_beside(program: &str) -> &'static Path {
    FOLDER.get_or_init(|| {
        let folder = Path::new(program).parent().expect("a program lies in a folder");
        if !PROGRAMS.iter().all(|name| is_new(&folder.join(name))) {
            build(folder);
        }
        folder.to_owned()
    })
}

/// Whether the program exists and is newer than all its sources, which cargo lists in a `.d` file.
fn is_new(program: &Path) -> bool {
    let changed = |path: &Path| path.metadata().and_then(|found| found.modified()).ok();
    let noted = std::fs::read_to_string(program.with_extension("d")).unwrap_or_default();
    let Some((_, sources)) = noted.split_once(": ") else { return false };
    let Some(built) = changed(program) else { return false };
    sources
        .split_whitespace()
        .all(|source| changed(Path::new(source)).is_some_and(|at: SystemTime| at <= built))
}

fn build(folder: &Path) {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(env!("CARGO_MANIFEST_DIR")).args(["build", "--quiet", "--workspace"]);
    cargo.args(PROGRAMS.iter().flat_map(|name| ["--bin", name]));
    if folder.ends_with("release") {
        cargo.arg("--release");
    }
    assert!(cargo.status().expect("cargo cannot be run").success(), "the programs cannot be built");
}
