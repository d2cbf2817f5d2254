//! Rebuilds when a migration is added: the template database is named after the migrations.

fn main() {
    println!("cargo:rerun-if-changed=../migrations");
}
