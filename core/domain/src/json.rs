//! Finds faults of JSON text that its parsed value no longer shows: a repeated name in an object, a number
//! that would be rounded, U+0000 in a name or a string.
//!
//! Makes one pass over text whose syntax `serde_json` has accepted. Takes time linear in the length of the
//! text, at any depth. Does not check syntax: other text causes no panic, but the result is meaningless.

use std::borrow::Cow;
use std::collections::HashSet;

use crate::number::is_kept;
use crate::rejection::FieldError;

/// The message for a number that would be rounded.
pub const ROUNDED: &str =
    "has more digits than can be stored exactly: send fewer, or a string where one is allowed";
/// The message for a repeated name.
const REPEATED: &str = "must be given only once";
/// The message for a string that the database cannot store.
const ZERO: &str = "must not contain U+0000";

/// `serde_json` parses no deeper text. The scan stops there too: its memory per level is a multiple of the
/// text's.
const MAX_DEPTH: usize = 128;
/// Longer paths are truncated, in characters: they are shown to people.
const MAX_PATH_CHARS: usize = 200;

/// The first faults, at most `most`, each with the path of its field: `metadata.prices.0.amount`.
pub fn faults(text: &str, most: usize) -> Vec<FieldError> {
    let mut scan = Scan { text, at: 0, open: Vec::new(), faults: Vec::new(), left: most };
    while scan.left > 0 && scan.step() {}
    scan.faults
}

/// An open bracket.
enum Container<'a> {
    Object {
        names: HashSet<Cow<'a, str>>,
        /// The name of the member being read; `None` before its name.
        member: Option<Cow<'a, str>>,
    },
    Array {
        index: usize,
    },
}

struct Scan<'a> {
    text: &'a str,
    at: usize,
    open: Vec<Container<'a>>,
    faults: Vec<FieldError>,
    /// Number of faults that may still be reported. Repeats of a fault count too, which bounds their cost.
    left: usize,
}

impl Scan<'_> {
    /// Reads a token; returns whether there was one.
    fn step(&mut self) -> bool {
        let Some(byte) = self.text.as_bytes().get(self.at) else { return false };
        if self.open.len() > MAX_DEPTH {
            return false;
        }
        match byte {
            b'"' => return self.string(),
            b'-' | b'0'..=b'9' => return self.number(),
            b'{' => self.open.push(Container::Object { names: HashSet::new(), member: None }),
            b'[' => self.open.push(Container::Array { index: 0 }),
            b'}' | b']' => drop(self.open.pop()),
            b',' => match self.open.last_mut() {
                Some(Container::Object { member, .. }) => *member = None,
                Some(Container::Array { index }) => *index += 1,
                None => {}
            },
            _ => {}
        }
        self.at += 1;
        true
    }

    fn number(&mut self) -> bool {
        let rest = &self.text[self.at..];
        let is_part = |byte: &u8| byte.is_ascii_digit() || b"-+.eE".contains(byte);
        let length = rest.bytes().position(|byte| !is_part(&byte)).unwrap_or(rest.len());
        self.at += length;
        if !is_kept(&rest[..length]) {
            self.fault(ROUNDED);
        }
        true
    }

    fn string(&mut self) -> bool {
        let Some(Quoted { text: quoted, has_escapes, has_zero }) = Quoted::at_start_of(&self.text[self.at..])
        else {
            return false;
        };
        self.at += quoted.len();
        let is_repeated = match self.open.last_mut() {
            Some(Container::Object { names, member: member @ None }) => {
                let name = unquoted(quoted, has_escapes);
                *member = Some(name.clone());
                !names.insert(name)
            }
            _ => false,
        };
        if is_repeated {
            self.fault(REPEATED);
        } else if has_zero {
            self.fault(ZERO);
        }
        true
    }

    fn fault(&mut self, message: &str) {
        self.left -= 1;
        let fault = FieldError::new(self.path(), message);
        if !self.faults.contains(&fault) {
            self.faults.push(fault);
        }
    }

    /// The path of the current position.
    fn path(&self) -> String {
        let mut path = String::new();
        for (depth, container) in self.open.iter().enumerate() {
            let step: Cow<str> = match container {
                Container::Object { member, .. } => member.as_deref().unwrap_or_default().into(),
                Container::Array { index } => index.to_string().into(),
            };
            if depth > 0 {
                path.push('.');
            }
            path.extend(step.chars().take(MAX_PATH_CHARS));
            if let Some((end, _)) = path.char_indices().nth(MAX_PATH_CHARS) {
                path.truncate(end);
                path.push('…');
                break;
            }
        }
        path
    }
}

/// A string in the text.
struct Quoted<'a> {
    /// Including its quotes.
    text: &'a str,
    has_escapes: bool,
    /// Whether it contains the escape of U+0000. JSON does not allow the character itself.
    has_zero: bool,
}

impl<'a> Quoted<'a> {
    /// The string at the start of the text; `None` if it is not closed.
    fn at_start_of(text: &'a str) -> Option<Self> {
        let bytes = text.as_bytes();
        let (mut at, mut has_escapes, mut has_zero) = (1, false, false);
        loop {
            match bytes.get(at)? {
                b'"' => return Some(Self { text: &text[..=at], has_escapes, has_zero }),
                b'\\' => {
                    has_escapes = true;
                    has_zero |= bytes[at + 1..].starts_with(b"u0000");
                    at += 2;
                }
                _ => at += 1,
            }
        }
    }
}

/// The decoded string. A string that cannot be decoded (half of a surrogate pair) is returned as is.
fn unquoted(quoted: &str, has_escapes: bool) -> Cow<'_, str> {
    let raw = &quoted[1..quoted.len() - 1];
    if !has_escapes {
        return raw.into();
    }
    serde_json::from_str::<String>(quoted).map_or(raw.into(), Cow::Owned)
}

#[cfg(test)]
mod tests;
