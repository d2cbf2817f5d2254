//! Faults of JSON text that its parsed value no longer shows: a name given twice in one object, a number that is rounded,
//! U+0000 in a name or a string.
//!
//! One pass over text whose syntax `serde_json` has accepted. It takes time linear in the length of the text, whatever its
//! depth. It does not check syntax: for other text it does not panic, and its answer means nothing.

use std::borrow::Cow;
use std::collections::HashSet;

use crate::error::FieldFault;
use crate::number::is_kept;

/// What is wrong with a number that would be rounded.
pub const ROUNDED: &str = "has more digits than can be kept: send fewer, or a string where one is allowed";
/// What is wrong with a name that its object has already.
const REPEATED: &str = "must be given only once";
/// What is wrong with a text that the database cannot store.
const ZERO: &str = "must not contain U+0000";

/// `serde_json` parses no deeper text. The scan ends there as well: its memory per level is a multiple of the text's.
const MAX_DEPTH: usize = 128;
/// Longer paths are cut, in characters: they are for people to read.
const MAX_PATH_CHARS: usize = 200;

/// The first faults, at most `most`, each named by the path of its field: `metadata.prices.0.amount`.
pub fn faults(text: &str, most: usize) -> Vec<FieldFault> {
    let mut scan = Scan { text, at: 0, open: Vec::new(), faults: Vec::new(), left: most };
    while scan.left > 0 && scan.step() {}
    scan.faults
}

/// What an open bracket stands for.
enum Container<'a> {
    Object {
        names: HashSet<Cow<'a, str>>,
        /// The name of the member that is being read; none before its name.
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
    faults: Vec<FieldFault>,
    /// How many faults may still be found. Repeats of one fault count, so that they do not cost more than others.
    left: usize,
}

impl Scan<'_> {
    /// Reads one token; whether there was one.
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
        let fault = FieldFault::new(self.path(), message);
        if !self.faults.contains(&fault) {
            self.faults.push(fault);
        }
    }

    /// Where the scan is.
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

/// A string as it stands in the text.
struct Quoted<'a> {
    /// With its quotes.
    text: &'a str,
    has_escapes: bool,
    /// Whether it has the escape of U+0000; the character itself may not stand in JSON.
    has_zero: bool,
}

impl<'a> Quoted<'a> {
    /// The string at the start of the text; none if it does not end.
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

/// What a string says. One that cannot be decoded (half of a surrogate pair) stands for itself.
fn unquoted(quoted: &str, has_escapes: bool) -> Cow<'_, str> {
    let raw = &quoted[1..quoted.len() - 1];
    if !has_escapes {
        return raw.into();
    }
    serde_json::from_str::<String>(quoted).map_or(raw.into(), Cow::Owned)
}

#[cfg(test)]
mod tests;
