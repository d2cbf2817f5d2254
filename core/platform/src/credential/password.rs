//! The rules for new passwords.
//!
//! Security comes from length (NIST SP 800-63B, 3.1.1.2). There are no rules for digits and symbols, but passwords that
//! attackers try first are rejected.

use std::collections::HashSet;
use std::sync::LazyLock;

/// Minimum length.
pub const MIN_PASSWORD_CHARS: usize = 10;
/// Maximum length. It bounds the work of hashing.
pub const MAX_PASSWORD_CHARS: usize = 200;

/// Passwords of at least the minimum length from the top of lists of stolen passwords, in lower case, one on each line.
static COMMON_PASSWORDS: LazyLock<HashSet<&str>> =
    LazyLock::new(|| include_str!("notorious.txt").lines().collect());

/// Checks a password for an account, with its email if known. The message names the rule and never contains the
/// password.
pub fn check_password(password: &str, email: Option<&str>) -> Result<(), String> {
    if !(MIN_PASSWORD_CHARS..=MAX_PASSWORD_CHARS).contains(&password.chars().count()) {
        return Err(format!("must have {MIN_PASSWORD_CHARS} to {MAX_PASSWORD_CHARS} characters"));
    }
    let lower = password.to_lowercase();
    if email.is_some_and(|email| is_of_email(&lower, &email.to_lowercase())) {
        Err("must not be the email address or the part before its @".to_owned())
    } else if is_one_character(&lower) {
        Err("must not consist of one repeated character".to_owned())
    } else if COMMON_PASSWORDS.contains(lower.as_str()) {
        Err("is one of the most common passwords: choose another".to_owned())
    } else {
        Ok(())
    }
}

fn is_of_email(password: &str, email: &str) -> bool {
    password == email || email.split_once('@').is_some_and(|(local, _)| password == local)
}

fn is_one_character(text: &str) -> bool {
    let mut chars = text.chars();
    let first = chars.next();
    chars.all(|char| Some(char) == first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn assert_refused(password: &str, word: &str) {
        let message = check_password(password, Some("Maria.Gonzalez@Shop.test")).unwrap_err();
        assert!(message.contains(word), "{password}: {message}");
    }

    #[test]
    fn a_password_is_long_and_neither_the_email_nor_one_character_nor_notorious() {
        for good in ["correct horse battery", "0123456789 and so on", "ñandúñandú", &"ab".repeat(100)] {
            assert_eq!(check_password(good, Some("maria.gonzalez@shop.test")), Ok(()), "{good}");
        }
        for length in ["", "123456789", "ñandúñand", &"ab".repeat(101)] {
            assert_refused(length, "10 to 200");
        }
        for email in ["maria.gonzalez@shop.test", "MARIA.GONZALEZ"] {
            assert_refused(email, "email");
            assert_eq!(check_password(email, Some("somebody@shop.test")), Ok(()));
            assert_eq!(check_password(email, None), Ok(()));
        }
        for one in ["aaaaaaaaaa", "aAaAaAaAaA", "          "] {
            assert_refused(one, "repeated character");
        }
        for notorious in ["Password123", "1234567890", "qwertyuiop", "CONTRASEÑA"] {
            assert_refused(notorious, "most common");
        }
    }

    #[test]
    fn the_list_has_only_lines_that_could_match() {
        assert!(COMMON_PASSWORDS.len() > 100);
        for line in COMMON_PASSWORDS.iter() {
            assert_eq!(*line, line.trim().to_lowercase());
            assert!(line.chars().count() >= MIN_PASSWORD_CHARS, "{line}");
        }
    }
}
