//! Builds again when a migration is added: the template database is named after them.

fn main() {
    println!("cargo:rerun-if-changed=../migrations");
}
