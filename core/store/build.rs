//! Rebuilds when a migration is added: the library contains the migrations.

fn main() {
    println!("cargo:rerun-if-changed=../../migrations");
}
