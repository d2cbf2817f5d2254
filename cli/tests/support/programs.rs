//! The programs of a fleet, as new as their sources.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::SystemTime;

const PROGRAMS: [&str; 2] = ["cuponera-api", "cuponera-worker"];

static FOLDER: OnceLock<PathBuf> = OnceLock::new();

/// A program beside `cuponera`. Tests of the whole workspace build it before they run; those of one package may not.
pub(crate) fn program(name: &str) -> PathBuf {
    FOLDER.get_or_init(folder_of_programs).join(name)
}

fn folder_of_programs() -> PathBuf {
    let cuponera = Path::new(env!("CARGO_BIN_EXE_cuponera"));
    let folder = cuponera.parent().expect("a program lies in a folder");
    if !PROGRAMS.iter().all(|name| is_new(&folder.join(name))) {
        build(folder);
    }
    folder.to_owned()
}

/// Whether it is there and no source that it was made of, as cargo noted them beside it, has changed since.
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
    let mut cargo = Command::new(env!("CARGO"));
    cargo.current_dir(env!("CARGO_MANIFEST_DIR")).args(["build", "--quiet", "--workspace"]);
    cargo.args(PROGRAMS.iter().flat_map(|name| ["--bin", name]));
    if folder.ends_with("release") {
        cargo.arg("--release");
    }
    assert!(
        cargo.status().expect("cargo cannot be run").success(),
        "the programs of a fleet cannot be built"
    );
}
