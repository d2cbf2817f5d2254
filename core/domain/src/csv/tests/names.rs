//! Tests how column names are compared, and that docs/import.md lists them.

use super::super::layout::names::{CODE_NAMES, USER_NAMES, fold, is_code_name, is_user_name};

#[test]
fn names_are_compared_without_case_accents_blanks_and_what_cannot_be_seen() {
    for name in ["code", " CODE ", "Có-de", "c_o d\u{200b}e", "\u{feff}code", "ｃｏｄｅ", "co\u{301}de"]
    {
        assert_eq!(fold(name), "code", "{name:?}");
    }
    assert_eq!(fold("ID de Usuario"), "iddeusuario");
    assert_eq!(fold("Straße"), "straße");
    assert_eq!(fold("#"), "#");
}

#[test]
fn every_listed_name_is_known_once_and_has_one_role() {
    let mut all: Vec<String> = CODE_NAMES.iter().chain(USER_NAMES).map(|name| fold(name)).collect();
    assert!(CODE_NAMES.iter().all(|name| is_code_name(&fold(name)) && !is_user_name(&fold(name))));
    assert!(USER_NAMES.iter().all(|name| is_user_name(&fold(name)) && !is_code_name(&fold(name))));
    all.sort_unstable();
    let twice = all.windows(2).find(|pair| pair[0] == pair[1]);
    assert_eq!(twice, None);
}

#[test]
fn the_page_for_users_prints_every_name() {
    let page = include_str!("../../../../../docs/import.md");
    for name in CODE_NAMES.iter().chain(USER_NAMES) {
        assert!(page.contains(&format!("`{name}`")), "docs/import.md does not print {name:?}");
    }
}
